"""HGRN2 in the layout of flash-linear-attention."""

from collections.abc import Collection

import numpy as np

from dualform.checkpoints.layouts.config import COUNT, FLAG, Config, ignored, optional, read
from dualform.checkpoints.layouts.fla import fla_form, fla_model, into_heads, norm_weight
from dualform.checkpoints.layouts.tensors import Tensors, divided
from dualform.mixers import HGRN2
from dualform.models.language_model import LanguageModel

KIND = "HGRN2"
FORMS = (
    fla_form(
        KIND,
        *ignored("how fla computes: the same numbers", "fuse_norm"),
        read("expand_ratio", optional(COUNT), 128),
        read("num_heads", optional(COUNT)),
        read("use_lower_bound", FLAG, True),
    ),
)
EPSILON = 1e-5
"""Of the norm over all heads: the code hands its own default on there, whatever the config says."""


def recognised(names: Collection[str]) -> bool:
    """Whether these are an HGRN2's tensors, their prefix left out: HGRN has the same names, and a gate."""
    attention = "layers.0.attn."
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
    return fla_model(tensors, config, _mixer, bounds=config["use_lower_bound"])


def _mixer(part: Tensors, config: Config, d: int) -> HGRN2:
    ratio = config["expand_ratio"]
    heads = config.needed("num_heads") if ratio is None else divided(part, "a width", d, ratio)
    config.agrees("num_heads", heads)
    width = divided(part, "a width", d, heads)
    w_v = into_heads(part, "i_proj", heads, width, d)
    return HGRN2(
        w_q=into_heads(part, "q_proj", heads, width, d),
        w_f=into_heads(part, "f_proj", heads, width, d),
        w_v=w_v,
        gamma=np.zeros((heads, width), w_v.dtype),  # the model's bounds take its place
        norm=norm_weight(part, config, "g_norm", d, w_v).reshape(heads, width),
        w_o=part.take("o_proj.weight", d, d),
        epsilon=width * EPSILON,
    )
