"""Constants: numbers that no training sees, and that are arrays in every other way."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from dualform.checkpoints import load_weights, save_weights
from dualform.errors import InputError
from dualform.mixers import Constant, GatedRNN, RetNet
from dualform.training import initial_state, select_units
from dualform.training.config import FitConfig
from dualform.training.state import arrays_of, state_from

NUMBERS = [0.0, -0.0, 1.0, 0.1, 1e-300, -3.5]


def given(decay: Any, n: int = 6) -> GatedRNN:
    rnn: Any = GatedRNN.make(3, key=jr.key(0), n=n)
    return GatedRNN(
        w_m_in=rnn.w_m_in, w_x_in=rnn.w_x_in, w_m_out=rnn.w_m_out, w_x_out=rnn.w_x_out, readout=rnn.readout, decay=decay
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_numbers_are_kept_to_the_bit(dtype):
    """What was given is what is read, in its own dtype, -0 included; integers become floating-point numbers."""
    values = jnp.asarray(NUMBERS, dtype)
    constant = Constant.of(values)
    assert constant.value.dtype == constant.dtype == values.dtype
    assert np.asarray(constant.value).tobytes() == np.asarray(values).tobytes()
    assert (constant.shape, constant.ndim, constant.size, len(constant)) == ((6,), 1, 6, 6)
    assert Constant.of(constant) is constant
    assert Constant.of([1, 0]).value.tolist() == [1.0, 0.0]
    np.testing.assert_array_equal(np.asarray(constant), np.asarray(values))
    np.testing.assert_array_equal(jnp.asarray(constant), values)


def test_float64_where_float32_is_the_default():
    """A constant of 64 bits keeps them where JAX's default is 32."""
    constant = Constant.of(jnp.asarray(NUMBERS))
    with jax.enable_x64(False):
        assert np.asarray(constant.value).tobytes() == np.asarray(NUMBERS).tobytes()
        assert Constant.of(np.asarray([0.1])).value.dtype == jnp.float32


def test_a_cast_of_the_weights_passes_it_by():
    """Weights cast to bfloat16 leave the decays what they were; a cast of every leaf is refused, with the cure."""
    rnn = given(jnp.full(6, 1 - 2.0**-12))
    cast = jax.tree_util.tree_map(lambda a: a.astype(jnp.bfloat16) if eqx.is_inexact_array(a) else a, rnn)
    assert cast.readout.dtype == jnp.bfloat16 and (cast.decay == 1 - 2.0**-12).all()
    everything: Any = jax.tree_util.tree_map(lambda a: a.astype(jnp.bfloat16), rnn)
    with pytest.raises(InputError, match="bits of a constant are bfloat16, .* only the leaves that equinox.is_inexact"):
        _ = everything.decay


def test_each_member_of_an_ensemble_has_its_own():
    """Stacked and mapped over, every network keeps the decays that it was given."""
    networks = [given(jnp.full(6, decay)) for decay in (0.0, 0.5, 1.0)]
    stacked: Any = jax.tree_util.tree_map(lambda *a: jnp.stack(a), *networks)
    found = eqx.filter_jit(eqx.filter_vmap(lambda rnn: rnn.decay))(stacked)
    np.testing.assert_array_equal(found, np.repeat([[0.0], [0.5], [1.0]], 6, axis=1))


def test_no_gradient_reaches_what_made_it():
    """What a constant was made of gets a gradient of 0; one in a mixer has none."""
    assert float(jax.grad(lambda a: jnp.sum(Constant.of(a[None]).value))(jnp.asarray(0.5))) == 0
    gradient: Any = eqx.filter_grad(lambda rnn: jnp.sum(rnn.decay * rnn.readout[0, :6]))(given(jnp.full(6, 0.5)))
    assert gradient.given_decay.bits is None and (gradient.readout[0] == 0.5).all()


def test_files_and_checkpoints_hold_it(tmp_path):
    """A file of weights has it as an array; a training state, taken apart and put together, has it to the bit."""
    rnn = given(jnp.asarray(NUMBERS[2:5] + [0.0, 0.25, 0.5]))
    save_weights(tmp_path / "w.safetensors", rnn)
    again: Any = load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(again.decay, rnn.decay)
    assert isinstance(again.given_decay, Constant)
    state = initial_state(rnn, FitConfig(steps=1, warmup=0))
    np.testing.assert_array_equal(state_from(arrays_of(state), state).model.decay, rnn.decay)


def test_units_are_taken_out_with_their_decays():
    """A network, and a training state, of fewer units has the decays of those."""
    rnn = given(jnp.asarray([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]))
    state: Any = select_units(initial_state(rnn, FitConfig(steps=1, warmup=0)), np.asarray([4, 1]))
    np.testing.assert_array_equal(state.model.decay, [0.4, 0.1])
    assert optax.tree.get(state.optimiser, "mu").given_decay.bits is None
    with pytest.raises(InputError, match="there is no hidden unit 6; the network has 6"):
        select_units(rnn, np.asarray([6]))


def test_retention_is_below_one_in_bfloat16():
    """The decays of 16 heads in bfloat16 are the published ones, all below 1."""
    gamma = np.asarray(RetNet.make(32, key=jr.key(0), heads=16, dtype=jnp.bfloat16).gamma)
    np.testing.assert_array_equal(gamma, (1 - 2.0 ** (-5 - np.arange(16))).astype(np.float32))
