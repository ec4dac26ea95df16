"""Attentions that constructions must write exactly: every size, rank and number of heads that a test needs."""

import jax
import jax.numpy as jnp
import jax.random as jr

from dualform.mixers import LinearAttention


def of_rank(key: jax.Array, rank: int, *shape: int) -> jax.Array:
    """A random matrix (or stack of them) of the given rank."""
    left, right = jr.split(key)
    *heads, rows, columns = shape
    return jr.normal(left, (*heads, rows, rank)) @ jr.normal(right, (*heads, rank, columns))


def gaussian(
    key: jax.Array, d: int, d_v: int | None = None, d_k: int | None = None, heads: int = 1, d_out: int | None = None
) -> LinearAttention:
    """Gaussian weights; `w_o` only where d_out is given."""
    keys = jr.split(key, 4)
    d_v, d_k = d_v or d, d_k or d
    return LinearAttention(
        jr.normal(keys[0], (heads, d_v, d)),
        jr.normal(keys[1], (heads, d_k, d)),
        jr.normal(keys[2], (heads, d_k, d)),
        None if d_out is None else jr.normal(keys[3], (d_out, heads * d_v)),
    )


def same_outputs(found, expected, x: jax.Array) -> float:
    """||found(x) - expected(x)|| / ||expected(x)|| over one sequence."""
    y, target = found(x)[0], expected(x)[0]
    return float(jnp.linalg.norm(y - target) / jnp.linalg.norm(target))
