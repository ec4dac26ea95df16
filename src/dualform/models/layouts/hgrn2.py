"""HGRN2 in the layout of flash-linear-attention."""

from collections.abc import Collection

import numpy as np

from dualform.mixers import HGRN2
from dualform.models.language_model import LanguageModel
from dualform.models.layouts.fla import fla_model, into_heads, norm_weight
from dualform.models.layouts.tensors import Config, Tensors, divided

KIND, MODEL_TYPES = "HGRN2", ("hgrn2",)
EPSILON = 1e-5
"""Of the norm over all heads: the code hands its own default on there, whatever the config says."""


def recognised(names: Collection[str]) -> bool:
    """Whether these are an HGRN2's tensors: HGRN has the same names, and a gate."""
    attention = "model.layers.0.attn."
    return (
        attention + "f_proj.weight" in names
        and attention + "i_proj.weight" in names
        and attention + "q_proj.weight" in names
    )


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    The code scales q by 1 / sqrt(d_k), and so what the norm reads; without that scale, its epsilon is d_k times as large.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    return fla_model(tensors, config, _mixer, bounds=config.flag("use_lower_bound", True))


def _mixer(part: Tensors, config: Config, d: int) -> HGRN2:
    if config.fields.get("expand_ratio", 128) is None:
        heads = config.needed("num_heads", KIND)
    else:  # a config that does not say it has the default
        ratio = config.integer("expand_ratio", 128) if config.fields else config.needed("expand_ratio", KIND)
        heads = divided(part, "a width", d, ratio)
    width = divided(part, "a width", d, heads)
    w_v = into_heads(part, "i_proj", heads, width, d)
    return HGRN2(
        into_heads(part, "q_proj", heads, width, d),
        into_heads(part, "f_proj", heads, width, d),
        w_v,
        np.zeros((heads, width), w_v.dtype),  # the model's bounds take its place
        norm_weight(part, config, "g_norm", d, w_v).reshape(heads, width),
        part.take("o_proj.weight", d, d),
        epsilon=width * EPSILON,
    )
