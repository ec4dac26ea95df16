"""Law 4: the contributions of the dual form sum to the output."""

import pytest

from dualform.mixers import registry
from tests.laws import laws, programs

FEW = ["linear_attention", "hgrn2", "delta_rule", "mamba"]
"""One of each recurrence that works in chunks; the thorough tier takes all mixers."""
REST = [pytest.param(name, marks=pytest.mark.slow) for name in registry() if name not in FEW]


@pytest.mark.parametrize("name", registry())
def test_contributions_obey_state_and_flags(name):
    """Contributions and bias sum to the output, with an initial state, which is bias, with documents and absent tokens.

    Six tokens in two blocks of three.
    """
    laws.contributions_sum_to_the_output(laws.table(name))
    laws.contributions_sum_to_the_output(laws.alone(laws.table(name)))


@pytest.mark.parametrize("name", [*FEW, *REST])
def test_contributions_of_more_tokens_than_a_chunk(name):
    """They do so over 70 tokens: more than a chunk of any recurrence, and two blocks and a part of one."""
    laws.contributions_sum_to_the_output(laws.make(name), laws.sequence(0, 70), question=programs.dual_form_in_blocks)
