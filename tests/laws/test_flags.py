"""Law 5: absent tokens, packing and batching change nothing."""

import hypothesis
import jax
import numpy as np
import pytest

from dualform.mixers import registry
from tests.laws import laws
from tests.laws.strategies import TIME, flags, seeds

EDGES = {"left": [0, 0, 1, 1, 1, 1], "right": [1, 1, 1, 1, 0, 0], "between": [1, 0, 0, 1, 0, 1], "all": [0] * TIME}


@pytest.mark.parametrize("name", registry())
@pytest.mark.parametrize("where", EDGES)
def test_padding_changes_nothing(name, where):
    """Absent tokens at the left, at the right, in between and everywhere change nothing, be they NaN."""
    mixer, mask = laws.make(name), np.array(EDGES[where], bool)
    laws.absent_tokens_change_nothing(mixer, laws.sequence(1, TIME), laws.some_state(mixer, 1), mask)


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds, mask=flags)
def test_absent_tokens_change_nothing(name, seed, mask):
    """Absent tokens anywhere change nothing, be they NaN, in outputs, state and gradients."""
    mixer, x = laws.make(name, seed=seed), laws.sequence(seed, TIME)
    state = laws.some_state(mixer, seed)
    laws.absent_tokens_change_nothing(mixer, x, state, mask)
    laws.absent_tokens_leave_no_gradient(mixer, x, state, mask)


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds, start=flags)
def test_packed_documents_stay_apart(name, seed, start):
    """Packed documents give what each gives alone, and pass no gradient to one another."""
    mixer = laws.make(name, seed=seed)
    laws.packed_documents_stay_apart(mixer, laws.sequence(seed, TIME), laws.some_state(mixer, seed), start)


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds, start=flags, mask=flags)
def test_a_start_at_an_absent_token_is_ignored(name, seed, start, mask):
    """A document cannot begin where there is no token."""
    mixer = laws.make(name, seed=seed)
    state = laws.some_state(mixer, seed)
    laws.a_start_at_an_absent_token_is_ignored(mixer, laws.sequence(seed, TIME), state, start, mask)


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds, start=flags, mask=flags)
def test_batching_is_a_loop(name, seed, start, mask):
    """vmap over sequences, each with its own flags, is a loop over them."""
    x = jax.numpy.stack([laws.sequence(seed + i, TIME) for i in range(3)])
    roll = lambda values: jax.numpy.stack([np.roll(values, i) for i in range(3)])
    laws.batching_is_a_loop(laws.make(name, seed=seed), x, roll(start), roll(mask))


@pytest.mark.parametrize("name", registry())
def test_an_ensemble_is_a_loop(name):
    """eqx.filter_vmap over mixers of several seeds is a loop over them."""
    laws.an_ensemble_is_a_loop([laws.make(name, seed=seed) for seed in range(3)], laws.sequence(0, TIME))
