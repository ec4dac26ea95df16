"""Norms over the last axis, in float32 or wider: what mixers and models share."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import accumulator

LARGE = 1e10
"""Entries above it are divided by the largest of them before they are squared: float32 holds no square from 1e19 on, and no
cube of 1 / x, which the gradient needs, from 1e12 on."""


def rms_factor(x: Float[Array, "*shape d"], epsilon: float = 1e-6) -> Float[Array, "*shape 1"]:
    """1 / sqrt(mean(x^2) + epsilon): times x, it is x of root mean square 1; what a dual form freezes of a norm."""
    x = x.astype(accumulator(x.dtype))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    scale = jnp.where(largest > LARGE, 1 / jnp.maximum(largest, LARGE), jnp.ones_like(largest))
    x = x * scale
    return scale * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon * scale * scale)


def rms_norm(
    x: Float[Array, "*shape d"], weight: Float[Array, " d"], epsilon: float = 1e-6
) -> Float[Array, "*shape d"]:
    """x / sqrt(mean(x^2) + epsilon) * weight.

    **Source:** Zhang & Sennrich 2019 (arXiv 1910.07467).
    """
    wide = accumulator(x.dtype, weight.dtype)
    x = x.astype(wide)
    return x * rms_factor(x, epsilon) * _row(weight.astype(wide), x.ndim)


def layer_norm(
    x: Float[Array, "*shape d"], weight: Float[Array, " d"], bias: Float[Array, " d"], epsilon: float = 1e-5
) -> Float[Array, "*shape d"]:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias.

    **Source:** Ba, Kiros & Hinton 2016 (arXiv 1607.06450).
    """
    wide = accumulator(x.dtype, weight.dtype, bias.dtype)
    x = x.astype(wide)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scaled = centred * rms_factor(centred, epsilon)
    return scaled * _row(weight.astype(wide), x.ndim) + _row(bias.astype(wide), x.ndim)


def _row(vector: Float[Array, " d"], ndim: int) -> Float[Array, "..."]:
    """A vector as the last axis of an array of `ndim` axes."""
    return vector.reshape(*[1] * (ndim - 1), -1)
