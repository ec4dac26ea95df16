"""The gated delta rule's map is exact here; read as gated linear attention, which is how it is shown elsewhere, it is not."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.dual import layer_form
from dualform.recurrences.delta_rule import naive
from tests.laws import laws

TIME, WIDTH = 64, 16


def head():
    """Queries, keys of length 1, values, betas and decays of one head, drawn at random."""
    keys = jr.split(jr.key(0), 5)
    q, k, v = (jr.normal(key, (TIME, WIDTH)) for key in keys[:3])
    k = k / jnp.linalg.norm(k, axis=1, keepdims=True)
    return q, k, v, jax.nn.sigmoid(jr.normal(keys[3], (TIME,))), jax.nn.sigmoid(3 + jr.normal(keys[4], (TIME,)))


def test_the_shortcut_and_the_exact_map():
    """M = (Q K^T * L) diag(b) ignores that a token overwrites what the ones before wrote; with the inverse it is exact.

    L is the product of the decays between. The exact map is (Q K^T * L) (I + strictly lower(diag(b) K K^T * L))^-1 diag(b).
    """
    q, k, v, b, a = (np.asarray(part) for part in head())
    y, _ = naive(*head()[:4], jnp.zeros((WIDTH, WIDTH)), head()[4], jnp.ones(TIME, bool))
    logs = np.cumsum(np.log(a))
    decay = np.tril(np.exp(np.tril(logs[:, None] - logs[None])))
    scores = q @ k.T * decay
    error = lambda m: np.linalg.norm(m @ v - y) / np.linalg.norm(y)
    shortcut = error(scores * b[None])
    exact = error(scores @ np.linalg.inv(np.eye(TIME) + np.tril(b[:, None] * (k @ k.T) * decay, -1)) * b[None])
    assert 0.1 < shortcut < 0.5, f"the shortcut is off by {shortcut:.2f}"
    assert exact < laws.EXACT


@pytest.mark.slow
def test_ours():
    """The registered mixer, its norm, gate and convolutions with it: exact, and its closed-form weights with it."""
    mixer, x = laws.make("gated_delta_rule", d=8), laws.sequence(0, TIME, 8)
    form = layer_form(mixer, x, block=TIME)
    assert form.residual <= laws.EXACT
    laws.check_close(form.weights, np.asarray(dual_form(mixer, x).weights), laws.EXACT, "weights")
