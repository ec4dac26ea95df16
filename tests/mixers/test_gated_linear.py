"""GLA, HGRN2, RetNet, GSA and the delta rules: known answers, closed-form maps, extreme gates, weights that do not fit."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.maps import Rescaled
from dualform.mixers import GLA, GSA, HGRN2, DeltaRule, LinearAttention, RetNet
from tests.laws import laws
from tests.tiers import tiers

NAMES = ("gla", "hgrn2", "retnet", "gsa", "delta_rule", "gated_delta_rule")
X = laws.sequence(0, laws.TIME)
START, MASK = np.array([0, 0, 1, 0, 1, 0], bool), np.array([1, 1, 0, 1, 1, 1], bool)


def changed(name: str, **weights: Any) -> Any:
    """The registered mixer with some of its weights set: an array, or one number for all entries."""
    mixer: Any = laws.make(name)
    full = lambda key, value: jnp.full_like(getattr(mixer, key), value) if isinstance(value, float) else value
    return dataclasses.replace(mixer, **{key: full(key, value) for key, value in weights.items()})


def alone(mixer, x):
    """Each token called by itself, from a fresh state."""
    return jnp.concatenate([laws.call(mixer, x_t[None])[0] for x_t in x])


@eqx.filter_jit
def remembered(mixer, x):
    """What the heads read, before norm, gate and readout: (time, head, d_v)."""
    own = laws.attention(mixer, x)
    memory = own.memory.memory if isinstance(own.memory, Rescaled) else own.memory
    return memory(own.write(x))


def test_gla_without_forgetting_is_linear_attention():
    """A decay of 1 leaves linear attention with queries scaled by 1 / sqrt(d_k): normed, gated and joined."""
    w_q, w_k = jr.normal(jr.key(1), (2, 2, 3, 4))
    mixer = changed("gla", w_q=w_q, w_k=w_k, a_2=jnp.zeros((2, 3, 16)), b=jnp.full((2, 3), 1e4))
    linear = LinearAttention(mixer.w_v, mixer.w_k, mixer.w_q / 3**0.5)(X)[0].reshape(laws.TIME, 2, 2)
    normed = linear / jnp.sqrt(jnp.mean(linear**2, axis=-1, keepdims=True) + 1e-5)
    gate = jax.nn.silu(jnp.einsum("td,hrd->thr", X, mixer.w_g))
    expected = (normed * gate).reshape(laws.TIME, 4) @ mixer.w_o.T
    laws.check_close(laws.call(mixer, X)[0], expected, laws.ROUNDING, "linear attention")


FORGETFUL = {
    "gla": {"a_2": 0.0, "b": -1e5},
    "hgrn2": {"gamma": 0.0, "w_f": -1e5},
    "retnet": {"gamma": 0.0},
    "gsa": {"w_f": -1e5},
    "gated_delta_rule": {"w_a": 0.0, "a_log": 10.0, "a_bias": 1.0, "c_q": 1.0, "c_k": 1.0, "c_v": 1.0},
}


@pytest.mark.parametrize("name", tiers(FORGETFUL, "gla", "gsa", "gated_delta_rule"))
def test_a_decay_of_0_keeps_the_present_token_alone(name):
    """Where the decay is 0, each token gives what it gives by itself, whatever came before."""
    kernels = {key: jnp.ones((1, 4)) for key in FORGETFUL[name] if key.startswith("c_")}
    mixer = changed(name, **FORGETFUL[name] | kernels)
    positive = jnp.abs(X)  # so that the gates of -1e5 x are closed for every token
    laws.check_close(laws.call(mixer, positive)[0], alone(mixer, positive), laws.ROUNDING, "tokens by themselves")
    assert bool(jnp.any(laws.call(laws.make(name), X)[0] != alone(laws.make(name), X)))


def test_hgrn2_that_keeps_all_writes_nothing():
    """f = 1 is a key of 0: the state stays to the bit, and a fresh one gives 0."""
    mixer, x = changed("hgrn2", w_f=1e5), jnp.abs(X)
    state = laws.some_state(laws.make("hgrn2"), 0)
    y, after = laws.call(mixer, x, state)
    laws.check_same_bits(after, state, "the state")
    assert bool(jnp.all(laws.call(mixer, x)[0] == 0)) and bool(jnp.any(y != 0))


def test_retnet_rotates_and_forgets():
    """Of equal tokens with q = k = (1, 0) each reads gamma^(t-s) cos(t-s) / sqrt(2) of the value of token s."""
    first = jnp.array([[[1.0, 0, 0, 0], [0, 0, 0, 0]]] * 2)
    mixer = changed("retnet", w_q=first, w_k=first, gamma=jnp.array([0.5, 1.0]))
    distance = np.arange(laws.TIME)[:, None] - np.arange(laws.TIME)[None]
    scores = [np.tril(gamma ** np.maximum(distance, 0) * np.cos(distance)) / 2**0.5 for gamma in (0.5, 1.0)]
    o = remembered(mixer, jnp.ones((laws.TIME, 4)))
    expected = np.stack(scores).sum(2).T[:, :, None] * np.asarray(jnp.ones(4) @ mixer.w_v.swapaxes(1, 2))[None, :, :]
    np.testing.assert_allclose(o, expected, rtol=0, atol=1e-14)


def test_retnet_begins_each_document_at_place_0():
    """A document behind a start has the places, and the outputs, that it has alone; the state counts its tokens."""
    mixer: Any = laws.make("retnet")
    y, (_, place) = laws.call(mixer, X, laws.some_state(mixer, 0), jnp.arange(laws.TIME) == 2)
    y_alone, (_, place_alone) = laws.call(mixer, X[2:])
    laws.check_close(y[2:], y_alone, laws.EXACT, "a document by itself")
    assert int(place) == int(place_alone) == laws.TIME - 2


def recaller(**gates):
    """A delta rule over tokens (key one-hot in 3, query one-hot in 3, value in 2, 1): beta is 1, and kernels see one token."""
    pick = lambda *columns, scale=1.0: scale * jnp.eye(9)[jnp.array(columns)][None]
    kernel = jnp.ones((1, 3))
    # Keys as long as this are of length 1 once normed, to the last digit, in spite of the norm's epsilon.
    q, k = pick(3, 4, 5, scale=1e6), pick(0, 1, 2, scale=1e6)
    return DeltaRule(
        w_q=q,
        w_k=k,
        w_v=pick(6, 7),
        c_q=kernel,
        c_k=kernel,
        c_v=kernel[:, :2],
        w_b=pick(8, scale=1e4)[0],
        norm=jnp.ones(2),
        w_o=jnp.eye(2),
        **gates,
    )


def token(key: int, query: int, value: tuple[float, float]) -> list[float]:
    return [*np.eye(3)[key], *np.eye(3)[query], *value, 1.0]


WRITES = [(0, 0, (1, 2)), (1, 0, (3, 4)), (2, 1, (5, 6)), (0, 0, (7, 8)), (1, 0, (9, 10)), (2, 2, (11, 12))]
LAST = [0, 0, 1, 3, 3, 5]
"""Which token was the last to write what each one asks for."""


def recalled() -> np.ndarray:
    values = np.array([value for _, _, value in WRITES], float)
    return (values / (1 + np.exp(-values)))[LAST] / 3**0.5


def test_the_delta_rule_recalls_and_overwrites():
    """Of orthonormal keys each gives back its last value exactly: a repeated key replaces, where linear attention adds."""
    x = jnp.array([token(*each) for each in WRITES])
    o = remembered(recaller(), x)[:, 0]
    np.testing.assert_allclose(o, recalled(), rtol=1e-12)
    added = LinearAttention(jnp.eye(9)[6:8], jnp.eye(9)[:3], jnp.eye(9)[3:6])(x)[0]
    np.testing.assert_allclose(np.asarray(added[3]), [1 + 7, 2 + 8])


def test_the_gated_delta_rule_recalls_what_is_left():
    """With a decay of 1/2 (a_log = 0, softplus(0) = log 2) a value is halved by each token that passes."""
    zeros = jnp.zeros(1)
    o = remembered(recaller(w_a=jnp.zeros((1, 9)), a_log=zeros, a_bias=zeros), jnp.array([token(*w) for w in WRITES]))
    left = 0.5 ** (np.arange(6) - np.array(LAST))
    np.testing.assert_allclose(o[:, 0], recalled() * left[:, None], rtol=1e-12)


def test_the_plain_delta_rule_is_the_gated_one_without_decay_and_gate():
    """A decay of 1 (a_log so low that exp of it is 0) and no gate: the plain rule, to rounding."""
    gated: Any = laws.make("gated_delta_rule")
    plain = dataclasses.replace(gated, w_a=None, a_log=None, a_bias=None, w_g=None)
    still = dataclasses.replace(gated, a_log=jnp.full(2, -1e4), w_g=None)
    laws.check_close(laws.call(still, X), laws.call(plain, X), laws.ROUNDING, "without decay")


def test_gsa_with_one_slot_is_a_moving_average():
    """A softmax over one slot is 1, whatever q and k: o_t = alpha o_{t-1} + (1 - alpha) v_t, with alpha = 2^(-1/8) here."""
    mixer: Any = changed("gsa", w_f=jnp.zeros((2, 1, 4)))
    v, alpha = np.asarray(mixer.value(X)), 2 ** (-1 / 8)
    expected, h = [], np.zeros((2, 2))
    for v_t in v:
        h = alpha * h + (1 - alpha) * v_t
        expected.append(h)
    np.testing.assert_allclose(remembered(mixer, X), np.stack(expected), rtol=1e-12)


@eqx.filter_jit
def map_and_contributions(mixer: Any, x, state, start, mask):
    """Contributions from the closed-form map, and from the general path."""
    form, own = dual_form(mixer, x, state, start=start, mask=mask), laws.attention(mixer, x, state, start, mask)
    x = mixer.checked(x, state, start, mask)[0]
    carried = own.write.columns(
        x, jnp.arange(len(x))
    )  # (source, time, head, d_v): behind a convolution, at several times
    read = jnp.einsum("htu,suhv->sthv", form.weights, carried)
    return jax.vmap(own.read.brought)(read).swapaxes(0, 1), form.contributions


@pytest.mark.parametrize("name", tiers(NAMES, "gla", "delta_rule"))
def test_the_closed_form_map_gives_the_contributions(name):
    """weights[h, t, u] times what each token brings to u, with the norm's weight and the gate, joined by w_o, from a state."""
    mixer = laws.make(name)
    state = laws.some_state(mixer, 0)
    found, expected = map_and_contributions(mixer, X, state, jnp.asarray(START), jnp.asarray(MASK))
    laws.check_close(found, expected, laws.EXACT, "contributions from the closed form")


