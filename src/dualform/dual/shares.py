"""From contributions to scalars: the share of an output that each token brings. No square of a small number is ever taken."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import accumulator, relative_error
from dualform.errors import require


def aggregate(
    contributions: Float[Array, "time source d_out"], y: Float[Array, "time d_out"], heads: int = 1
) -> Float[Array, "head time source"]:
    """The share of the output that each token brings, signed, in float32 or wider.

    The channels are cut into `heads` groups in order; in each, entry [t, s] is (contributions[t, s] . y_t) / (y_t . y_t), and
    0 where y_t is 0.

    **Raises:** `InputError` where `heads` does not divide d_out.
    """
    wide = accumulator(contributions.dtype, y.dtype)
    unit, size = scaled(y.astype(wide), heads)
    c = contributions.astype(wide).reshape(*contributions.shape[:2], heads, -1)
    return jnp.einsum("tshd,thd->hts", c, unit) / size.T[:, :, None]


def scaled(y: Float[Array, "time d_out"], heads: int) -> tuple[Array, Array]:
    """u, (time, head, channel), and m, (time, head), with a . u / m = (a . y) / (y . y) in each group of channels.

    m is the largest entry of y, 1 where y is 0; u is 0 there. Squares are of y / m alone, so that outputs of 1e-25 have shares
    in float32.

    **Raises:** `InputError` where `heads` does not divide d_out.
    """
    time, d_out = y.shape
    require(heads >= 1 and d_out % heads == 0, f"{heads} heads do not divide the output width of {d_out}.")
    parts = y.reshape(time, heads, -1)
    size = jnp.max(jnp.abs(parts), axis=-1)
    size = jnp.where(size == 0, jnp.ones_like(size), size)
    unit = parts / size[:, :, None]
    power = jnp.sum(unit * unit, axis=-1, keepdims=True)
    return jnp.where(power == 0, unit, unit / jnp.where(power == 0, jnp.ones_like(power), power)), size


def share_functionals(y: Float[Array, "time d_out"], heads: int) -> tuple[Array, Array]:
    """What a contribution is multiplied with, (head, time, d_out), and divided by, (head, time), to give its share."""
    unit, size = scaled(y.astype(accumulator(y.dtype)), heads)
    spread = unit[:, :, None] * jnp.eye(heads, dtype=unit.dtype)[None, :, :, None]
    return spread.reshape(len(y), heads, -1).swapaxes(0, 1), size.T


def shares_residual(
    weights: Float[Array, "head time source"], bias: Float[Array, "time d_out"], y: Float[Array, "time d_out"]
) -> Float[Array, ""]:
    """How far rows of shares and the bias's own share are from summing to 1, relatively, over the rows where y is not 0."""
    heads = len(weights)
    of_bias = aggregate(bias[:, None], y, heads)[:, :, 0].astype(weights.dtype)
    whole = jnp.any(y.reshape(len(y), heads, -1) != 0, axis=2).T.astype(weights.dtype)
    return relative_error(weights.sum(2) + of_bias, whole)


def lengths(c: Float[Array, "*places channel"]) -> Float[Array, "*places"]:
    """||c||, Euclidean, over the last axis."""
    size = jnp.max(jnp.abs(c), axis=-1)
    safe = jnp.where(size == 0, jnp.ones_like(size), size)
    return jnp.linalg.norm(c / safe[..., None], axis=-1) * safe
