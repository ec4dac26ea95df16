"""The map of a selective state space, summed over channels, is what its recurrence does with one token at a time."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences.selective_map import naive, selective_map
from tests.laws import laws
from tests.tiers import tiers


def arguments(time: int, d: int = 5, n: int = 3, taps: int = 3, heads: int = 2):
    keys = jr.split(jr.key(time), 6)
    normal = lambda key, *shape: jr.normal(key, shape)
    delta, a = jax.nn.softplus(normal(keys[2], time, d)), -jnp.exp(normal(keys[3], d, n))
    return normal(keys[0], heads, time, d), normal(keys[1], taps, time, d), delta, a, *normal(keys[4], 2, time, n)


@pytest.mark.parametrize(
    ("time", "block", "negative"),
    tiers(
        [(1, 64, False), (11, 2, False), (1, 64, True), (11, 2, True)], (1, 64, False), (11, 2, False), (11, 2, True)
    ),
)
def test_halving_gives_the_recurrence(time, block, negative):
    """Any length, channels that do not divide into blocks, taps that reach beyond the end: the naive loop's map."""
    given = arguments(time)
    found = jax.jit(lambda *given: selective_map(*given, block=block, negative=negative))(*given)
    laws.check_close(found, naive(*given, negative=negative), laws.EXACT, "the map")
    assert not np.triu(np.asarray(found), 1).any()


def test_by_hand():
    """One channel, one state: map[t, s] is C_t exp(a (delta_{s+1} + ... + delta_t)) B_s delta_s."""
    delta, b, c = jnp.array([[0.5], [1.0], [2.0]]), jnp.array([[1.0], [2.0], [3.0]]), jnp.array([[1.0], [1.0], [4.0]])
    ones = jnp.ones((1, 3, 1))
    found = selective_map(ones, ones, delta, jnp.array([[-1.0]]), b, c)[0]
    decayed = lambda s, t: float(jnp.exp(-delta[s + 1 : t + 1].sum()))
    expected = [
        [float(c[t, 0] * b[s, 0] * delta[s, 0]) * decayed(s, t) if s <= t else 0.0 for s in range(3)] for t in range(3)
    ]
    laws.check_close(found, jnp.array(expected), laws.EXACT, "by hand")


def test_extreme_steps():
    """Steps of 0 keep all, steps of 1e4 forget all, and nothing overflows, where ratios of products would be 0 / 0."""
    q, w, delta, a, b, c = arguments(11)
    delta = delta.at[3].set(1e4).at[5:8].set(0.0)
    found = selective_map(q, w, delta, a, b, c)
    assert np.isfinite(np.asarray(found)).all() and not np.asarray(found)[:, 3:, 0].any()


@pytest.mark.slow
def test_extreme_steps_with_negative_eigenvalues():
    """Steps of 1e4 turn all that a state holds: from there on the map is that of steps of 0, with its sign changed."""
    q, w, delta, a, b, c = arguments(11)
    delta = delta.at[3:].set(0.0)
    turned = selective_map(q, w[:1], delta.at[6].set(1e4), a, b, c, negative=True)
    kept = selective_map(q, w[:1], delta, a, b, c, negative=True)
    laws.check_close(turned[:, 6:, :3], -kept[:, 6:, :3], laws.EXACT, "what is turned")
    laws.check_close(turned[:, :6], kept[:, :6], laws.EXACT, "what was read before")


def test_bad_shapes(unchecked):
    """What does not fit is named."""
    q, w, delta, a, b, c = arguments(4)
    with pytest.raises(InputError, match=r"q must be \(head, time, d\), w \(tap, time, d\)"):
        selective_map(q, w[:, :3], delta, a, b, c)
