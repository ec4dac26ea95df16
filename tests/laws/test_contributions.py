"""Law 4: the contributions of the dual form sum to the output."""

import hypothesis
import pytest

from dualform.mixers import registry
from tests.laws import laws
from tests.laws.strategies import TIME, flags, seeds


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds, start=flags, mask=flags)
def test_contributions_obey_state_and_flags(name, seed, start, mask):
    """The same with an initial state, which is bias, with packed documents and with absent tokens."""
    mixer = laws.make(name, seed=seed)
    state = laws.some_state(mixer, seed)
    laws.contributions_sum_to_the_output(mixer, laws.sequence(seed, TIME), state, start, mask)


@pytest.mark.parametrize("name", registry())
def test_contributions_of_more_tokens_than_a_block(name):
    """The same over 70 tokens: more than two blocks of source tokens, and more than a chunk of any recurrence."""
    laws.contributions_sum_to_the_output(laws.make(name), laws.sequence(0, 70))
