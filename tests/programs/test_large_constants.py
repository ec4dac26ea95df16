"""Large constants in float32: a sum with one loses what is small, and where that begins is known."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from dualform.programs import Input, Program, compile_program, if_else, interpret
from dualform.programs.sugar import LARGE
from tests.tiers import tiers

DIGITS = 24
"""Of a number of float32, in bits."""

MOST = 300
"""The largest value that is let through."""

VALUES = np.stack(np.meshgrid(np.arange(MOST + 1), [0, 1]), axis=-1).reshape(-1, 2).astype(float)
"""Each value with the condition 0, then with 1."""


@functools.cache
def given(large: int, to: str) -> np.ndarray:
    """What a network in float32 gives of ReLU(v - L (1 - c)), v where the bit c is 1, of each of `VALUES`."""
    x = Input(2, low=0, high=[MOST, 1], whole=True)
    made = Program(if_else(x[1], x[0], form="optimised", large=large), "shown")
    assert interpret(made, VALUES)[:, 0].tolist() == (VALUES[:, 0] * VALUES[:, 1]).tolist()
    model = compile_program(made, to, "float32").model
    return np.asarray(model(jnp.asarray(VALUES, jnp.float32))[0], np.float64)[:, 0]


def exact() -> np.ndarray:
    return VALUES[:, 0] * VALUES[:, 1]


@pytest.mark.parametrize("large", [MOST + 1, 2**24 - MOST])
def test_within_the_bound_nothing_is_lost(large):
    """Where L + v has no more than 24 bits every value comes through to the bit, and nothing where it is shut."""
    assert given(large, "linear-rnn").tolist() == exact().tolist()


def test_at_the_bound_odd_numbers_are_off_by_one():
    """Neighbours of 2^24 are 2 apart: of v + 2^24 the last bit is rounded away, to the even one of both neighbours."""
    error = np.abs(given(2**DIGITS, "linear-rnn") - exact())
    assert error.tolist() == (VALUES[:, 0] % 2 * VALUES[:, 1]).tolist()


def test_of_the_published_constant_nothing_comes_through():
    """Neighbours of 1e10 are 1024 apart: v + 1e10 is 1e10 for v below 512, and the network gives 0 whatever v is."""
    assert np.spacing(np.float32(LARGE)) == 1024 and 512 > MOST
    assert not given(LARGE, "linear-rnn").any()


@pytest.mark.parametrize("to", tiers(["rnn", "gru", "lstm"], "lstm"))
def test_where_the_range_is_known_no_constant_is_added(to):
    """Networks that decide take a constant as large as the values are, which are declared: with 1e10 all come through."""
    assert given(LARGE, to).tolist() == exact().tolist()
