"""Law 1: the step loop gives the parallel form."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.mixers import registry
from tests.laws import laws, programs


@pytest.mark.parametrize("name", registry())
def test_steps_give_the_parallel_form(name):
    """The step loop gives the parallel form, for any split point, with documents and absent tokens and without."""
    asked = laws.table(name)
    split = 1 + np.arange(len(asked.x)) % (laws.TIME - 1)
    laws.steps_give_the_parallel_form(asked, None, split)
    laws.steps_give_the_parallel_form(laws.alone(asked), None, split)


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_gradients_pass_through_the_state(name):
    """The gradients through a carried state, the first state's included, are those of one call, for any split point."""
    asked = laws.table(name)
    split = 1 + np.arange(len(asked.x)) % (laws.TIME - 1)
    laws.gradients_pass_through_the_state(asked, split=split)
    laws.gradients_pass_through_the_state(laws.alone(asked), split=split)


SIBLINGS = (
    *("lru_out", "lru_in_out", "lru_in_skip", "hgrn_complex", "min_gru_log", "min_lstm_log", "griffin_recurrent"),
    *("lstm_chung", "gru_chung", "tanh_rnn", "multi_query_attention", "local_attention", "rwkv4_channel", "retnet"),
)
"""Mixers that run on the recurrence of a sibling: over many tokens for the thorough tier."""


@pytest.mark.parametrize("name", laws.registered(*(name for name in registry() if name not in SIBLINGS)))
def test_steps_give_the_parallel_form_of_a_long_sequence(name):
    """The step loop, itself a scan, gives the parallel form over 150 tokens and 150 more; so do flags that say nothing."""
    mixer, x = laws.make(name), laws.sequence(0, laws.LONG)
    laws.long_steps_give_the_parallel_form(mixer, x, calls=2)
    long, short = programs.cases(mixer, x), programs.cases(mixer, x[: laws.TIME])
    y, flagged = programs.ask(programs.plain_call, long)[0], programs.ask(programs.call, short)[0]
    laws.check_close(flagged[0], y[0, : laws.TIME], laws.EXACT, "a call with flags")


@pytest.mark.parametrize("name", laws.registered("gated_rnn", "hgrn2", "mamba"))
def test_step_takes_plain_flags(name):
    """A step's own flags may be Python booleans: False leaves the state as it is, `start` forgets it."""
    mixer, x_t = laws.make(name), laws.sequence(0, 1)[0]
    state = laws.some_state(mixer, 0)
    step = eqx.filter_jit(lambda mixer, x_t, state, **flags: mixer.step(x_t, state, **flags))
    y_t, same = step(mixer, x_t, state, mask=False)
    assert not np.asarray(y_t).any()
    laws.check_same_bits(same, state, "the state after an absent token")
    fresh = step(mixer, x_t, mixer.init_state())
    laws.check_close(step(mixer, x_t, state, start=True), fresh, laws.EXACT, "a step that starts a document")
    assert bool(jnp.any(step(mixer, x_t, state)[0] != fresh[0]))
