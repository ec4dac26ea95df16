"""Law 8 for HGRN, minGRU, minLSTM, RG-LRU and Griffin's block: the public implementations give the same, with gradients."""

import jax.numpy as jnp
import pytest

from dualform.mixers import HGRN, RGLRU, GriffinRecurrent, HGRNComplex, MinGRU, MinLSTM
from tests.oracles.held import TIERS, Held, error

FLOAT32 = 1e-6  # relative: what the peer computes in float32
CANCELLED = 1e-8  # relative: the peer subtracts a^2 from 1, and loses digits where a nears 1; here that is an expm1

HGRU, MINGRU = "hgru-pytorch 09f4ed2c78", "mingru-scans 0.2.0"
PORT, GEMMA = "minGRU-pytorch 0.2.1", "recurrentgemma 1.0.1"
KINDS = (("w", "weight"), ("b", "bias"))


def shared(a):
    """What hgru-pytorch's two modules share, in our names."""
    names = {"f": "lambda_proj", "g": "gate", "o": "out_proj"}
    named = {f"{ours}_{gate}": a[f"{name}.{kind}"] for gate, name in names.items() for ours, kind in KINDS}
    return named | {"norm_weight": a["norm.weight"], "norm_bias": a["norm.bias"], "gamma": a["gamma"]}


def hgrn(a):
    """hgru-pytorch's names."""
    return {"y": HGRN(w_c=a["input_proj.weight"], b_c=a["input_proj.bias"], **shared(a))(a["x"])[0]}


def hgrn_fla(a):
    """fla's form: no biases, an RMS norm, and from a state."""
    mixer = HGRN(w_c=a["w_c"], w_f=a["w_f"], w_g=a["w_g"], w_o=a["w_o"], norm_weight=a["norm_weight"], gamma=a["gamma"])
    y, final = mixer(a["x"], a["h_0"])
    return {"y": y, "final": final}


def hgrn_complex(a):
    """hgru-pytorch interleaves real and imaginary parts of the candidate."""
    n, d = a["lambda_proj.weight"].shape
    mixer = HGRNComplex(
        w_c=a["input_proj.weight"].reshape(n, 2, d).transpose(1, 0, 2),
        b_c=a["input_proj.bias"].reshape(n, 2).T,
        theta=a["theta"].reshape(n),
        **shared(a),
    )
    return {"y": mixer(a["x"])[0]}


def min_gru_port(a):
    """minGRU-pytorch: one matrix, the candidate's rows first."""
    w_h, w_z = jnp.split(a["to_hidden_and_gate.weight"], 2)
    return {"y": MinGRU(w_z=w_z, w_h=w_h, w_o=a["to_out.weight"], candidate="positive")(a["x"])[0]}


def min_lstm_port(a):
    """minGRU-pytorch: one matrix, the candidate's rows first."""
    w_h, w_f, w_i = jnp.split(a["to_hidden_and_f_i_gate.weight"], 3)
    return {"y": MinLSTM(w_f=w_f, w_i=w_i, w_h=w_h, w_o=a["to_out.weight"], candidate="positive")(a["x"])[0]}


def mingru_scans(candidate):
    def ours(a):
        w_z, b_z, w_h, b_h = (a[f"linear_{gate}.{kind}"] for gate in "zh" for kind in ("weight", "bias"))
        return {"y": MinGRU(w_z=w_z, w_h=w_h, b_z=b_z, b_h=b_h, candidate=candidate)(a["x"], a["h_0"])[0]}

    return ours


def min_lstm(a):
    mixer = MinLSTM(w_f=a["w_f"], w_i=a["w_i"], w_h=a["w_h"], w_o=None, b_f=a["b_f"], b_i=a["b_i"], b_h=a["b_h"])
    return {"y": mixer(a["x"], a["h_0"])[0]}


def core(a, prefix=""):
    """recurrentgemma's blocks are (head, columns, rows)."""
    turned = lambda name: a[f"{prefix}{name}"].transpose(0, 2, 1)
    return RGLRU(
        w_a=turned("a_gate.w"),
        w_x=turned("input_gate.w"),
        b_a=a[f"{prefix}a_gate.b"],
        b_x=a[f"{prefix}input_gate.b"],
        lam=a[f"{prefix}a_param"],
    )


def rg_lru(a):
    mixer = core(a)
    state = (a["h_0"], jnp.ones((), jnp.int32)) if "h_0" in a else None
    y, (final, _) = mixer(a["x"], state, start=a["segment_pos"] == 0)
    return {"y": y, "final": final}


def block(a):
    theirs = {"y": "y", "x": "x", "o": "out"}
    linear = {f"w_{ours}": a[f"linear_{name}.weight"] for ours, name in theirs.items()}
    linear |= {f"b_{ours}": a[f"linear_{name}.bias"] for ours, name in theirs.items()}
    return GriffinRecurrent(kernel=a["conv_1d.w"], b_conv=a["conv_1d.b"], core=core(a, "rg_lru."), **linear)


def griffin(a):
    y, (_, (final, _)) = block(a)(a["x"], start=a["segment_pos"] == 0)
    return {"y": y, "final": final}


def griffin_split(a):
    """A prompt of 4 tokens and steps; where the first document begins, the fresh state alone says."""
    mixer = block(a)
    y, state = mixer(a["x"][:4])
    outputs = [y]
    for x_t in a["x"][4:]:
        y_t, state = mixer.step(x_t, state)
        outputs.append(y_t[None])
    return {"y": jnp.concatenate(outputs), "final": state[1][0]}


EQUATIONS = "the paper's equations in PyTorch"
HELD = {
    "hgrn": Held("hgrn", hgrn, HGRU),
    "hgrn_extreme": Held("hgrn", hgrn, HGRU),
    "hgrn_fla": Held("hgrn", hgrn_fla, "fla-core 0.6.0", FLOAT32),
    "hgrn_complex": Held("hgrn_complex", hgrn_complex, HGRU),
    "min_gru": Held("min_gru", mingru_scans("linear"), MINGRU),
    "min_gru_log": Held("min_gru_log", min_gru_port, PORT),
    "min_gru_log_extreme": Held("min_gru_log", min_gru_port, PORT),
    "min_gru_log_state": Held("min_gru_log", mingru_scans("positive"), MINGRU),
    "min_lstm": Held("min_lstm", min_lstm, EQUATIONS),
    "min_lstm_log": Held("min_lstm_log", min_lstm_port, PORT),
    "min_lstm_log_extreme": Held("min_lstm_log", min_lstm_port, PORT),
    "rg_lru": Held("rg_lru", rg_lru, GEMMA),
    "rg_lru_carried": Held("rg_lru", rg_lru, GEMMA),
    "rg_lru_extreme": Held("rg_lru", rg_lru, GEMMA, CANCELLED),
    "griffin_recurrent": Held("griffin_recurrent", griffin, GEMMA),
    "griffin_recurrent_split": Held("griffin_recurrent", griffin_split, GEMMA),
}


@TIERS
@pytest.mark.parametrize("stem", HELD)
def test_the_oracle_agrees(stem, gradients):
    """Outputs, final states, and the gradients of input, state and every weight are those of the peer."""
    assert error(stem, HELD[stem], gradients) <= HELD[stem].tolerance
