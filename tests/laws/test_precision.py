"""Law 6: low precision stays close, and extremes stay finite."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from dualform.mixers import LRU, AbstractMixer, GatedRNN, LRUInOut, LRUInSkip, LRUOut, SideGatedRNN, registry
from tests.laws import laws

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
    """No registered mixer has a `nu`, at its top or in a part, that `test_extreme_decays_stay_finite` passes over."""
    for name in registry():
        leaves = jax.tree_util.tree_leaves_with_path(laws.make(name))
        has_nu = any(str(path[-1]) == ".nu" for path, _ in leaves)
        assert has_nu == (with_decays(laws.make(name)) is not None), name


@pytest.mark.parametrize("dtype", laws.BOUNDS)
@pytest.mark.parametrize("name", registry())
def test_low_precision_stays_close(name, dtype):
    """float32 and bfloat16 stay within a stated bound of float64 over 4,096 tokens."""
    laws.low_precision_stays_close(laws.make(name), laws.sequence(0, 4096), dtype)


@pytest.mark.parametrize("name", registry())
def test_long_sequences_do_not_drift(name):
    """After 65,536 tokens outputs and state in float32 are still those of float64."""
    laws.long_sequences_do_not_drift(laws.make(name), laws.sequence(0, 65536))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", registry())
def test_tiny_inputs_stay_finite(name, dtype):
    """Tokens of 0 and of 1e-30 give no NaN, neither forward nor in gradients."""
    x = jnp.concatenate([jnp.zeros((3, laws.D)), jnp.full((3, laws.D), 1e-30)]).astype(dtype)
    laws.extremes_stay_finite(laws.make(name, dtype=dtype), x)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("decay", EXTREME_NUS)
@pytest.mark.parametrize("name", [name for name in registry() if with_decays(laws.make(name)) is not None])
def test_extreme_decays_stay_finite(name, decay, dtype):
    """Decays of exactly 0, exactly 1 and 1e-30, and parameters beyond them, give no NaN, neither forward nor backward."""
    mixer = laws.make(name, dtype=dtype)
    extreme = eqx.tree_at(
        lambda m: with_decays(m).nu, mixer, replace_fn=lambda nu: jnp.full_like(nu, EXTREME_NUS[decay])
    )
    laws.extremes_stay_finite(extreme, laws.sequence(0, 150).astype(dtype))
