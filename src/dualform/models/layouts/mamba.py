"""Mamba in the layout of transformers: state-spaces' checkpoints with -hf behind their names, and kin."""

from collections.abc import Collection

import numpy as np

from dualform.mixers import Mamba
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.layouts.tensors import Config, Tensors, head
from dualform.models.norm import RMSNorm

KIND, MODEL_TYPES = "Mamba", ("mamba",)


def recognised(names: Collection[str]) -> bool:
    """Whether these are a Mamba's tensors."""
    return "backbone.layers.0.mixer.x_proj.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    config.must_be("hidden_act", "silu")
    config.must_be("use_bias", False)
    backbone = tensors.under("backbone.")
    name = (
        "embedding.weight" if "embedding.weight" in backbone else "embeddings.weight"
    )  # the authors' own, and transformers'
    vocabulary, d = backbone.shape(name, 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    epsilon = config.number("layer_norm_epsilon", 1e-5)
    norm = lambda part, name: RMSNorm(part.take(name, d), epsilon)
    embedding, blocks = backbone.take(name, vocabulary, d), []
    for i in range(backbone.count("layers.", config, "num_hidden_layers")):
        layer = backbone.under(f"layers.{i}.")
        blocks.append(Block(norm(layer, "norm.weight"), _mixer(layer.under("mixer."), config, d)))
    return LanguageModel(
        embedding, tuple(blocks), norm(backbone, "norm_f.weight"), head(tensors, config, embedding, True)
    )


def _mixer(part: Tensors, config: Config, d: int) -> Mamba:
    """v and z share a matrix, and so do rank, B and C."""
    channels, n = part.shape("A_log", 2)
    rank, (_, _, width) = part.shape("dt_proj.weight", 2)[1], part.shape("conv1d.weight", 3)
    config.agrees("state_size", n)
    config.agrees("conv_kernel", width)
    w_u, w_z = np.split(part.take("in_proj.weight", 2 * channels, d), 2)
    w_1, w_b, w_c = np.split(part.take("x_proj.weight", rank + 2 * n, channels), (rank, rank + n))
    kernel = part.take("conv1d.weight", channels, 1, width)[:, 0].T
    return Mamba(
        w_u,
        w_z,
        kernel,
        convolution_bias(part, config, channels, kernel),
        w_b,
        w_c,
        w_1,
        part.take("dt_proj.weight", channels, rank),
        part.take("dt_proj.bias", channels),
        part.take("A_log", channels, n),
        part.take("D", channels),
        part.take("out_proj.weight", d, channels),
    )


def convolution_bias(part: Tensors, config: Config, channels: int, kernel: np.ndarray) -> np.ndarray:
    """conv1d.bias, zeros where the config says that there is none."""
    if config.flag("use_conv_bias", True):
        return part.take("conv1d.bias", channels)
    return np.zeros(channels, kernel.dtype)
