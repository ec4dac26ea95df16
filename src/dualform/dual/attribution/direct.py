"""Methods that look at the model's own function of its inputs: the exact sum, gradients and occlusion."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.dual.attribution.target import Question
from dualform.dual.frozen import freeze
from dualform.dual.model_forms import chain

STEPS = 32
"""Points on the way of integrated gradients: the error of the sum falls with their square."""


def exact(q: Question) -> tuple[Float[np.ndarray, " source"], float, float]:
    """What each token brings to the target in the frozen model, what no token brought, and the residual of their sum.

    The residual is against the target in what the model's own call gives.
    """
    brought, bias, value = (np.asarray(part) for part in _exact(q))
    size = float(np.abs(brought).sum()) + abs(float(bias))
    return brought, float(bias), abs(float(brought.sum()) + float(bias) - float(value)) / (size or 1.0)


def gradient(q: Question) -> Float[np.ndarray, " source"]:
    """gradient . x, token by token: the model's first-order change, its gates moving too."""
    return np.asarray(_gradient(q))


def integrated_gradients(q: Question) -> Float[np.ndarray, " source"]:
    """The mean gradient on the straight way from an input of zeros, times x (32 midpoints).

    **Source:** Sundararajan, Taly & Yan 2017 (arXiv 1703.01365), Eq. 3.
    """
    return np.asarray(_integrated(q))


def occlusion(q: Question) -> Float[np.ndarray, " source"]:
    """How much the target falls where one token is replaced by zeros: a pass of the model for each token."""
    return np.asarray(_occlusion(q))


@eqx.filter_jit
def _exact(q: Question) -> tuple[Array, Array, Array]:
    _, map, x = chain(q.model, q.given, q.state, q.start, q.mask)
    own = freeze(q.model, q.given, q.state, start=q.start, mask=q.mask)
    direction = q.direction.astype(x.dtype)
    bias = map(jnp.zeros_like(x))[q.t].astype(x.dtype) @ direction
    return map.rows(x, q.t[None], direction[None])[0], bias, own.y[q.t].astype(x.dtype) @ direction


@eqx.filter_jit
def _gradient(q: Question) -> Array:
    return jnp.sum(jax.grad(q.score)(q.x) * q.x, axis=1)


@eqx.filter_jit
def _integrated(q: Question) -> Array:
    shares = (jnp.arange(STEPS, dtype=q.x.dtype) + 0.5) / STEPS
    gradients = jax.lax.map(lambda share: jax.grad(q.score)(share * q.x), shares)
    return jnp.sum(gradients.mean(0) * q.x, axis=1)


@eqx.filter_jit
def _occlusion(q: Question) -> Array:
    without = lambda s: q.score(q.x.at[s].set(jnp.zeros_like(q.x[0])))
    return q.score(q.x) - jax.lax.map(without, jnp.arange(len(q.x)), batch_size=min(32, len(q.x)))
