"""Law 8: an independent implementation, given the same weights, gives the same output and the same gradients."""

import jax.numpy as jnp
import pytest

from dualform.mixers import (
    GRU,
    LRU,
    LSTM,
    DenseGatedRNN,
    GatedRNN,
    LinearAttention,
    LRUInOut,
    LRUInSkip,
    LRUOut,
    SideGatedRNN,
    TanhRNN,
)
from tests.oracles.held import TIERS, Held, error

CORE = ("nu", "theta", "gamma", "b_re", "b_im", "c_re", "c_im", "skip")


def linear_attention(x, w_v, w_k, w_q, w_o):
    return LinearAttention(w_v, w_k, w_q, w_o)(x)[0]


def gated_rnn(x, w_m_in, w_x_in, w_m_out, w_x_out, readout, nu):
    return GatedRNN(w_m_in=w_m_in, w_x_in=w_x_in, w_m_out=w_m_out, w_x_out=w_x_out, readout=readout, nu=nu)(x)[0]


def dense_gated_rnn(x, **weights):
    return DenseGatedRNN(**weights)(x)[0]


def side_gated_rnn(x, w_m_in, w_x_in, w_side, readout, nu):
    return SideGatedRNN(w_m_in=w_m_in, w_x_in=w_x_in, w_side=w_side, readout=readout, nu=nu)(x)[0]


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
        return kind(core=core, **weights)(x)[0]

    return ours


def held(mixer, ours, peer="the paper's equations in PyTorch"):
    """Functions of keyword arguments that give y alone."""
    return Held(mixer, lambda a: {"y": ours(**a)}, peer)


HELD = {
    "linear_attention": held("linear_attention", linear_attention),
    "gated_rnn": held("gated_rnn", gated_rnn),
    "dense_gated_rnn": held("dense_gated_rnn", dense_gated_rnn),
    "side_gated_rnn": held("side_gated_rnn", side_gated_rnn),
    "torch_lstm": held("lstm", torch_lstm, "torch 2.13.0"),
    "torch_gru": held("gru", torch_gru, "torch 2.13.0"),
    "torch_rnn": held("tanh_rnn", torch_rnn, "torch 2.13.0"),
    "chung_lstm": held("lstm_chung", chung_lstm),
    "chung_gru": held("gru_chung", chung_gru),
    "lru": held("lru", lru),
    "lru_matrix_skip": held("lru", lru_matrix_skip),
    "lru_out": held("lru_out", gated_lru(LRUOut)),
    "lru_in_out": held("lru_in_out", gated_lru(LRUInOut)),
    "lru_in_skip": held("lru_in_skip", gated_lru(LRUInSkip)),
}


@TIERS
@pytest.mark.parametrize("stem", HELD)
def test_the_oracle_agrees(stem, gradients):
    """Outputs and the gradients of the input and of every weight are those that PyTorch gives."""
    assert error(stem, HELD[stem], gradients) <= HELD[stem].tolerance
