"""Law 8 for HGRN, minGRU, minLSTM, RG-LRU and Griffin's block: the public implementations give the same, with gradients."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import safetensors

from dualform.mixers import HGRN, RGLRU, GriffinRecurrent, HGRNComplex, MinGRU, MinLSTM
from tests.laws.laws import EXACT, check_close

DATA = Path(__file__).parents[1] / "oracles" / "data"
FLOAT32 = 1e-6  # relative: what the peer computes in float32
CANCELLED = 1e-8  # relative: the peer subtracts a^2 from 1, and loses digits where a nears 1; here that is an expm1

HGRU, MINGRU = "hgru-pytorch 09f4ed2c78", "mingru-scans 0.2.0"
PORT, GEMMA = "minGRU-pytorch 0.2.1", "recurrentgemma 1.0.1"
KINDS = (("w", "weight"), ("b", "bias"))
ORACLES = {
    "hgrn": ("hgrn", HGRU, EXACT),
    "hgrn_complex": ("hgrn_complex", HGRU, EXACT),
    "min_gru": ("min_gru", MINGRU, EXACT),
    "min_gru_log": ("min_gru_log", PORT, EXACT),
    "min_lstm": ("min_lstm", "the paper's equations in PyTorch", EXACT),
    "min_lstm_log": ("min_lstm_log", PORT, EXACT),
    "rg_lru": ("rg_lru", GEMMA, EXACT),
    "griffin_recurrent": ("griffin_recurrent", GEMMA, EXACT),
}


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
    mixer = HGRN(a["w_c"], a["w_f"], a["w_g"], a["w_o"], a["norm_weight"], a["gamma"])
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
    return {"y": MinGRU(w_z, w_h, a["to_out.weight"], candidate="positive")(a["x"])[0]}


def min_lstm_port(a):
    """minGRU-pytorch: one matrix, the candidate's rows first."""
    w_h, w_f, w_i = jnp.split(a["to_hidden_and_f_i_gate.weight"], 3)
    return {"y": MinLSTM(w_f, w_i, w_h, a["to_out.weight"], candidate="positive")(a["x"])[0]}


def mingru_scans(candidate):
    def ours(a):
        w = (a["linear_z.weight"], a["linear_h.weight"], None, a["linear_z.bias"], a["linear_h.bias"])
        return {"y": MinGRU(*w, candidate=candidate)(a["x"], a["h_0"])[0]}

    return ours


def min_lstm(a):
    mixer = MinLSTM(a["w_f"], a["w_i"], a["w_h"], None, a["b_f"], a["b_i"], a["b_h"])
    return {"y": mixer(a["x"], a["h_0"])[0]}


def core(a, prefix=""):
    """recurrentgemma's blocks are (head, columns, rows)."""
    turned = lambda name: a[f"{prefix}{name}"].transpose(0, 2, 1)
    biases = a[f"{prefix}a_gate.b"], a[f"{prefix}input_gate.b"]
    return RGLRU(turned("a_gate.w"), turned("input_gate.w"), *biases, a[f"{prefix}a_param"])


def rg_lru(a):
    mixer = core(a)
    state = (a["h_0"], jnp.ones((), jnp.int32)) if "h_0" in a else None
    y, (final, _) = mixer(a["x"], state, start=a["segment_pos"] == 0)
    return {"y": y, "final": final}


def block(a):
    linear = lambda name: (a[f"linear_{name}.weight"], a[f"linear_{name}.bias"])
    return GriffinRecurrent(
        *linear("y"), *linear("x"), a["conv_1d.w"], a["conv_1d.b"], core(a, "rg_lru."), *linear("out")
    )


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


OURS = {
    "hgrn": (hgrn, HGRU),
    "hgrn_extreme": (hgrn, HGRU),
    "hgrn_fla": (hgrn_fla, "fla-core 0.6.0"),
    "hgrn_complex": (hgrn_complex, HGRU),
    "min_gru": (mingru_scans("linear"), MINGRU),
    "min_gru_log": (min_gru_port, PORT),
    "min_gru_log_extreme": (min_gru_port, PORT),
    "min_gru_log_state": (mingru_scans("positive"), MINGRU),
    "min_lstm": (min_lstm, "the paper's equations in PyTorch"),
    "min_lstm_log": (min_lstm_port, PORT),
    "min_lstm_log_extreme": (min_lstm_port, PORT),
    "rg_lru": (rg_lru, GEMMA),
    "rg_lru_carried": (rg_lru, GEMMA),
    "rg_lru_extreme": (rg_lru, GEMMA),
    "griffin_recurrent": (griffin, GEMMA),
    "griffin_recurrent_split": (griffin_split, GEMMA),
}
TOLERANCES = {"hgrn_fla": FLOAT32, "rg_lru_extreme": CANCELLED}


@pytest.mark.parametrize("stem", OURS)
def test_the_oracle_agrees(stem):
    """Outputs, final states, and the gradients of input, state and every weight are those of the peer."""
    ours, peer = OURS[stem]
    tolerance = TOLERANCES.get(stem, EXACT)
    with safetensors.safe_open(DATA / f"{stem}.safetensors", "flax") as file:
        stored, made_by = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    assert made_by["peer"] == peer and made_by["torch"].startswith("2.13.0")
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    y, cotangents, expected = part("output."), part("cotangent."), part("gradient.")
    given = {k: v for k, v in stored.items() if not k.startswith(("output.", "cotangent.", "gradient."))}
    fixed = {k: given.pop(k) for k in ["segment_pos"] if k in given}

    @jax.jit
    def run(given, cotangents):
        found, pull = jax.vjp(lambda given: ours(given | fixed), given)
        return found, pull(cotangents)[0]

    found, gradients = run(given, cotangents)
    check_close(found, y, tolerance, "outputs")
    assert all(bool(jnp.any(g != 0)) for g in expected.values())
    check_close(gradients, expected, tolerance, "gradients")


def test_every_oracle_is_tried():
    """What the table of oracles says is what the test above holds to."""
    for stem, peer, tolerance in ORACLES.values():
        assert OURS[stem][1] == peer and TOLERANCES.get(stem, EXACT) == tolerance
