"""Law 6: low precision stays close, and extremes stay finite."""

from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.mixers import LRU, AbstractMixer, GatedRNN, LRUInOut, LRUInSkip, LRUOut, SideGatedRNN, registry
from tests.laws import laws, programs
from tests.tiers import tiers

EXTREME_NUS = {
    "decay 0": jnp.inf,
    "decay 1": -jnp.inf,
    "decay 1e-30": 4.235,
    "exp overflows": 1e4,
    "exp underflows": -1e4,
}


def with_decays(mixer: AbstractMixer) -> Any:
    """The mixer, or the core of it, whose decays are exp(-exp(nu)); None where there is none."""
    core = mixer.core if isinstance(mixer, LRUOut | LRUInOut | LRUInSkip) else mixer
    return core if isinstance(core, GatedRNN | SideGatedRNN | LRU) and core.nu is not None else None


def test_every_trained_decay_is_driven_to_its_ends():
    """No registered mixer has a `nu`, at its top or in a part, that `test_extremes_stay_finite` passes over."""
    for name in registry():
        mixer = eqx.filter_eval_shape(registry()[name], laws.D, key=jr.key(0))
        has_nu = any(str(path[-1]) == ".nu" for path, _ in jax.tree_util.tree_leaves_with_path(mixer))
        assert has_nu == (with_decays(mixer) is not None), name


CLOSE = [(name, dtype) for name in laws.KINDS for dtype in laws.BOUNDS]


@pytest.mark.parametrize(("name", "dtype"), tiers(product(registry(), laws.BOUNDS), *CLOSE))
def test_low_precision_stays_close(name, dtype):
    """float32 and bfloat16 stay within a stated bound of float64 over 4,200 tokens, read in calls of 150."""
    laws.low_precision_stays_close(laws.make(name), laws.sequence(0, 28 * laws.LONG), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry())
def test_long_sequences_do_not_drift(name):
    """After 65,536 tokens in one call outputs and state in float32 are still those of float64.

    `tests/recurrences/test_drift.py` holds the recurrences to it in every run.
    """
    laws.long_sequences_do_not_drift(lambda mixer, x: mixer(x), (laws.make(name), laws.sequence(0, 65536)))


def with_extremes(name: str, dtype: str, x: jax.Array) -> programs.Cases:
    """Calls of a registered mixer on tokens of 0 and of 1e-30, and on x with its decays, where it trains any, at every end."""
    mixer, time = laws.rounded_to(dtype, laws.make(name)), len(x)
    tiny = np.where(np.arange(time)[:, None] < time // 2, 0.0, np.full((time, laws.D), 1e-30))
    mixers, tokens = [mixer], [tiny]
    for nu in EXTREME_NUS.values() if with_decays(mixer) is not None else ():
        mixers.append(eqx.tree_at(lambda m: with_decays(m).nu, mixer, replace_fn=lambda a, nu=nu: np.full_like(a, nu)))
        tokens.append(np.asarray(x))
    return programs.cases(mixers, laws.rounded_to(dtype, np.stack(tokens)))


QUICK = [(name, "float32") for name in laws.KINDS] + [("gated_rnn", "bfloat16"), ("hgrn2", "bfloat16")]


@pytest.mark.parametrize(("name", "dtype"), tiers(product(registry(), laws.BOUNDS), *QUICK))
def test_extremes_stay_finite(name, dtype):
    """Tokens of 0 and 1e-30, and decays of exactly 0, exactly 1, 1e-30 and beyond, give no NaN, forward or in gradients."""
    laws.extremes_stay_finite(with_extremes(name, dtype, laws.sequence(0, laws.TIME)), None)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", laws.BOUNDS)
@pytest.mark.parametrize("name", registry())
def test_extremes_stay_finite_in_long_sequences(name, dtype):
    """The same over 150 tokens."""
    laws.extremes_stay_finite(with_extremes(name, dtype, laws.sequence(0, laws.LONG)), None)
