"""Law 8: an independent implementation, given the same weights, gives the same output and the same gradients."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import safetensors

from dualform.mixers import GRU, LRU, LSTM, GatedRNN, LinearAttention, LRUInOut, LRUInSkip, LRUOut, TanhRNN
from tests.laws.laws import EXACT, check_close

DATA = Path(__file__).parents[1] / "oracles" / "data"
CORE = ("nu", "theta", "gamma", "b_re", "b_im", "c_re", "c_im", "skip")


def linear_attention(x, w_v, w_k, w_q, w_o):
    return LinearAttention(w_v, w_k, w_q, w_o)(x)[0]


def gated_rnn(x, w_m_in, w_x_in, w_m_out, w_x_out, readout, nu):
    return GatedRNN(w_m_in, w_x_in, w_m_out, w_x_out, readout, nu=nu)(x)[0]


def torch_lstm(x, **parameters):
    return LSTM.from_torch(**parameters)(x)[0]


def torch_gru(x, **parameters):
    return GRU.from_torch(**parameters)(x)[0]


def torch_rnn(x, **parameters):
    return TanhRNN.from_torch(**parameters)(x)[0]


def chung_lstm(x, **w):
    gates = lambda letter, order: jnp.stack([w[f"{letter}_{gate}"] for gate in order])
    return LSTM(gates("w", "ifco"), gates("u", "ifco"), gates("b", "ifco"), gates("v", "ifo"))(x)[0]


def chung_gru(x, **w):
    gates = lambda letter: jnp.stack([w[f"{letter}_r"], w[f"{letter}_z"], w[letter]])
    return GRU(gates("w"), gates("u"), gates("b"))(x)[0]


def lru(x, **core):
    return LRU(**core)(x)[0]


def lru_matrix_skip(x, **core):
    return LRU(**core)(x)[0]


def gated_lru(kind):
    def ours(x, **weights):
        core = LRU(**{name: weights.pop(name) for name in CORE})
        return kind(core, **weights)(x)[0]

    return ours


ZUCCHET, CELLS = "20230905", "20231214"
ORACLES = {
    "linear_attention": (linear_attention, ZUCCHET),
    "gated_rnn": (gated_rnn, ZUCCHET),
    "torch_lstm": (torch_lstm, CELLS),
    "torch_gru": (torch_gru, CELLS),
    "torch_rnn": (torch_rnn, CELLS),
    "chung_lstm": (chung_lstm, CELLS),
    "chung_gru": (chung_gru, CELLS),
    "lru": (lru, CELLS),
    "lru_matrix_skip": (lru_matrix_skip, CELLS),
    "lru_out": (gated_lru(LRUOut), CELLS),
    "lru_in_out": (gated_lru(LRUInOut), CELLS),
    "lru_in_skip": (gated_lru(LRUInSkip), CELLS),
}


@pytest.mark.parametrize("name", ORACLES)
def test_the_oracle_agrees(name):
    """Outputs and the gradients of the input and of every weight are those that PyTorch gives."""
    ours, seed = ORACLES[name]
    with safetensors.safe_open(DATA / f"{name}.safetensors", "flax") as file:
        stored, made_by = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    assert made_by["torch"].startswith("2.13.0") and made_by["seed"] == seed and made_by["dtype"] == "float64"
    y, cotangent = stored.pop("y"), stored.pop("cotangent")
    expected = {name: stored.pop(name) for name in [k for k in stored if k.startswith("gradient.")]}

    @jax.jit
    def run(weights, cotangent):
        found, pull = jax.vjp(lambda weights: ours(**weights), weights)
        return found, pull(cotangent)[0]

    found, gradients = run(stored, cotangent)
    check_close(found, y, EXACT, "outputs")
    assert {f"gradient.{name}" for name in gradients} == set(expected) and all(
        jnp.any(g != 0) for g in expected.values()
    )
    check_close({f"gradient.{name}": g for name, g in gradients.items()}, expected, EXACT, "gradients")
