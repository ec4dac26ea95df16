"""Mamba-2 in the layout of transformers."""

from collections.abc import Collection

import numpy as np

from dualform.mixers import Mamba2
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.layouts.mamba import convolution_bias
from dualform.models.layouts.tensors import Config, Tensors, divided, head
from dualform.models.norm import RMSNorm

KIND, MODEL_TYPES = "Mamba-2", ("mamba2",)
NO_LIMIT = (None, [0.0, float("inf")], [0.0, {"__float__": "Infinity"}])
"""How a config says that steps have no limit; the last is how transformers writes infinity."""


def recognised(names: Collection[str]) -> bool:
    """Whether these are a Mamba-2's tensors."""
    return "backbone.layers.0.mixer.dt_bias" in names and "backbone.layers.0.mixer.in_proj.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    config.must_be("hidden_act", "silu")
    config.must_be("use_bias", False)
    config.must_be("time_step_limit", *NO_LIMIT)
    backbone = tensors.under("backbone.")
    vocabulary, d = backbone.shape("embeddings.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    epsilon = config.number("layer_norm_epsilon", 1e-5)
    norm = lambda part, name: RMSNorm(part.take(name, d), epsilon)
    embedding, blocks = backbone.take("embeddings.weight", vocabulary, d), []
    for i in range(backbone.count("layers.", config, "num_hidden_layers")):
        layer = backbone.under(f"layers.{i}.")
        blocks.append(Block(norm(layer, "norm.weight"), _mixer(layer.under("mixer."), config, d, epsilon)))
    return LanguageModel(
        embedding, tuple(blocks), norm(backbone, "norm_f.weight"), head(tensors, config, embedding, False)
    )


def _mixer(part: Tensors, config: Config, d: int, epsilon: float) -> Mamba2:
    """z, v, B, C and delta share a matrix."""
    (heads,), (inner,) = part.shape("A_log", 1), part.shape("norm.weight", 1)
    channels, _, width = part.shape("conv1d.weight", 3)
    # Groups and states cannot be told apart by shapes. Without a config there is one group, as in the authors' models.
    groups = config.integer("n_groups", 8) if config.fields else 1
    config.agrees("num_heads", heads)
    config.agrees("conv_kernel", width)
    divided(part, "an inner width", inner, heads)
    n = divided(part, "convolved channels of B and C", channels - inner, 2 * groups)
    config.agrees("state_size", n)
    cuts = np.cumsum([inner, inner, groups * n, groups * n])
    w_z, w_v, w_b, w_c, w_delta = np.split(part.take("in_proj.weight", inner + channels + heads, d), cuts)
    into = lambda w, count: w.reshape(count, -1, d)
    kernel = part.take("conv1d.weight", channels, 1, width)[:, 0].T
    return Mamba2(
        into(w_v, heads),
        into(w_z, heads),
        into(w_b, groups),
        into(w_c, groups),
        w_delta,
        part.take("dt_bias", heads),
        part.take("A_log", heads),
        part.take("D", heads),
        kernel,
        convolution_bias(part, config, channels, kernel),
        part.take("norm.weight", inner),
        part.take("out_proj.weight", d, inner),
        epsilon,
    )
