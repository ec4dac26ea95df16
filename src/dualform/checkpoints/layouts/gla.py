"""Gated linear attention in the layout of flash-linear-attention."""

from collections.abc import Collection

import numpy as np

from dualform.checkpoints.layouts.config import COUNT, FLAG, POSITIVE, Config, fixed, optional, read
from dualform.checkpoints.layouts.fla import check_expansion, fla_form, fla_model, into_heads, norm_weight
from dualform.checkpoints.layouts.tensors import Tensors, divided
from dualform.mixers import GLA
from dualform.models.language_model import LanguageModel

KIND = "GLA"
FORMS = (
    fla_form(
        KIND,
        read("num_heads", COUNT, 4),
        read("num_kv_heads", optional(COUNT)),
        read("fuse_norm", FLAG, True),  # which names the norm's weight
        read("expand_k", POSITIVE),
        read("expand_v", POSITIVE),
        fixed("feature_map", None),
        fixed("clamp_min", None),
        fixed("use_output_gate", True),
        fixed("use_gk", True),
        fixed("use_gv", False),
    ),
)


def recognised(names: Collection[str]) -> bool:
    """Whether these are a GLA's tensors, their prefix left out."""
    return "layers.0.attn.gk_proj.0.weight" in names and "layers.0.attn.g_proj.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors; key-value heads that serve several heads are repeated.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    return fla_model(tensors, config, _mixer)


def _mixer(part: Tensors, config: Config, d: int) -> GLA:
    keys, values = part.shape("q_proj.weight", 2)[0], part.shape("g_proj.weight", 2)[0]
    check_expansion(config, "expand_k", d, keys)
    check_expansion(config, "expand_v", d, values)
    norm = "g_norm_swish_gate" if config["fuse_norm"] else "g_norm"
    heads = config["num_heads"]
    kv_heads = config["num_kv_heads"] or heads
    serves = divided(part, "a number of heads", heads, kv_heads)
    d_k, d_v = divided(part, "the keys' width", keys, heads), divided(part, "the values' width", values, heads)
    rank, _ = part.shape("gk_proj.0.weight", 2)
    repeated = lambda a: np.repeat(a, serves, axis=0)
    w_v = into_heads(part, "v_proj", kv_heads, d_v, d)
    return GLA(
        w_q=into_heads(part, "q_proj", heads, d_k, d),
        w_k=repeated(into_heads(part, "k_proj", kv_heads, d_k, d)),
        w_v=repeated(w_v),
        a_1=part.take("gk_proj.0.weight", rank, d),
        a_2=repeated(into_heads(part, "gk_proj.1", kv_heads, d_k, rank)),
        b=repeated(part.take("gk_proj.1.bias", kv_heads * d_k).reshape(kv_heads, d_k)),
        w_g=into_heads(part, "g_proj", heads, d_v, d),
        norm=norm_weight(part, config, norm, d_v, w_v),
        w_o=part.take("o_proj.weight", d, values),
        epsilon=config["norm_eps"],
    )
