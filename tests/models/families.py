"""Small models for tests: some mixers of every kind of state, with and without flags in it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dualform.mixers import registry
from dualform.models import Block, LanguageModel, RMSNorm, SequenceModel

D, VOCABULARY, TIME = 4, 7, 6
FAMILIES = ("linear_attention", "griffin_recurrent")
"""A matrix for each head; and a convolution's tail, a vector and a flag."""


def shaken(module, seed: int = 9):
    """The module with every real entry moved a little, so that no bias is 0 and no scale is 1."""
    random = np.random.default_rng(seed)  # NumPy's, which compiles nothing for each shape
    move = lambda leaf: jnp.asarray(np.asarray(leaf) + 0.1 * random.uniform(size=leaf.shape), leaf.dtype)
    return jax.tree_util.tree_map(lambda leaf: move(leaf) if eqx.is_inexact_array(leaf) else leaf, module)


def block(name: str, seed: int = 0, dtype=None, **options) -> Any:
    """One block around the registered mixer of that name, with a gated MLP unless told otherwise."""
    keys = jr.split(jr.key(seed))
    options = {"mlp": "swiglu", "hidden": 5} | options
    return Block.make(registry()[name](D, key=keys[0], dtype=dtype), key=keys[1], dtype=dtype, **options)


def language_model(*names: str, dtype=None, **options) -> Any:
    """One block for each name."""
    blocks = tuple(block(name, seed=i, dtype=dtype) for i, name in enumerate(names))
    norm = RMSNorm.make(D, dtype=dtype)
    return shaken(LanguageModel.make(blocks, VOCABULARY, key=jr.key(5), norm=norm, dtype=dtype, **options))


def sequence_model(*names: str, pool: str = "none", dtype=None) -> Any:
    """Three columns in, two out."""
    blocks = tuple(block(name, seed=i, dtype=dtype) for i, name in enumerate(names))
    norm = RMSNorm.make(D, dtype=dtype)
    return shaken(SequenceModel.make(blocks, 3, 2, key=jr.key(6), norm=norm, pool=pool, dtype=dtype))


def tokens(seed: int, time: int = TIME) -> jax.Array:
    """Tokens of the vocabulary."""
    return jr.randint(jr.key(seed), (time,), 0, VOCABULARY)
