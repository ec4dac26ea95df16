"""minGRU and minLSTM: exact answers, saturated gates, and what they say of weights that do not fit."""

import dataclasses
from itertools import product

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.maps import Diagonal
from dualform.mixers import MinGRU, MinLSTM
from dualform.mixers.min_gru import positive
from tests.laws import laws
from tests.tiers import tiers

ZEROS, EYE = np.zeros((2, 2)), np.eye(2)


def test_halves():
    """Gates of 1/2 give the running mean h_t = (h_{t-1} + x_t) / 2, exactly, in both cells."""
    x = jnp.array([[8.0, -8.0], [0.0, 4.0], [1.0, 0.0]])
    expected = [[4.0, -4.0], [2.0, 0.0], [1.5, 0.0]]
    for mixer in (MinGRU(w_z=ZEROS, w_h=EYE), MinLSTM(w_f=ZEROS, w_i=ZEROS, w_h=EYE)):
        y, final = mixer(x)
        assert y.tolist() == expected and final.tolist() == expected[-1]
        assert mixer(x[1:], final)[0].tolist() == [[0.75, 2.0], [0.875, 1.0]]


def test_the_positive_candidate():
    """g(a) = a + 1/2 where a >= 0, sigma(a) elsewhere: it meets at 0, stays above 0, and its gradient is finite."""
    a = jnp.array([-800.0, -1.0, -0.0, 0.0, 3.0])
    found = np.asarray(positive(a))
    np.testing.assert_allclose(found, [0.0, 1 / (1 + np.e), 0.5, 0.5, 3.5], rtol=1e-15)
    slope = np.asarray(jax.vmap(jax.grad(positive))(a))
    np.testing.assert_allclose(slope, [0.0, np.e / (1 + np.e) ** 2, 1.0, 1.0, 1.0], rtol=1e-14)


def test_a_positive_state_stays_in_linear_space():
    """The state handed on is h itself: a second call continues with it, and no logarithm of it is taken again."""
    for name in ("min_gru_log", "min_lstm_log"):
        mixer, x = laws.make(name), laws.sequence(0, 6)
        y, state = laws.call(mixer, x[:4])
        laws.check_same_bits(state, y[-1], "the state")
        assert bool(jnp.all(y > 0))


@pytest.mark.parametrize("low", [-1e4, -1e3, -800.0])
def test_both_gates_shut(low):
    """Where f and i both underflow, their shares are still those of their ratio: 1/2 each, or e^-1 to 1."""
    for shift, share in ((0.0, 0.5), (-1.0, 1 / (1 + np.e))):
        mixer = MinLSTM(w_f=ZEROS, w_i=ZEROS, w_h=EYE, b_f=np.full(2, low + shift), b_i=np.full(2, low))
        memory = laws.attention(mixer, jnp.ones((1, 2))).memory
        assert isinstance(memory, Diagonal) and memory.write is not None
        keep, write = memory.decay, memory.write
        np.testing.assert_allclose(np.asarray(keep), share, rtol=1e-12)
        np.testing.assert_allclose(np.asarray(keep + write), 1.0, rtol=1e-15)


@pytest.mark.parametrize(
    ("bias", "dtype"),
    tiers(product([-1e4, -70.0, 1e4], [jnp.float32, jnp.bfloat16]), (-1e4, jnp.float32), (-70.0, jnp.bfloat16)),
)
def test_saturated_gates_stay_finite(bias, dtype):
    """Gates that are open, shut, or 1e-30 give no NaN, neither forward nor in gradients."""
    for name, field in (("min_gru", "b_z"), ("min_gru_log", "b_z"), ("min_lstm", "b_f"), ("min_lstm_log", "b_i")):
        mixer = dataclasses.replace(laws.make(name, dtype=dtype), **{field: jnp.full(4, bias, dtype)})
        laws.extremes_stay_finite(mixer, laws.sequence(0, 6).astype(dtype))


W = np.zeros((3, 2))
BAD = {
    "a flat gate": (
        lambda: MinGRU(w_z=np.zeros(2), w_h=W),
        r"w_z has shape \(2,\); it must be \(3, 2\): \(n, d\), where n is 3 in w_h",
    ),
    "an empty gate": (
        lambda: MinGRU(w_z=np.zeros((0, 2)), w_h=W),
        r"w_z has shape \(0, 2\); it must be \(3, 2\): \(n, d\)",
    ),
    "two widths": (lambda: MinGRU(w_z=W, w_h=W.T), r"w_h has shape \(2, 3\); it must be \(3, 2\)"),
    "a short bias": (
        lambda: MinGRU(w_z=W, w_h=W, b_z=np.zeros(2)),
        r"b_z has shape \(2,\); it must be \(3,\), or None",
    ),
    "a turned readout": (
        lambda: MinGRU(w_z=W, w_h=W, w_o=W),
        r"w_o has shape \(3, 2\); it must be \(d_out, 3\), or None",
    ),
    "another candidate": (
        lambda: MinGRU(w_z=W, w_h=W, candidate="log"),
        "there is no candidate 'log'; there are linear and positive",
    ),
    "no unit": (
        lambda: MinGRU.make(4, key=jr.key(0), expansion=0.2),
        "expansion is 0.2; times a width of 4 it must give",
    ),
    "another width": (lambda: MinLSTM(w_f=W, w_i=W.T, w_h=W), r"w_i has shape \(2, 3\); it must be \(3, 2\)"),
    "a long bias": (
        lambda: MinLSTM(w_f=W, w_i=W, w_h=W, b_h=np.zeros(4)),
        r"b_h has shape \(4,\); it must be \(3,\), or None",
    ),
    "a candidate of the LSTM": (lambda: MinLSTM(w_f=W, w_i=W, w_h=W, candidate=""), "there is no candidate ''"),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_fit(unchecked, case):
    """What is wrong with the weights is said, with its value, and what to do."""
    build, message = BAD[case]
    with pytest.raises(InputError, match=message):
        build()
