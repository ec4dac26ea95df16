"""The shape legend, and the dtype rule that every mixer keeps.

Shapes are written in jaxtyping's notation. The names, everywhere in dualform:

    time      tokens of one sequence, in order
    source    tokens again, as the ones that are read from (the columns of an attention map)
    d         width of a token;  d_in, d_out where they differ;  d_v, d_k of a value, of a key or query
    head      attention heads
    n         hidden (recurrent) units;  m  pre-readout units

Modules see one sequence; a batch is `jax.vmap`.
"""

import functools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, PyTree

Activations: TypeAlias = Float[Array, "time d"]
"""A sequence of token vectors."""

TimeMask: TypeAlias = Bool[Array, " time"]
"""One flag for each token."""

State: TypeAlias = PyTree[Array]
"""What a mixer remembers between calls."""


def accumulator(*dtypes: Any) -> jnp.dtype:
    """The dtype in which gates, states and sums are kept: the widest of `dtypes`, and float32 at the least."""
    return promote(jnp.float32, *dtypes)


def promote(*dtypes: Any) -> jnp.dtype:
    """The dtype that holds all of `dtypes`, also where the user asks JAX for strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, dtypes[1:], jnp.dtype(dtypes[0]))


def project(x: Inexact[Array, "*time d_in"], w: Inexact[Array, "d_out d_in"]) -> Inexact[Array, "*time d_out"]:
    """`x @ w.T` with the sum kept in float32 or wider, whatever the operands' dtypes.

    **Returns:** an array of dtype `accumulator(x.dtype, w.dtype)`.
    """
    common = promote(x.dtype, w.dtype)
    return jax.lax.dot_general(
        x.astype(common),
        w.astype(common),
        (((x.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=accumulator(common),
    )


def affine(
    x: Float[Array, "time d_in"], w: Float[Array, "d_out d_in"], b: Float[Array, " d_out"] | None
) -> Float[Array, "time d_out"]:
    """w x_t + b for each token, in float32 or wider; without b where it is None."""
    y = project(x, w)
    if b is None:
        return y
    wide = accumulator(y.dtype, b.dtype)
    return y.astype(wide) + b.astype(wide)[None]


def append_one(x: Float[Array, "*time d"]) -> Float[Array, "*time d+1"]:
    """(x, 1): what lets a gated unit see a constant, and so pass a linear function of x."""
    return jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)


def count_parameters(module: PyTree) -> int:
    """How many numbers a module learns: those of its real arrays, no constants."""
    return sum(leaf.size for leaf in jax.tree_util.tree_leaves(module) if jnp.issubdtype(leaf.dtype, jnp.floating))


def relative_error(found: Inexact[Array, "*shape"], expected: Inexact[Array, "*shape"]) -> Float[Array, ""]:
    """||found - expected|| / ||expected||, Euclidean, over all entries; the plain norm where `expected` is 0."""
    # Divided by the largest entry first, or squares of small numbers would be 0 and the error with them.
    largest = jnp.max(jnp.abs(expected), initial=0)
    scale = jnp.where(largest == 0, jnp.ones_like(largest), largest)
    power = jnp.linalg.norm((expected / scale).ravel())
    return jnp.linalg.norm(((found - expected) / scale).ravel()) / jnp.where(power == 0, jnp.ones_like(power), power)
