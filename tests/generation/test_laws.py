"""Bounded attention keeps the laws that every registered mixer keeps (`tests/laws`)."""

import functools

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.generation import policy
from dualform.generation.multi_state import MultiStateAttention
from dualform.mixers import SoftmaxAttention
from tests.laws import laws, programs
from tests.tiers import tiers

TIME, STATES = 6, 3
START = jnp.arange(TIME) == 4
GAPS = np.array([True, False, True, True, False, True])


@functools.cache
def bounded_by(name: str) -> MultiStateAttention:
    """Attention over fewer states than the sequence has tokens: what is dropped matters to every law."""
    attention = SoftmaxAttention.make(laws.D, key=jr.key(0), heads=2, kv_heads=1)
    return MultiStateAttention(attention, policy(name), STATES, rerotate=name == "h2o")


@pytest.mark.parametrize("name", tiers(["tova", "h2o", "window+1"], "h2o"))
def test_laws(name):
    """Steps, causality, contributions, masks, packing, batches and the state: all of them, h2o by ranks for places."""
    mixer, x = bounded_by(name), laws.sequence(0, TIME)
    state = laws.some_state(mixer, 0)
    laws.steps_give_the_parallel_form(mixer, x, 4)
    laws.nothing_comes_from_the_future(mixer, x, 3, 0)
    laws.contributions_sum_to_the_output(mixer, x, state, START, jnp.asarray(GAPS))
    laws.absent_tokens_change_nothing(mixer, x, state, GAPS)
    laws.packed_documents_stay_apart(mixer, x, state, START)
    laws.a_start_at_an_absent_token_is_ignored(mixer, x, state, START | (jnp.arange(TIME) == 1), jnp.asarray(GAPS))
    laws.batching_is_a_loop(
        mixer, jnp.stack([x, laws.sequence(1, TIME)]), jnp.stack([START, ~START]), jnp.stack([GAPS, ~GAPS])
    )
    laws.absent_tokens_leave_no_gradient(mixer, x, state, jnp.asarray(GAPS))


@pytest.mark.parametrize("name", tiers(["window", "window+1", "window+2"], "window+1"))
def test_a_window_leaves_its_states_in_the_steps_own_places(name):
    """All at once or token by token, also after another text, with starts and absent tokens: the same states, place by place."""
    random = np.random.default_rng(0)
    draw = lambda odds: random.random((32, TIME)) < odds
    x = np.stack([laws.sequence(row, TIME) for row in range(32)])
    asked = programs.cases([bounded_by(name)] * 32, x, None, draw(0.2), draw(0.8))
    before = programs.cases([bounded_by(name)] * 32, x[::-1], None, draw(0.2), draw(0.6))
    asked = asked._replace(state=programs.ask(programs.call, before)[1])
    laws.steps_give_the_parallel_form(asked, None, random.integers(1, TIME, 32))


@pytest.mark.parametrize("name", tiers(["tova", "window+1"], "tova"))
def test_extremes_and_disk(name, tmp_path):
    """Scores of thousands give no NaN, in outputs, state and gradients; a state survives the disk to the bit."""
    mixer = bounded_by(name)
    laws.extremes_stay_finite(mixer, 1e3 * laws.sequence(0, TIME))
    laws.a_state_survives_the_disk(mixer, laws.sequence(0, TIME), 4, tmp_path)
