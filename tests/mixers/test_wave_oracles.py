"""Law 8 for the wave RNN, the PGN and TPGN: the public implementations give the same, with gradients."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
import safetensors

from dualform.mixers import PGN, WaveRNN
from dualform.models.tpgn import TPGN
from tests.laws.laws import EXACT, check_close

DATA = Path(__file__).parents[1] / "oracles" / "data"
WAVE, PEER = "Wave_RNNs 2630b88", "TPGN 4bbe2be"
ORACLES = {"wave_rnn": ("wave_rnn", WAVE, EXACT), "pgn": ("pgn", PEER, EXACT)}


def wave_rnn(a):
    """Wave_RNNs: one bias for each unit, and one for each channel."""
    c = len(a["cell.Wy.weight"])
    by_channel = lambda name: a[name].reshape(c, -1, *a[name].shape[1:])
    b = by_channel("cell.Wx.bias") + a["cell.Wy.bias"][:, None]
    readout = a["readout.weight"], a["readout.bias"]
    mixer = WaveRNN(a["cell.Wy.weight"], by_channel("cell.Wx.weight"), b, *readout)
    return mixer(a["x"])[0]


def core(a, prefix=""):
    """TPGN's convolutions have the time axis last; its gate has the rows of sigma first."""
    w_h, b_h = a[f"{prefix}hidden_MLP.weight"], a[f"{prefix}hidden_MLP.bias"]
    (w_g, w_t), (b_g, b_t) = (jnp.split(a[f"{prefix}gate.{kind}"], 2) for kind in ("weight", "bias"))
    return PGN(w_h.transpose(0, 2, 1), b_h, w_g[:, :, 0], b_g, w_t[:, :, 0], b_t)


def pgn(a):
    return core(a)(a["x"])[0]


def forecaster(a, normalise):
    """One series's `Model`."""
    flat = lambda name: (a[f"{name}.weight"].reshape(len(a[f"{name}.weight"]), -1), a[f"{name}.bias"])
    long, row = flat("TPGN.LNN_dim.fc"), flat("TPGN.s_t_p_e.fc_row")
    return TPGN(core(a, "TPGN.LNN_dim."), *long, *row, *flat("TPGN.s_t_p_e.fc_col"), *flat("TPGN.fc"), normalise)


def tpgn(normalise):
    """Series by series; the peer's grouped convolutions hold the weights of the first, then those of the next."""

    def ours(a):
        x, marks = a["x"].T, a["marks"]
        own = {k: v.reshape(len(x), -1, *v.shape[1:]) for k, v in a.items() if k not in ("x", "marks")}
        forecast = lambda own, series: forecaster(own, normalise)(series, marks)
        return eqx.filter_vmap(forecast)(own, x).T

    return ours


OURS = {
    "wave_rnn": (wave_rnn, WAVE),
    "wave_rnn_wide": (wave_rnn, WAVE),
    "wave_rnn_published": (wave_rnn, WAVE),
    "pgn": (pgn, PEER),
    "pgn_whole_past": (pgn, PEER),
    "pgn_extreme": (pgn, PEER),
    "tpgn": (tpgn(False), PEER),
    "tpgn_normalised": (tpgn(True), PEER),
    "tpgn_two_series": (tpgn(True), PEER),
}


@pytest.mark.parametrize("stem", OURS)
def test_the_oracle_agrees(stem):
    """Outputs, and the gradients of input and every weight, are those of the peer."""
    ours, peer = OURS[stem]
    with safetensors.safe_open(DATA / f"{stem}.safetensors", "flax") as file:
        stored, made_by = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    assert made_by["peer"] == peer and made_by["torch"].startswith("2.13.0")
    y, cotangent = stored.pop("output.y"), stored.pop("cotangent.y")
    expected = {k.removeprefix("gradient."): stored.pop(k) for k in list(stored) if k.startswith("gradient.")}
    fixed = {k: stored.pop(k) for k in list(stored) if k not in expected}
    assert set(fixed) <= {"x"} and all(bool(jnp.any(g != 0)) for g in expected.values())

    @jax.jit
    def run(given, cotangent):
        found, pull = jax.vjp(lambda given: ours(given | fixed), given)
        return found, pull(cotangent)[0]

    found, gradients = run(stored, cotangent)
    check_close(found, y, EXACT, "outputs")
    check_close(gradients, expected, EXACT, "gradients")


def test_every_oracle_is_tried():
    """What the table of oracles says is what the test above holds to."""
    for stem, peer, tolerance in ORACLES.values():
        assert OURS[stem][1] == peer and tolerance == EXACT
