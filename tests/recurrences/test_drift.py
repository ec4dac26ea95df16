"""Over 65,536 tokens float32 stays as close to float64 as over a few: no recurrence adds up its own rounding."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.recurrences import (
    cell,
    convolution,
    delta,
    dense,
    diagonal,
    outer,
    selective,
    softmax_scan,
    window,
    wkv,
)
from tests.laws import laws
from tests.tiers import tiers

TIME, D = 65536, 2
SQUARE = np.array([[0.8, 0.59], [-0.59, 0.8]])  # turns, and forgets half of what it holds in 100 tokens


def rotating(angle, drive):
    """A complex decay of length 0.99: its angle is rounded, which is remembered for 100 tokens. The drive is two columns."""
    turn = jax.lax.complex(0.99 * jnp.cos(angle), 0.99 * jnp.sin(angle))
    h, last = diagonal(turn, jax.lax.complex(drive, drive[:, ::-1]))
    return h.real, (last.real, last.imag)


def gated(a, b):
    """A cell whose gate and candidate read the state."""
    transition = jnp.asarray(SQUARE, a.dtype)

    def step(h, inputs):
        a_t, b_t = inputs
        z = jax.nn.sigmoid(a_t + transition @ h)
        h = z * h + (1 - z) * jnp.tanh(b_t + transition @ h)
        return h, h

    return cell(step, (a, b), jnp.zeros(D, a.dtype))[::-1]


def unit(a):
    """Rows of length 1."""
    return a / jnp.linalg.norm(a, axis=-1, keepdims=True)


RUNS = {
    "diagonal": (lambda a, x: diagonal(jax.nn.sigmoid(a), x), 2),
    "diagonal, complex": (lambda a, x: rotating(a[0], x), 2),
    "outer": (outer, 3),
    "outer, decay of rows": (lambda q, k, v, a: outer(q, k, v, decay=jax.nn.sigmoid(a)), 4),
    "outer, one decay": (lambda q, k, v, a: outer(q, k, v, decay=jax.nn.sigmoid(a[:, 0])), 4),
    "delta": (lambda q, k, v, b: delta(q, unit(k), v, jax.nn.sigmoid(b[:, 0])), 4),
    "gated delta": (
        lambda q, k, v, b: delta(q, unit(k), v, jax.nn.sigmoid(b[:, 0]), decay=jax.nn.sigmoid(3 - b[:, 1])),
        4,
    ),
    "dense": (lambda x: dense(jnp.asarray(SQUARE, x.dtype), x), 1),
    "cell": (gated, 2),
    "selective": (
        lambda x, step, b, c: selective(x, jax.nn.softplus(step - 3), jnp.array([[-1, -4], [-2, -8]], x.dtype), b, c),
        4,
    ),
    "softmax": (lambda s, v: softmax_scan(s, v[:, :, None]), 2),
    "window": (lambda x: window(x, 3), 1),
    "wkv": (lambda k, v, w, u: wkv(-jnp.exp(w[0] - 3), u[0], k, v), 4),
    "convolution": (lambda x: convolution(x, jnp.asarray(SQUARE, x.dtype)), 1),
}


# The delta rule without a decay is the one with a decay of 1, and takes as long to compile; one decay is that of equal rows.
@pytest.mark.parametrize("name", tiers(RUNS, *(name for name in RUNS if name not in ("delta", "outer, one decay"))))
def test_long_sequences_do_not_drift(name):
    """After 65,536 tokens outputs and state in float32 are still those of float64."""
    run, count = RUNS[name]
    laws.long_sequences_do_not_drift(run, [jr.normal(jr.key(seed), (TIME, D)) for seed in range(count)])
