"""Law 1: the step loop gives the parallel form."""

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.mixers import registry
from tests.laws import laws
from tests.laws.strategies import TIME, seeds


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds, split=st.sampled_from([1, 4]))
def test_steps_give_the_parallel_form(name, seed, split):
    """The step loop gives the parallel form, for any split point: 1 and 5 tokens, or 4 and 2."""
    laws.steps_give_the_parallel_form(laws.make(name, seed=seed), laws.sequence(seed, TIME), split)


@pytest.mark.parametrize("name", registry())
def test_gradients_pass_through_the_state(name):
    """The gradients through a carried state, the first state's included, are those of one call."""
    mixer = laws.make(name)
    laws.gradients_pass_through_the_state(mixer, laws.sequence(0, TIME), laws.some_state(mixer, 0), 4)


@pytest.mark.parametrize("name", registry())
def test_steps_give_the_parallel_form_of_a_long_sequence(name):
    """The step loop, itself a scan, gives the parallel form over 150 tokens: more than two chunks of any recurrence."""
    mixer, x = laws.make(name), laws.sequence(0, 150)

    @eqx.filter_jit
    def loop(mixer, x):
        def step(state, x_t):
            y_t, state = mixer.step(x_t, state)
            return state, y_t

        state, y = jax.lax.scan(step, mixer.init_state(), x)
        return y, state

    laws.check_close(loop(mixer, x), laws.call(mixer, x), laws.EXACT, "a scan of steps")


@pytest.mark.parametrize("name", registry())
def test_step_takes_plain_flags(name):
    """A step's own flags may be Python booleans: False leaves the state as it is, `start` forgets it."""
    mixer, x_t = laws.make(name), laws.sequence(0, 1)[0]
    state = laws.some_state(mixer, 0)
    y_t, same = mixer.step(x_t, state, mask=False)
    assert not np.asarray(y_t).any()
    laws.check_same_bits(same, state, "the state after an absent token")
    fresh = mixer.step(x_t, mixer.init_state())
    laws.check_close(mixer.step(x_t, state, start=True), fresh, laws.EXACT, "a step that starts a document")
    assert bool(jnp.any(mixer.step(x_t, state)[0] != fresh[0]))
