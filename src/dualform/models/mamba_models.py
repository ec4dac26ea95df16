"""Language models of Mamba and Mamba-2: blocks without an MLP."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.random as jr
from jaxtyping import Array

from dualform.mixers import Mamba, Mamba2
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import RMSNorm


def mamba(
    *,
    key: Array,
    vocabulary: int = 50_280,
    d: int = 768,
    layers: int = 24,
    expansion: int = 2,
    n: int = 16,
    width: int = 4,
    rank: int | None = None,
    dtype=None,
) -> LanguageModel:
    """Mamba blocks with RMS norms and a tied head.

    **Source:** Gu & Dao 2023 (arXiv 2312.00752), with the sizes of state-spaces/mamba-130m. As in its code, the embedding
    starts at N(0, 0.02^2) and the last matrix of each of L blocks is divided by sqrt(L); the paper does not say.
    """
    make = lambda key: Mamba.make(d, key=key, expansion=expansion, n=n, width=width, rank=rank, dtype=dtype)
    return _without_mlp(make, vocabulary, layers, key, dtype)


def mamba2(
    *,
    key: Array,
    vocabulary: int = 50_288,
    d: int = 768,
    layers: int = 24,
    expansion: int = 2,
    heads: int = 24,
    n: int = 128,
    width: int = 4,
    dtype=None,
) -> LanguageModel:
    """Mamba-2 blocks with RMS norms and a tied head, heads of 64 and one group.

    **Source:** Dao & Gu 2024 (arXiv 2405.21060), with the sizes of state-spaces/mamba2-130m; fresh weights as of `mamba`.
    """
    make = lambda key: Mamba2.make(d, key=key, expansion=expansion, heads=heads, n=n, width=width, dtype=dtype)
    return _without_mlp(make, vocabulary, layers, key, dtype)


def _without_mlp(make: Callable[[Array], Any], vocabulary: int, layers: int, key: Array, dtype: Any) -> LanguageModel:
    """Blocks of a mixer alone, whose last matrix is w_o."""
    keys = jr.split(key, layers + 2)
    shrunk = lambda key: eqx.tree_at(lambda m: m.w_o, make(key), replace_fn=lambda w: w * layers**-0.5)
    blocks = tuple(Block.make(shrunk(k), key=k, epsilon=1e-5, dtype=dtype) for k in keys[2:])
    d = blocks[0].d_in
    embedding = 0.02 * jr.normal(keys[0], (vocabulary, d), dtype or float)
    return LanguageModel(embedding, blocks, RMSNorm.make(d, epsilon=1e-5, dtype=dtype))
