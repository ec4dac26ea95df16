"""Gated linear attention in the layout of flash-linear-attention."""

from collections.abc import Collection

import numpy as np

from dualform.mixers import GLA
from dualform.models.language_model import LanguageModel
from dualform.models.layouts.fla import fla_model, into_heads, norm_weight
from dualform.models.layouts.tensors import Config, Tensors, divided

KIND, MODEL_TYPES = "GLA", ("gla",)


def recognised(names: Collection[str]) -> bool:
    """Whether these are a GLA's tensors."""
    return "model.layers.0.attn.gk_proj.0.weight" in names and "model.layers.0.attn.g_proj.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors; key-value heads that serve several heads are repeated.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    config.must_be("feature_map", None)
    config.must_be("clamp_min", None)
    config.must_be("use_output_gate", True)
    return fla_model(tensors, config, _mixer)


def _mixer(part: Tensors, config: Config, d: int) -> GLA:
    keys, values = part.shape("q_proj.weight", 2)[0], part.shape("g_proj.weight", 2)[0]
    norm = "g_norm_swish_gate" if config.flag("fuse_norm", True) else "g_norm"
    if config.fields or f"{norm}.weight" not in part:
        heads = config.integer("num_heads", 4)
    else:
        heads = divided(part, "the values' width", values, part.shape(f"{norm}.weight", 1)[0])
    kv_heads = config.integer("num_kv_heads", heads)
    serves = divided(part, "a number of heads", heads, kv_heads)
    d_k, d_v = divided(part, "the keys' width", keys, heads), divided(part, "the values' width", values, heads)
    rank, _ = part.shape("gk_proj.0.weight", 2)
    repeated = lambda a: np.repeat(a, serves, axis=0)
    w_v = into_heads(part, "v_proj", kv_heads, d_v, d)
    return GLA(
        into_heads(part, "q_proj", heads, d_k, d),
        repeated(into_heads(part, "k_proj", kv_heads, d_k, d)),
        repeated(w_v),
        part.take("gk_proj.0.weight", rank, d),
        repeated(into_heads(part, "gk_proj.1", kv_heads, d_k, rank)),
        repeated(part.take("gk_proj.1.bias", kv_heads * d_k).reshape(kv_heads, d_k)),
        into_heads(part, "g_proj", heads, d_v, d),
        norm_weight(part, config, norm, d_v, w_v),
        part.take("o_proj.weight", d, values),
        epsilon=config.number("norm_eps", 1e-6),
    )
