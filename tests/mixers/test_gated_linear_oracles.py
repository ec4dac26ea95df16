"""Law 8 for GLA, HGRN2, RetNet, GSA, the delta rules and linear attention: fla's layers and operators give the same."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from dualform.mixers import GLA, GSA, HGRN2, DeltaRule, LinearAttention, RetNet
from dualform.recurrences.delta_rule import delta
from dualform.recurrences.outer_product import outer
from tests.oracles.held import TIERS, Held, error

HEADS = 2


def heads_of(a, name, heads=HEADS):
    """A projection's weight, (head, rows, d)."""
    return a[f"{name}.weight"].reshape(heads, -1, a[f"{name}.weight"].shape[1])


def gla(a):
    """fla's `GatedLinearAttention`."""
    mixer = GLA(
        w_q=heads_of(a, "q_proj"),
        w_k=heads_of(a, "k_proj"),
        w_v=heads_of(a, "v_proj"),
        a_1=a["gk_proj.0.weight"],
        a_2=heads_of(a, "gk_proj.1"),
        b=a["gk_proj.1.bias"].reshape(HEADS, -1),
        w_g=heads_of(a, "g_proj"),
        norm=a["g_norm_swish_gate.weight"],
        w_o=a["o_proj.weight"],
    )
    return {"y": mixer(a["x"])[0]}


def retnet(a):
    """fla's `MultiScaleRetention`: its decays are 1 - 2^(-5 - h)."""
    q, k, v, g = (heads_of(a, f"{letter}_proj") for letter in "qkvg")
    gamma = 1 - 2.0 ** (-5 - jnp.arange(HEADS, dtype=float))
    return {
        "y": RetNet(
            w_q=q, w_k=k, w_v=v, w_g=g, gamma=gamma, norm=a["g_norm_swish_gate.weight"], w_o=a["o_proj.weight"]
        )(a["x"])[0]
    }


def hgrn2(a):
    """fla's `HGRN2Attention` of one head."""
    q, f, i = (heads_of(a, f"{letter}_proj", 1) for letter in "qfi")
    return {
        "y": HGRN2(w_q=q, w_f=f, w_v=i, gamma=a["gamma"][None], norm=a["g_norm.weight"], w_o=a["o_proj.weight"])(
            a["x"]
        )[0]
    }


def hgrn2_heads(a):
    return {
        "y": HGRN2(w_q=a["w_q"], w_f=a["w_f"], w_v=a["w_v"], gamma=a["gamma"], norm=a["norm"], w_o=a["w_o"])(a["x"])[0]
    }


def gsa(a):
    """fla's `GatedSlotAttention` of one head."""
    q, k, v, f = (heads_of(a, f"{letter}_proj", 1) for letter in "qkvf")
    return {"y": GSA(w_q=q, w_k=k, w_v=v, w_f=f, norm=a["g_norm.weight"], w_o=a["o_proj.weight"])(a["x"])[0]}


def gsa_heads(a):
    return {"y": GSA(w_q=a["w_q"], w_k=a["w_k"], w_v=a["w_v"], w_f=a["w_f"], norm=a["norm"], w_o=a["w_o"])(a["x"])[0]}


def delta_net(a):
    """fla's `DeltaNet`, and where it has a decay and a gate its `GatedDeltaNet`; their kernels are (channel, 1, width)."""
    gated = "A_log" in a
    mixer = DeltaRule(
        **{f"w_{letter}": heads_of(a, f"{letter}_proj") for letter in ("qkvg" if gated else "qkv")},
        **{f"c_{letter}": a[f"{letter}_conv1d.weight"][:, 0].T for letter in "qkv"},
        **({"w_a": a["a_proj.weight"], "a_log": a["A_log"], "a_bias": a["dt_bias"]} if gated else {}),
        w_b=a["b_proj.weight"],
        norm=a["o_norm.weight"],
        w_o=a["o_proj.weight"],
    )
    return {"y": mixer(a["x"])[0]}


def linear_attention(a):
    y, final = LinearAttention(a["w_v"], a["w_k"], a["w_q"])(a["x"], a["h_0"])
    return {"y": y, "final": final}


def scaled(q):
    """fla's operators scale queries by 1 / sqrt(d_k)."""
    return q * q.shape[-1] ** -0.5


def decayed(a):
    """The outer-product recurrence of GLA and of RetNet, from a state; fla has the logarithms of the decays."""
    head = lambda q, k, v, h, g: outer(q, k, v, h, decay=jnp.exp(g))
    o, final = jax.vmap(head, (1, 1, 1, 0, 1), (1, 0))(scaled(a["q"]), a["k"], a["v"], a["h_0"], a["g"])
    return {"o": o, "final": final}


def slots(a):
    """The two recurrences of GSA, from a state: a decay for each column of the keys, then for each row of the values."""

    def head(q, k, v, s, g, keys, values):
        scores, keys = outer(q, k, s, keys, value_decay=jnp.exp(g))
        o, values = outer(jax.nn.softmax(scores, axis=-1), s, v, values, decay=jnp.exp(g))
        return o, keys, values

    given = scaled(a["q"]), *(a[name] for name in ("k", "v", "s", "g", "k_0", "v_0"))
    o, keys, values = jax.vmap(head, (1,) * 5 + (0, 0), (1, 0, 0))(*given)
    return {"o": o, "keys": keys, "values": values}


def replaced(a, form):
    """The delta rule from a state, keys of length 1."""
    k = a["k"] / jnp.linalg.norm(a["k"], axis=-1, keepdims=True)
    g = a["g"] if "g" in a else jnp.zeros_like(a["beta"])
    head = lambda q, k, v, b, h, g: delta(q, k, v, b, h, decay=jnp.exp(g), form=form)
    o, final = jax.vmap(head, (1, 1, 1, 1, 0, 1), (1, 0))(scaled(a["q"]), k, a["v"], a["beta"], a["h_0"], g)
    return {"o": o, "final": final}


FLA = "fla-core 0.6.0"
HELD = {
    "gla": Held("gla", gla, FLA),
    "gla_extreme": Held("gla", gla, FLA),
    "gla_operator": Held("gla", decayed, FLA),
    "hgrn2": Held("hgrn2", hgrn2, FLA),
    "hgrn2_extreme": Held("hgrn2", hgrn2, FLA),
    "hgrn2_heads": Held("hgrn2", hgrn2_heads, FLA),
    "retnet": Held("retnet", retnet, FLA),
    "retnet_operator": Held("retnet", decayed, FLA),
    "delta_rule": Held("delta_rule", delta_net, FLA),
    "delta_rule_operator": Held("delta_rule", partial(replaced, form="chunked"), FLA),
    "gated_delta_rule": Held("gated_delta_rule", delta_net, FLA),
    "gated_delta_rule_extreme": Held("gated_delta_rule", delta_net, FLA),
    "gated_delta_rule_operator": Held("gated_delta_rule", partial(replaced, form="chunked"), FLA),
    "gsa": Held("gsa", gsa, FLA),
    "gsa_extreme": Held("gsa", gsa, FLA),
    "gsa_heads": Held("gsa", gsa_heads, FLA),
    "gsa_operator": Held("gsa", slots, FLA),
    "linear_attention_fla": Held("linear_attention", linear_attention, FLA),
}


@TIERS
@pytest.mark.parametrize("stem", HELD)
def test_the_oracle_agrees(stem, gradients):
    """Outputs, final states, and the gradients of input, state and every weight are those of the peer."""
    assert error(stem, HELD[stem], gradients) <= HELD[stem].tolerance
