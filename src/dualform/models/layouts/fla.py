"""What the models of flash-linear-attention share: blocks of a mixer and a SwiGLU, RMS norms, a head."""

from collections.abc import Callable

import numpy as np

from dualform.mixers import AbstractMixer
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.layouts.tensors import Config, Tensors, head
from dualform.models.mlp import GatedMLP
from dualform.models.norm import RMSNorm


def fla_model(
    tensors: Tensors,
    config: Config,
    mixer: Callable[[Tensors, Config, int], AbstractMixer],
    bounds: bool = False,
) -> LanguageModel:
    """The model of these tensors, with the mixer that `mixer` makes of a layer's.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    for name in ("attn", "attnres_block_size"):
        config.must_be(name, None)
    config.must_be("hidden_act", "swish")
    config.must_be("use_short_conv", False)
    inner = tensors.under("model.")
    vocabulary, d = inner.shape("embeddings.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    epsilon = config.number("norm_eps", 1e-6)
    norm = lambda part, name: RMSNorm(part.take(name, d), epsilon)
    embedding, blocks = inner.take("embeddings.weight", vocabulary, d), []
    for i in range(inner.count("layers.", config, "num_hidden_layers")):
        layer = inner.under(f"layers.{i}.")
        norms = norm(layer, "attn_norm.weight"), norm(layer, "mlp_norm.weight")
        blocks.append(
            Block(norms[0], mixer(layer.under("attn."), config, d), norms[1], _swiglu(layer.under("mlp."), config, d))
        )
    return LanguageModel(
        embedding,
        tuple(blocks),
        norm(inner, "norm.weight"),
        head(tensors, config, embedding, False),
        bounds=inner.take("lower_bounds", len(blocks), d) if bounds else None,
    )


def into_heads(part: Tensors, name: str, heads: int, rows: int, d: int) -> np.ndarray:
    """A projection's weight, (head, rows, d)."""
    return part.take(f"{name}.weight", heads * rows, d).reshape(heads, rows, d)


def norm_weight(part: Tensors, config: Config, name: str, size: int, like: np.ndarray) -> np.ndarray:
    """A norm's weight, ones where the config says that it has none."""
    if config.flag("elementwise_affine", True):
        return part.take(f"{name}.weight", size)
    return np.ones(size, like.dtype)


def _swiglu(part: Tensors, config: Config, d: int) -> GatedMLP:
    n, _ = part.shape("gate_proj.weight", 2)
    config.agrees("intermediate_size", n)
    gate, up = part.take("gate_proj.weight", n, d), part.take("up_proj.weight", n, d)
    return GatedMLP(gate, up, part.take("down_proj.weight", d, n))
