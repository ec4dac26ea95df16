"""Language models of minimal GRUs and LSTMs."""

import equinox as eqx
import jax.random as jr
from jaxtyping import Array

from dualform.errors import require
from dualform.mixers import AbstractMixer, MinGRU, MinLSTM
from dualform.mixers.fresh import uniform_affine
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import RMSNorm

TORCH_EPSILON = 2.0**-23
"""What PyTorch's RMS norm adds to the mean square where nothing else is said."""


def min_rnn(
    *,
    key: Array,
    vocabulary: int = 256,
    d: int = 512,
    layers: int = 6,
    cell: str = "gru",
    expansion: float = 1.5,
    hidden: int | None = None,
    dtype=None,
) -> LanguageModel:
    """minGRU or minLSTM (positive candidates, no biases) and an MLP with GELU, with PyTorch's fresh weights throughout.

    **Arguments:** cell: "gru" or "lstm"; expansion: of the cell's units.

    **Source:** Feng et al. 2024 (arXiv 2410.01201), in the form and sizes of minGRU-pytorch's model for enwik8.
    """
    require(cell in ("gru", "lstm"), f"there is no minimal {cell!r}; there are gru and lstm.")
    keys, units, n, real = jr.split(key, 2 * layers + 2), int(expansion * d), hidden or 4 * d, dtype or float

    def mixer(key: Array) -> AbstractMixer:
        gates = [uniform_affine(k, units, d, dtype)[0] for k in jr.split(key, 4)[: 2 if cell == "gru" else 3]]
        w_o = None if units == d else uniform_affine(jr.split(key, 4)[3], d, units, dtype)[0]
        if cell == "gru":
            return MinGRU(w_z=gates[0], w_h=gates[1], w_o=w_o, candidate="positive")
        return MinLSTM(w_f=gates[0], w_i=gates[1], w_h=gates[2], w_o=w_o, candidate="positive")

    def block(k_mixer: Array, k_mlp: Array) -> Block:
        made = Block.make(mixer(k_mixer), key=k_mlp, mlp="gelu", hidden=n, epsilon=TORCH_EPSILON, dtype=dtype)
        up, down = (uniform_affine(k, *size, dtype) for k, size in zip(jr.split(k_mlp), ((n, d), (d, n)), strict=True))
        parts = lambda b: (b.mlp.w_up, b.mlp.b_up, b.mlp.w_down, b.mlp.b_down)
        return eqx.tree_at(parts, made, (*up, *down))

    blocks = tuple(block(*pair) for pair in zip(keys[2::2], keys[3::2], strict=True))
    norm = RMSNorm.make(d, epsilon=TORCH_EPSILON, dtype=dtype)
    embedding, head = jr.normal(keys[0], (vocabulary, d), real), uniform_affine(keys[1], vocabulary, d, dtype)[0]
    return LanguageModel(embedding, blocks, norm, head)
