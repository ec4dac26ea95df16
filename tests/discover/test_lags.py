"""The closed form in lags is the function: against every pair of lags written out, and against outputs."""

import jax.random as jr
import numpy as np
import pytest

from dualform.discover.forms import as_function, form_coordinates, input_forms, output_kernels
from dualform.discover.lags import attention_tensor, change_of_function, difference, errors_by_length, lag_tensors
from dualform.discover.units import outputs
from dualform.mixers import GatedRNN
from dualform.training.second_order import network, weights_of

from .students import constructed, sequences

TOKENS = 5
ROUNDING = 1e-12


def written_out(rnn: GatedRNN) -> np.ndarray:
    """B[k, l, o, a, b] for all lags k, l < TOKENS, of a network with given decays."""
    c, kernels = form_coordinates(input_forms(rnn)), output_kernels(rnn)
    powers = weights_of(rnn).decay[None] ** np.arange(TOKENS)[:, None]
    return np.einsum("oij,ki,lj,ia,jb->kloab", kernels, powers, powers, c, c)


def random_network(seed: int = 0) -> GatedRNN:
    weights = weights_of(GatedRNN.make(2, key=jr.key(seed), n=4, m=5))
    return network(weights._replace(decay=np.array([1.0, 0.0, 0.7, 0.2])))


def test_the_parts_are_those_of_all_pairs_of_lags():
    """Mean over lags, what differs from it, the past with the past and the present: as written out, lag by lag."""
    rnn = random_network()
    found, every = lag_tensors(rnn, TOKENS), written_out(rnn)
    past = every[1:, 0] + every[0, 1:].swapaxes(-1, -2)  # a pair stands twice, its forms exchanged
    np.testing.assert_allclose(found.past_present, past.mean(0), atol=ROUNDING)
    np.testing.assert_allclose(found.spread, np.linalg.norm(past - past.mean(0)), atol=ROUNDING)
    np.testing.assert_allclose(found.past_past, np.linalg.norm(every[1:, 1:]), atol=ROUNDING)
    np.testing.assert_allclose(found.present, every[0, 0], atol=ROUNDING)
    size = np.sum(past**2) + np.sum(every[1:, 1:] ** 2) + np.sum(as_function(every[0, 0]) ** 2)
    np.testing.assert_allclose(found.size(), np.sqrt(size), rtol=ROUNDING)


def test_the_error_of_a_fading_memory_is_known():
    """At lag k a memory of decay lam gives lam^k of what it should: the error is the root of the mean of (1 - lam^k)^2."""
    attention, rnn = constructed(2)
    weights = weights_of(rnn)
    fading = network(weights._replace(decay=np.where(weights.decay == 1, 0.9994, 0.0)))
    tensor = attention_tensor(attention)
    past, present = np.sum(tensor**2), np.sum(as_function(tensor) ** 2)
    for length in errors_by_length(fading, attention, 8192):
        off = np.sum((1 - 0.9994 ** np.arange(1, length.tokens)) ** 2)
        expected = np.sqrt(off * past / ((length.tokens - 1) * past + present))
        assert length.error == pytest.approx(expected, rel=1e-8)
    assert all(length.error < 1e-14 for length in errors_by_length(rnn, attention, 100_000))


def test_lengths_are_powers_of_two_and_the_horizon():
    """Every length up to the horizon is seen within a factor of two."""
    attention, rnn = constructed(2)
    assert [length.tokens for length in errors_by_length(rnn, attention, 100)] == [2, 4, 8, 16, 32, 64, 100]
    assert [length.tokens for length in errors_by_length(rnn, attention, 2)] == [2]


def test_the_change_of_a_function_is_that_of_its_outputs():
    """The difference of two networks gives the difference of their outputs; its norm is 0 for two disguises of one."""
    attention, rnn = constructed(2)
    other = random_network()
    x = sequences(2, 4, 6)
    apart = outputs(difference(rnn, other), x)
    np.testing.assert_allclose(apart, outputs(rnn, x) - outputs(other, x), atol=1e-10)
    assert change_of_function(rnn, rnn, attention, 64) < 1e-7
    far = change_of_function(rnn, other, attention, 64)
    assert far == pytest.approx(max(length.error for length in errors_by_length(other, attention, 64)), rel=1e-8)
