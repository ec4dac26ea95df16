"""What training changes and what weight decay acts on: by declaration, held to a table written out here."""

from typing import Any

import jax.random as jr
import pytest

from dualform.mixers import GLA, GRU, LRU, GatedRNN, RetNet, SideGatedRNN, registry
from dualform.models import (
    MLP,
    Block,
    GatedMLP,
    LanguageModel,
    LayerNorm,
    RMSNorm,
    SequenceModel,
    Stack,
)
from tests.laws import laws, trained

LRU_CORE = "core.b_re core.b_im core.c_re core.c_im"
GATES = "w_m_in w_x_in w_m_out w_x_out"
DECAYED = {
    "linear_attention": "w_v w_k w_q",
    "gated_rnn": f"{GATES} readout",
    "dense_gated_rnn": f"transition {GATES} readout",
    "side_gated_rnn": "w_m_in w_x_in w_side readout",
    "lru": "b_re b_im c_re c_im",
    "lru_out": f"{LRU_CORE} w_m_out w_x_out",
    "lru_in_out": f"{LRU_CORE} {GATES}",
    "lru_in_skip": f"{LRU_CORE} {GATES}",
    "lstm": "u v",
    "lstm_chung": "u v",
    "gru": "u v",
    "gru_chung": "u v",
    "tanh_rnn": "u v",
    "hgrn": "w_c w_f w_g w_o",
    "hgrn_complex": "w_c w_f w_g w_o",
    "min_gru": "w_z w_h",
    "min_gru_log": "w_z w_h",
    "min_lstm": "w_f w_i w_h",
    "min_lstm_log": "w_f w_i w_h",
    "rg_lru": "w_a w_x",
    "griffin_recurrent": "w_y w_x kernel core.w_a core.w_x w_o",
    "gla": "w_q w_k w_v a_1 a_2 w_g w_o",
    "hgrn2": "w_q w_f w_v w_o",
    "retnet": "w_q w_k w_v w_g w_o",
    "delta_rule": "w_q w_k w_v c_q c_k c_v w_b w_o",
    "gated_delta_rule": "w_q w_k w_v c_q c_k c_v w_b w_a w_g w_o",
    "gsa": "w_q w_k w_v w_f w_o",
    "wave_rnn": "u v w_o",
    "pgn": "w_h w_g w_t",
    "causal_convolution": "kernel",
    "aaren": "w_k w_v w_o",
    "softmax_attention": "w_q w_k w_v w_o",
    "multi_query_attention": "w_q w_k w_v w_o",
    "local_attention": "w_q w_k w_v w_o",
    "cross_attention": "w_q w_k w_v w_o",
    "position_aware_cross_attention": "w_q w_k w_v w_o "
    + " ".join(f"recurrence.{name}" for name in ("w_q", "w_k", "w_v", "a_1", "a_2", "w_g", "w_o")),
    "mamba": "w_u w_z kernel w_b w_c w_1 w_2 w_o",
    "mamba2": "w_v w_z w_b w_c w_delta kernel w_o",
    "rwkv4": "w_k w_v w_r w_o",
    "rwkv4_channel": "w_k w_r w_v",
}
"""The matrices: what maps tokens or states, convolutions and recurrent kernels. Not decays, rates, phases, steps, bounds, skips,
norms, mixes, a learned query, peepholes or biases."""

CONSTANTS = {"retnet": {"gamma"}, "hgrn": {"gamma"}, "hgrn_complex": {"gamma"}, "hgrn2": {"gamma"}}
"""What a mixer is given and does not learn, where it is given anything."""


def models() -> dict[str, tuple[Any, str]]:
    """Models of every kind, and what weight decay acts on in them."""
    block = Block.make(GLA.make(4, key=jr.key(0)), key=jr.key(1), mlp="swiglu", bias=True)
    plain = Block.make(GRU.make(4, key=jr.key(0)), key=jr.key(1), norm="layer", mlp="gelu")
    gla = " ".join(f"blocks[0].mixer.{name}" for name in DECAYED["gla"].split())
    gated = " ".join(f"blocks[0].mlp.{name}" for name in ("w_gate", "w_up", "w_down"))
    gru = "blocks[0].mixer.u blocks[0].mixer.v blocks[0].mlp.w_up blocks[0].mlp.w_down"
    layers = LRU.make(4, key=jr.key(0)), GRU.make(4, key=jr.key(0))
    return {
        "language": (
            LanguageModel.make((block,), 8, key=jr.key(2), norm=RMSNorm.make(4), embedding_norm=LayerNorm.make(4)),
            f"embedding head {gla} {gated}",
        ),
        "sequence": (
            SequenceModel.make((plain,), 3, 2, key=jr.key(2), norm=LayerNorm.make(4), pool="mean"),
            f"w_in w_out {gru}",
        ),
        "stack": (
            Stack.make(layers, 3, 2, key=jr.key(2)),
            "embedding readout layers[0].b_re layers[0].b_im layers[0].c_re layers[0].c_im layers[1].u layers[1].v",
        ),
        "norm": (RMSNorm.make(4), ""),
        "layer norm": (LayerNorm.make(4), ""),
        "mlp": (MLP.make(4, key=jr.key(0)), "w_up w_down"),
        "gated mlp": (GatedMLP.make(4, key=jr.key(0), bias=True), "w_gate w_up w_down"),
    }


@pytest.mark.parametrize("name", registry())
def test_weight_decay_acts_on_what_is_declared(name):
    """Every registered mixer, and every part of it, declares its matrices; those of this package are in the table."""
    mixer = laws.make(name)
    trained.every_class_declares(mixer)
    ours = type(mixer).__module__.startswith("dualform.")
    trained.weight_decay_acts_on(mixer, set(DECAYED[name].split() if ours else mixer.weight_decayed or ()))


def test_weight_decay_in_models():
    """Embeddings, heads, MLPs and mixers in models have their matrices decayed; norms and biases nothing."""
    for model, expected in models().values():
        trained.weight_decay_acts_on(model, set(expected.split()))


@pytest.mark.parametrize("name", registry())
def test_what_is_given_is_not_trained(name):
    """What is given is a constant, which neither gradients nor optimisers are shown; everything else is trained."""
    trained.constants_are(laws.make(name), CONSTANTS.get(name, set()))


def given() -> dict[str, Any]:
    """Networks whose decays are given, and a constant deep in a model."""
    rnn: Any = laws.make("gated_rnn")
    side: Any = laws.make("side_gated_rnn")
    block = Block.make(RetNet.make(4, key=jr.key(0)), key=jr.key(1))
    return {
        "given_decay": GatedRNN(
            w_m_in=rnn.w_m_in,
            w_x_in=rnn.w_x_in,
            w_m_out=rnn.w_m_out,
            w_x_out=rnn.w_x_out,
            readout=rnn.readout,
            decay=rnn.decay,
        ),
        "given_decay ": SideGatedRNN(
            w_m_in=side.w_m_in, w_x_in=side.w_x_in, w_side=side.w_side, readout=side.readout, decay=side.decay
        ),
        "blocks[0].mixer.gamma": LanguageModel.make((block,), 8, key=jr.key(2)),
    }


def test_given_decays_and_constants_in_models():
    """So it is for decays that are given, and for a constant deep in a model."""
    for path, module in given().items():
        trained.constants_are(module, {path.strip()})


def test_no_step_moves_a_constant():
    """A step of AdamW, of optax and of ours, leaves every kind of constant to the bit, and moves all else."""
    for module in (laws.make("retnet"), laws.make("hgrn_complex"), *given().values()):
        trained.no_step_moves_a_constant(module)
