"""What the models of flash-linear-attention share: blocks of a mixer and a SwiGLU, RMS norms, a head."""

from collections.abc import Callable

import numpy as np

from dualform.checkpoints.layouts.config import COUNT, EPSILON, FLAG, Config, Form, Key, fixed, ignored, optional, read
from dualform.checkpoints.layouts.keys import FUSED, SIZES, form, tied
from dualform.checkpoints.layouts.tensors import Tensors, head, placed
from dualform.mixers import AbstractMixer
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.mlp import GatedMLP
from dualform.models.norm import RMSNorm

LIBRARY, PREFIX = "flash-linear-attention", "model."


def fla_form(name: str, *keys: Key) -> Form:
    """The form of an architecture by its name in the library; keys: its own."""
    return form(
        LIBRARY,
        name.lower(),
        (f"{name}ForCausalLM", f"{name}Model"),
        *SIZES,
        *FUSED,
        tied(False),
        read("intermediate_size", optional(COUNT)),
        read("norm_eps", EPSILON, 1e-6),
        read("elementwise_affine", optional(FLAG), True),
        fixed("attn", None),
        fixed("attnres_block_size", None),
        fixed("hidden_act", "swish"),
        fixed("use_short_conv", False),
        *ignored("of short convolutions, of which there are none", "conv_size", "conv_bias", "share_conv_kernel"),
        *ignored("the tensors tell the width of the MLP", "hidden_ratio"),
        *ignored("a recurrence reads texts of any length", "max_position_embeddings"),
        *keys,
    )


def fla_model(
    tensors: Tensors,
    config: Config,
    mixer: Callable[[Tensors, Config, int], AbstractMixer],
    bounds: bool = False,
) -> LanguageModel:
    """The model of these tensors, with the mixer that `mixer` makes of a layer's.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    inner = tensors.base(PREFIX)
    vocabulary, d = inner.shape("embeddings.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    norm = lambda part, name: RMSNorm(part.take(name, d), config["norm_eps"])
    embedding, blocks = placed(inner.take("embeddings.weight", vocabulary, d)), []
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
        head(tensors, config, embedding),
        bounds=inner.take("lower_bounds", len(blocks), d) if bounds else None,
    )


def into_heads(part: Tensors, name: str, heads: int, rows: int, d: int) -> np.ndarray:
    """A projection's weight, (head, rows, d)."""
    return part.take(f"{name}.weight", heads * rows, d).reshape(heads, rows, d)


def norm_weight(part: Tensors, config: Config, name: str, size: int, like: np.ndarray) -> np.ndarray:
    """A norm's weight, ones where the config says that it has none (false or null)."""
    if config["elementwise_affine"]:
        return part.take(f"{name}.weight", size)
    return np.ones(size, like.dtype)


def check_expansion(config: Config, asked: str, d: int, found: int) -> None:
    """Raise `FileError` where a width is not the config's share of d."""
    if config.says(asked) and config[asked] * d != found:
        raise config.wrong(asked, f"{found / d:g}, as the tensors have")


def _swiglu(part: Tensors, config: Config, d: int) -> GatedMLP:
    n, _ = part.shape("gate_proj.weight", 2)
    config.agrees("intermediate_size", n)
    gate, up = part.take("gate_proj.weight", n, d), part.take("up_proj.weight", n, d)
    return GatedMLP(gate, up, part.take("down_proj.weight", d, n))
