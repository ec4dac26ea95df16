"""Law 3: no output depends on a later token."""

import hypothesis
import hypothesis.strategies as st
import pytest

from dualform.mixers import registry
from tests.laws import laws
from tests.laws.strategies import TIME, seeds


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds, t=st.integers(0, TIME - 1))
def test_nothing_comes_from_the_future(name, seed, t):
    """Changing x[t] changes no y[s] for s < t."""
    laws.nothing_comes_from_the_future(laws.make(name, seed=seed), laws.sequence(seed, TIME), t, seed)


@pytest.mark.parametrize("name", registry())
def test_nothing_comes_from_the_future_across_chunks(name):
    """Changing x[t] changes no y[s] for s < t, on both sides of a border between chunks."""
    for t in (63, 64, 65):
        laws.nothing_comes_from_the_future(laws.make(name), laws.sequence(0, 150), t, seed=0)
