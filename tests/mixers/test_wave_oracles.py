"""Law 8 for the wave RNN, the PGN and TPGN: the public implementations give the same, with gradients."""

import equinox as eqx
import jax.numpy as jnp
import pytest

from dualform.mixers import PGN, WaveRNN
from dualform.models.tpgn import TPGN
from tests.oracles.held import TIERS, Held, error

WAVE, PEER = "Wave_RNNs 2630b88", "TPGN 4bbe2be"


def wave_rnn(a):
    """Wave_RNNs: one bias for each unit, and one for each channel."""
    c = len(a["cell.Wy.weight"])
    by_channel = lambda name: a[name].reshape(c, -1, *a[name].shape[1:])
    b = by_channel("cell.Wx.bias") + a["cell.Wy.bias"][:, None]
    w_o, b_o = a["readout.weight"], a["readout.bias"]
    mixer = WaveRNN(u=a["cell.Wy.weight"], v=by_channel("cell.Wx.weight"), b=b, w_o=w_o, b_o=b_o)
    return {"y": mixer(a["x"])[0]}


def core(a, prefix=""):
    """TPGN's convolutions have the time axis last; its gate has the rows of sigma first."""
    w_h, b_h = a[f"{prefix}hidden_MLP.weight"], a[f"{prefix}hidden_MLP.bias"]
    (w_g, w_t), (b_g, b_t) = (jnp.split(a[f"{prefix}gate.{kind}"], 2) for kind in ("weight", "bias"))
    return PGN(w_h=w_h.transpose(0, 2, 1), b_h=b_h, w_g=w_g[:, :, 0], b_g=b_g, w_t=w_t[:, :, 0], b_t=b_t)


def pgn(a):
    return {"y": core(a)(a["x"])[0]}


def forecaster(a, normalise):
    """One series's `Model`."""
    flat = lambda name: (a[f"{name}.weight"].reshape(len(a[f"{name}.weight"]), -1), a[f"{name}.bias"])
    long, row = flat("TPGN.LNN_dim.fc"), flat("TPGN.s_t_p_e.fc_row")
    return TPGN(core(a, "TPGN.LNN_dim."), *long, *row, *flat("TPGN.s_t_p_e.fc_col"), *flat("TPGN.fc"), normalise)


def tpgn(normalise):
    """Series by series; the peer's grouped convolutions hold the weights of the first, then those of the next."""

    def ours(a):
        x, marks = a["x"].T.astype(float), a["marks"]
        own = {k: v.reshape(len(x), -1, *v.shape[1:]) for k, v in a.items() if k not in ("x", "marks")}
        forecast = lambda own, series: forecaster(own, normalise)(series, marks)
        return {"y": eqx.filter_vmap(forecast)(own, x).T}

    return ours


HELD = {
    "wave_rnn": Held("wave_rnn", wave_rnn, WAVE),
    "wave_rnn_wide": Held("wave_rnn", wave_rnn, WAVE),
    "wave_rnn_published": Held("wave_rnn", wave_rnn, WAVE),
    "pgn": Held("pgn", pgn, PEER),
    "pgn_whole_past": Held("pgn", pgn, PEER),
    "pgn_extreme": Held("pgn", pgn, PEER),
    "tpgn": Held("tpgn", tpgn(False), PEER),
    "tpgn_normalised": Held("tpgn", tpgn(True), PEER),
    "tpgn_two_series": Held("tpgn", tpgn(True), PEER),
}
"""TPGN is a model, and in no registry."""


@TIERS
@pytest.mark.parametrize("stem", HELD)
def test_the_oracle_agrees(stem, gradients):
    """Outputs, and the gradients of input and every weight, are those of the peer."""
    assert error(stem, HELD[stem], gradients) <= HELD[stem].tolerance
