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
from tests.laws.strategies import lengths, seeds


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds, time=lengths, fraction=st.floats(0, 1))
def test_steps_give_the_parallel_form(name, seed, time, fraction):
    """The step loop gives the parallel form, for any length from 1 and any split point."""
    laws.steps_give_the_parallel_form(laws.make(name, seed=seed), laws.sequence(seed, time), round(fraction * time))


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
