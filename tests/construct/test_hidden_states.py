"""Filters written into weights: what networks give is the exact filter's belief."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.construct import filter_lru, filter_lstm
from dualform.errors import InputError
from dualform.tasks.hmm import (
    LinearSystem,
    cyclic_det,
    cyclic_hard,
    cyclic_rnd,
    linear_system,
    matrix_product,
    random_hmm,
)

EXACT = 1e-10
HIDDEN = {
    "matrix-product": matrix_product(3, 2, 0, jnp.float64),
    "cyclic-det": cyclic_det(4, 2, 0, jnp.float64),
    "cyclic-rnd": cyclic_rnd(3, 2, 0, jnp.float64),
    "cyclic-hard": cyclic_hard(2, 2, 0, jnp.float64, stage=2),
    "random": random_hmm(3, 3, 0, jnp.float64),
}


def error(name: str, time: int) -> float:
    """The largest difference between what the network's output is, over its sum where it is of probabilities, and the belief."""
    hidden = HIDDEN[name]
    drawn = hidden.drawn(jr.key(0), time)
    x = jnp.pad(drawn.tokens, ((0, 0), (0, 1))).at[0, -1].set(1)
    y, _ = filter_lstm(hidden)(x)
    belief = y / y.sum(axis=1, keepdims=True) if hidden.probabilities else y
    return float(np.abs(belief - drawn.beliefs).max())


@pytest.mark.parametrize("name", HIDDEN)
def test_an_lstm_holds_the_filter(name):
    """Over 256 tokens, within rounding."""
    assert error(name, 256) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["matrix-product", "cyclic-det", "cyclic-rnd"])
def test_states_that_keep_their_size_are_held_at_any_length(name):
    """65,536 tokens of observations that are as likely in all states."""
    assert error(name, 65_536) < EXACT


def test_an_lru_holds_kalmans_filter():
    """Its matrix is the same at every token; a state that turns is a complex unit."""
    for seed, n in ((0, 3), (1, 2)):
        system = linear_system(n, 2, seed, jnp.float64)
        drawn = system.drawn(jr.key(0), 256)
        y, _ = filter_lru(system)(jnp.pad(drawn.tokens, ((0, 0), (0, 1))))
        assert np.abs(y - drawn.beliefs).max() < EXACT


def test_a_filter_that_is_not_there_is_no_other():
    """Another model's filter is not what the network gives."""
    drawn = random_hmm(3, 3, 1, jnp.float64).drawn(jr.key(0), 256)
    x = jnp.pad(drawn.tokens, ((0, 0), (0, 1))).at[0, -1].set(1)
    y, _ = filter_lstm(HIDDEN["random"])(x)
    assert np.abs(y / y.sum(axis=1, keepdims=True) - drawn.beliefs).max() > 0.1


def test_bad_input():
    """Which model is written, and what to do for the other."""
    system = linear_system(2, 2, 0, jnp.float64)
    with pytest.raises(InputError, match="got LinearSystem. A linear system is an LRU"):
        filter_lstm(system)  # pyright: ignore[reportArgumentType] - refused
    unsure = eqx.tree_at(lambda s: s.covariance, system, 9 * jnp.eye(2))
    assert isinstance(unsure, LinearSystem)
    with pytest.raises(InputError, match="the gain of this filter changes by"):
        filter_lru(unsure)
