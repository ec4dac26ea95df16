"""Law 4: the contributions of the dual form sum to the output."""

import numpy as np
import pytest

from tests.laws import laws, programs

ADD_A_BIAS = {"causal_convolution", "hgrn", "hgrn_complex", "mamba", "mamba2", "pgn", "wave_rnn"}
"""Mixers that add to what they read of their values, or to the values themselves, something that no token brought."""

REACH = {"rwkv4_channel": 1}
"""Mixers whose state reaches fewer than three tokens, and how many: channel mixing remembers one token, for the next one."""

CHUNKED = ("hgrn2", "delta_rule")
"""Of the recurrences that work in chunks, a sum and a rule that corrects itself."""


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_contributions_obey_state_and_flags(name):
    """Contributions and bias sum to the output, with an initial state, which is bias, with documents and absent tokens.

    Six tokens in two blocks of three.
    """
    laws.contributions_sum_to_the_output(laws.table(name))
    laws.contributions_sum_to_the_output(laws.alone(laws.table(name)))


@pytest.mark.parametrize("name", laws.registered(*CHUNKED))
def test_contributions_of_more_tokens_than_a_chunk(name):
    """They do so over 70 tokens: more than a chunk of any recurrence, and two blocks and a part of one."""
    laws.contributions_sum_to_the_output(laws.make(name), laws.sequence(0, 70), question=programs.dual_form_in_blocks)


def _of_one_token(mixer, x, state, start, mask):
    return programs.dual_form_in_blocks(mixer, x, state, start, mask, block=1)


@pytest.mark.parametrize("name", laws.registered("hgrn2"))
def test_the_block_changes_nothing(name):
    """One source token at a time, or more than there are: the same contributions, bias and map."""
    asked = laws.table(name)
    whole, one = programs.ask(programs.dual_form_in_blocks, asked), programs.ask(_of_one_token, asked)
    laws.check_close(one[1:4], whole[1:4], laws.ROUNDING, "another block")


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_what_no_token_brought_is_bias(name):
    """The bias is the mixer's own, where it adds one to its readout, and what the past still says, until a `start`."""
    mixer, x, start = laws.make(name), laws.sequence(0, laws.TIME), np.arange(laws.TIME) == 3
    if name in laws.READ_A_TEXT:
        x = x.at[:, -1].set(abs(x[:, -1]))
    own, bias = (
        programs.ask(programs.dual_form, programs.cases(mixer, x, state, start))[2][0]
        for state in (None, laws.some_state(mixer, 0))
    )
    assert own.any() == (name in ADD_A_BIAS)
    assert (bias != own).any(axis=1).tolist() == [t < REACH.get(name, 3) for t in range(laws.TIME)]
