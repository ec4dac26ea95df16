"""The products of decays, and the closed-form maps that are made of them."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform import dual_form
from dualform.maps import CausalMap
from dualform.mixers import GriffinRecurrent, MinGRU, MinLSTM
from dualform.recurrences.decay_map import decay_map
from tests.laws import laws
from tests.tiers import tiers

TIME = 7
START, MASK = np.array([0, 0, 0, 1, 0, 1, 0], bool), np.array([1, 1, 0, 1, 1, 0, 1], bool)


def products(decay, start, mask):
    """Each product, written out; a start at an absent token is none."""
    time, n = decay.shape
    result = np.zeros((n, time, time))
    for t in range(time):
        for s in range(t + 1):
            between = [u for u in range(s + 1, t + 1) if mask[u]]
            if mask[s] and mask[t] and not any(start[u] for u in between):
                result[:, t, s] = np.prod([decay[u] for u in between], axis=0)
    return result


def test_products_are_exact():
    """Decays of 0, 1, 1e-30 and below 0 give exact products; a start is a 0, an absent token a 1."""
    decay = np.random.default_rng(0).uniform(-1, 1, (TIME, 5))
    decay[2], decay[4, :3] = [0.0, 1.0, 1e-30, 0.5, 0.0], [1e-300, 0.0, 1e-30]
    nothing, all_there = np.zeros(TIME, bool), np.ones(TIME, bool)
    run = jax.jit(decay_map)
    for start, mask in ((nothing, all_there), (START, all_there), (nothing, MASK), (START, MASK)):
        found = run(jnp.asarray(decay), jnp.asarray(start), jnp.asarray(mask))
        np.testing.assert_allclose(np.asarray(found), products(decay, start, mask), rtol=1e-15, atol=0)
    laws.check_same_bits(run(jnp.asarray(decay)), run(jnp.asarray(decay), jnp.asarray(nothing)), "no flags")


MIXERS = {
    "hgrn": lambda: laws.make("hgrn"),
    "min_gru": lambda: MinGRU.make(4, key=jax.random.key(0), expansion=1.5),
    "min_gru_log": lambda: laws.make("min_gru_log"),
    "min_lstm": lambda: MinLSTM.make(4, key=jax.random.key(0), expansion=2.0),
    "rg_lru": lambda: laws.make("rg_lru"),
    "griffin_recurrent": lambda: GriffinRecurrent.make(4, key=jax.random.key(0), n=6, heads=3),
}


CARRIED = [(name, False) for name in MIXERS if name not in ("min_gru", "min_lstm", "griffin_recurrent")]
"""Each kind of decay, from a state; the others have a sibling among them."""


@pytest.mark.parametrize(("name", "fresh"), tiers(product(MIXERS, (True, False)), *CARRIED))
def test_the_map_times_the_values_gives_the_contributions(name, fresh):
    """Contributions, which the closed-form map gives, are what each token brings in a pass of its own."""
    mixer, x = MIXERS[name](), laws.sequence(3, TIME)
    state = mixer.init_state() if fresh else laws.some_state(mixer, 0)
    start, mask = jnp.asarray(START & MASK), jnp.asarray(MASK)
    x = jnp.where(mask[:, None], x, jnp.zeros_like(x))

    @jax.jit
    def run(x, state, start, mask):
        form, map = dual_form(mixer, x, state, start=start, mask=mask), mixer.frozen(x, state, start, mask).map
        return form, CausalMap.columns(map, x, jnp.arange(TIME)).swapaxes(0, 1)

    form, expected = run(x, state, start, mask)
    assert form.weights.shape[1:] == (TIME, TIME)
    laws.check_close(form.contributions, expected, laws.EXACT, "contributions")


@pytest.mark.parametrize("expansion", tiers([0.5, 1.5], 1.5))
def test_a_projected_cell_keeps_the_laws(expansion):
    """minGRU and minLSTM with more or fewer units than their width, projected back: steps, sum, flags."""
    for kind in (MinGRU, MinLSTM):
        mixer, x = kind.make(4, key=jax.random.key(1), expansion=expansion, candidate="positive"), laws.sequence(0, 6)
        assert mixer.d_out == 4 and mixer.init_state().shape == (int(4 * expansion),)
        laws.steps_give_the_parallel_form(mixer, x, 4)
        laws.contributions_sum_to_the_output(mixer, x, None, START[:6], MASK[:6])
