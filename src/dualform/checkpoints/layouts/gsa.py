"""Gated slot attention in the layout of flash-linear-attention."""

from collections.abc import Collection

import numpy as np

from dualform.checkpoints.layouts.config import COUNT, POSITIVE, Config, fixed, ignored, optional, read
from dualform.checkpoints.layouts.fla import check_expansion, fla_form, fla_model, into_heads, norm_weight
from dualform.checkpoints.layouts.hgrn2 import EPSILON
from dualform.checkpoints.layouts.tensors import Tensors, divided
from dualform.mixers import GSA
from dualform.models.language_model import LanguageModel

KIND = "GSA"
FORMS = (
    fla_form(
        KIND,
        *ignored("how fla computes: the same numbers", "fuse_norm"),
        read("num_heads", COUNT, 4),
        read("num_kv_heads", optional(COUNT)),
        read("num_slots", optional(COUNT), 64),
        read("gate_logit_normalizer", POSITIVE, 8.0),
        read("expand_k", POSITIVE, also=("exapnd_k",)),  # the library's own word
        read("expand_v", POSITIVE, also=("exapnd_v",)),
        fixed("feature_map", "swish"),
        fixed("clamp_min", None),
        fixed("clamp_max", None),
        fixed("use_output_gate", False),
        fixed("use_norm", True),
    ),
)


def recognised(names: Collection[str]) -> bool:
    """Whether these are a GSA's tensors, their prefix left out."""
    attention = "layers.0.attn."
    return (
        attention + "f_proj.weight" in names
        and attention + "k_proj.weight" in names
        and attention + "g_norm.weight" in names
    )


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors; key-value heads that serve several heads are repeated.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    return fla_model(tensors, config, _mixer)


def _mixer(part: Tensors, config: Config, d: int) -> GSA:
    keys, values = part.shape("q_proj.weight", 2)[0], part.shape("o_proj.weight", 2)[1]
    check_expansion(config, "expand_k", d, keys)
    check_expansion(config, "expand_v", d, values)
    heads = config["num_heads"]
    kv_heads = config["num_kv_heads"] or heads
    serves = divided(part, "a number of heads", heads, kv_heads)
    d_k, d_v = divided(part, "the keys' width", keys, heads), divided(part, "the values' width", values, heads)
    slots = divided(part, "rows of f_proj", part.shape("f_proj.weight", 2)[0], kv_heads)
    config.agrees("num_slots", slots)
    repeated = lambda name, rows: np.repeat(into_heads(part, name, kv_heads, rows, d), serves, axis=0)
    w_v = repeated("v_proj", d_v)
    return GSA(
        w_q=into_heads(part, "q_proj", heads, d_k, d),
        w_k=repeated("k_proj", d_k),
        w_v=w_v,
        w_f=repeated("f_proj", slots),
        norm=norm_weight(part, config, "g_norm", values, w_v).reshape(heads, d_v),
        w_o=part.take("o_proj.weight", d, values),
        normaliser=config["gate_logit_normalizer"],
        epsilon=EPSILON,
    )