GATES = {
    "gla": ("a_2",),
    "hgrn2": ("w_f",),
    "retnet": (),
    "gsa": ("w_f",),
    "delta_rule": ("w_b",),
    "gated_delta_rule": ("w_b", "w_a"),
}


@pytest.mark.parametrize("name", tiers(NAMES, "gated_delta_rule"))
def test_bfloat16_and_extreme_gates_stay_finite(name):
    """In bfloat16, with gates fully open at some tokens and closed at others, nothing is NaN, nor in the gradients."""
    mixer: Any = laws.make(name, dtype=jnp.bfloat16)
    mixer = dataclasses.replace(mixer, **{gate: getattr(mixer, gate) * 1e4 for gate in GATES[name]})
    laws.extremes_stay_finite(mixer, X.astype(jnp.bfloat16))


@pytest.mark.parametrize("name", NAMES)
def test_heads_that_do_not_divide_the_width(unchecked, name):
    """`make` says which numbers do not fit."""
    for heads in (3, 0):
        with pytest.raises(InputError, match=f"{heads} heads do not divide a width of 4"):
            laws.registry()[name](4, key=jr.key(0), heads=heads)


GATED = ("gla", "retnet", "gated_delta_rule")
BAD = {
    **{f"{name}: a flat query": (name, {"w_q": (2, 4)}, r"w_q has shape \(2, 4\); it must be \(2, ") for name in NAMES},
    **{
        f"{name}: other heads of values": (
            name,
            {"w_v": (3, 2, 4)},
            r"w_v has shape \(3, 2, 4\); it must be \(2, .* where head is 2 in w_q",
        )
        for name in NAMES
    },
    **{
        f"{name}: values of another width": (name, {"w_v": (2, 2, 5)}, r"w_v has shape .* d is 4 in w_q")
        for name in NAMES
    },
    **{
        f"{name}: no value": (name, {"w_v": (2, 0, 4)}, r"w_v has shape \(2, 0, 4\); it must be \(2, 2, 4\)")
        for name in NAMES
    },
    **{
        f"{name}: a narrow readout": (
            name,
            {"w_o": (4, 3)},
            r"w_o has shape \(4, 3\); it must be \(d_out, 4\): \(d_out, head\*d_v\), where head is 2",
        )
        for name in NAMES
    },
    **{f"{name}: a wide norm": (name, {"norm": (4,)}, r"norm has shape \(4,\); it must be \(2,\)") for name in NAMES},
    **{
        f"{name}: a flat gate": (name, {"w_g": (4, 4)}, r"w_g has shape \(4, 4\); it must be \(2, 2, 4\)")
        for name in GATED
    },
    "gla: other keys": ("gla", {"w_k": (2, 3, 4)}, r"w_k has shape \(2, 3, 4\); it must be \(2, 1, 4\)"),
    "gla: a_1": ("gla", {"a_1": (16, 5)}, r"a_1 has shape \(16, 5\); it must be \(16, 4\)"),
    "gla: a_2": ("gla", {"a_2": (2, 1, 15)}, r"a_2 has shape \(2, 1, 15\); it must be \(2, 1, 16\)"),
    "gla: b": ("gla", {"b": (2,)}, r"b has shape \(2,\); it must be \(2, 1\)"),
    "hgrn2: other gates": ("hgrn2", {"w_f": (2, 3, 4)}, r"w_f has shape \(2, 3, 4\); it must be \(2, 2, 4\)"),
    "hgrn2: gamma": ("hgrn2", {"gamma": (4,)}, r"gamma has shape \(4,\); it must be \(2, 2\)"),
    "retnet: gamma": ("retnet", {"gamma": (3,)}, r"gamma has shape \(3,\); it must be \(2,\)"),
    "retnet: odd keys": (
        "retnet",
        {"w_q": (2, 3, 4), "w_k": (2, 3, 4)},
        "keys have 3 channels; they are turned in pairs",
    ),
    "gsa: flat slots": ("gsa", {"w_f": (2, 4)}, r"w_f has shape \(2, 4\); it must be \(2, slots, 4\)"),
    "gsa: slots of other heads": (
        "gsa",
        {"w_f": (3, 2, 4)},
        r"w_f has shape \(3, 2, 4\); it must be \(2, slots, 4\)",
    ),
    "delta_rule: no kernel": (
        "delta_rule",
        {"c_q": (0, 4)},
        r"c_q has shape \(0, 4\); it must be \(4, 4\): \(width, head\*d_k\), where width is 4 in c_k",
    ),
    "delta_rule: kernels": ("delta_rule", {"c_k": (3, 4)}, r"c_k has shape \(3, 4\); it must be \(4, 4\)"),
    "delta_rule: values' kernel": (
        "delta_rule",
        {"c_v": (4, 3)},
        r"c_v has shape \(4, 3\); it must be \(4, 4\)",
    ),
    "delta_rule: w_b": ("delta_rule", {"w_b": (4,)}, r"w_b has shape \(4,\); it must be \(2, 4\)"),
    "gated: w_a": ("gated_delta_rule", {"w_a": (3, 4)}, r"w_a has shape \(3, 4\); it must be \(2, 4\)"),
    "gated: a_log": ("gated_delta_rule", {"a_log": (4,)}, r"a_log has shape \(4,\); it must be \(2,\)"),
    "gated: a_bias": ("gated_delta_rule", {"a_bias": ()}, r"a_bias has shape \(\); it must be \(2,\)"),
    "gated: half a decay": (
        "gated_delta_rule",
        {"a_log": None},
        "w_a, a_log and a_bias make the decay; give all three, or none",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_fit(unchecked, case):
    """The weight that does not fit is named, with its shape and the one that is needed."""
    name, shapes, message = BAD[case]
    weights = {key: None if shape is None else jnp.zeros(shape) for key, shape in shapes.items()}
    with pytest.raises(InputError, match=message):
        dataclasses.replace(laws.make(name), **weights)


@pytest.mark.parametrize(
    ("name", "gamma", "message"),
    [
        ("hgrn2", 1.0, r"gamma has an entry of 1 at unit 0; it must lie in \[0, 1\). Clip it"),
        ("hgrn2", -0.25, "gamma has an entry of -0.25 at unit 0"),
        ("retnet", 1.5, r"gamma has an entry of 1.5 at unit 0; it must lie in \[0, 1\]. Clip it"),
        ("retnet", float("nan"), "gamma has an entry of nan at unit 0"),
    ],
)
def test_decays_out_of_range(unchecked, name, gamma, message):
    """A decay above 1, below 0, or NaN is named with its place; HGRN2's bound must leave room."""
    with pytest.raises(InputError, match=message):
        changed(name, gamma=gamma)


def test_shapes_that_make_gives():
    """GLA's keys are half as wide as its values, RetNet's even, GSA has a slot for each channel: as the docstrings say."""
    key = jr.key(0)
    gla, retnet, gsa, hgrn2 = (
        GLA.make(12, key=key),
        RetNet.make(12, key=key),
        GSA.make(12, key=key),
        HGRN2.make(12, key=key),
    )
    assert gla.w_q.shape == (2, 3, 12) and gla.w_v.shape == (2, 6, 12)
    assert RetNet.make(6, key=key).w_q.shape == (2, 4, 6) and retnet.w_v.shape == (2, 6, 12)
    np.testing.assert_array_equal(np.asarray(retnet.gamma), [1 - 2.0**-5, 1 - 2.0**-6])
    assert gsa.w_f.shape == (2, 6, 12) and GSA.make(12, key=key, slots=64).init_state()[0].shape == (2, 6, 64)
    assert hgrn2.w_q.shape == (2, 6, 12) and bool(jnp.all(hgrn2.gamma.value == 0.25))
