"""Maps: what each one is over, its own residual, a wrong one caught where it is made, and shares of the smallest outputs."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform import dual_form
from dualform.dual import layer_form, model_form, state_shares
from dualform.dual.form import aggregate, map_residual
from dualform.maps import AttentionMap, Memory, attention_of
from dualform.mixers import MinGRU, registry
from dualform.models import Stack
from tests.laws import laws
from tests.laws.broken import Around
from tests.tiers import tiers

OVER = {
    **dict.fromkeys(("delta_rule", "gated_delta_rule", "rwkv4"), "convolved tokens"),
    **dict.fromkeys(("gsa", "hgrn", "min_gru_log", "min_lstm_log"), "values"),
}
"""What the maps of these mixers are over; those of all others are over tokens."""

X = laws.sequence(0, laws.TIME)


def test_what_maps_are_over():
    """Each mixer says what its maps multiply; shares, of a mixer without maps of its own, are of tokens (`test_form`)."""
    own = {name: attention_of(eqx.filter_eval_shape(laws.make(name).frozen, X).map) for name in registry()}
    assert {name: each.over for name, each in own.items() if each is not None and each.over != "tokens"} == OVER


WRONG: dict[str, Any] = {
    "of another head": lambda a: a[::-1],
    "a hundredth larger": lambda a: 1.01 * a,
    "one token late": lambda a: jnp.concatenate([jnp.zeros_like(a[:, :1]), a[:, :-1]], axis=1),
    "without the diagonal": lambda a: a - a * jnp.eye(a.shape[1])[None],
    "reading the future": lambda a: a + 0.1 * a.swapaxes(1, 2),
}


@pytest.mark.parametrize(
    "name",
    tiers(
        ["linear_attention", "delta_rule", "hgrn", "multi_query_attention", "griffin_recurrent", "rwkv4"],
        *("linear_attention", "hgrn"),
    ),
)
def test_a_wrong_map_is_caught_where_it_is_made(name):
    """The sum does not see a wrong closed form; the map's own residual does, in `dual_form` and in `layer_form`."""
    mixer = laws.make(name)
    with jax.disable_jit():
        form, own = dual_form(mixer, X), laws.attention(mixer, X)
        weights = own.weights()
        assert form.over == OVER.get(name, "tokens") and float(form.map_residual) <= laws.EXACT
        for what, change in WRONG.items():
            residual = map_residual(own, change(weights), X, form.bias, form.y, None)
            assert float(residual) > 1e-3, what
        made = Loud(mixer)
        wrong = layer_form(made, X)
        assert wrong.map_residual > 1e-3 and wrong.residual <= laws.EXACT and wrong.over == form.over
        assert float(dual_form(made, X).map_residual) > 1e-3


class LoudMemory(Memory):
    """Gives scalar maps that are a hundredth larger than what it reads."""

    memory: Memory

    def run(self, v):
        return self.memory.run(v)

    def weights(self):
        return 1.01 * self.memory.weights()

    def spread(self, v):
        return self.memory.spread(v)


class Loud(Around):
    """The inner mixer, but for its closed form."""

    def at(self, x, state, segments):
        frozen = super().at(x, state, segments)
        assert isinstance(frozen.map, AttentionMap)
        return frozen._replace(map=dataclasses.replace(frozen.map, memory=LoudMemory(frozen.map.memory)))


def test_shares_of_tiny_outputs():
    """Shares do not depend on the size of the outputs: 1e-25 in float32, where squares would be 0, and 1e-6 in bfloat16."""
    c = np.random.default_rng(0).normal(size=(5, 5, 4))
    for dtype, size, bound in ((jnp.float32, 1e-25, 1e-5), (jnp.bfloat16, 1e-6, 1e-5), (jnp.float64, 1e-200, 1e-12)):
        given = jnp.asarray(c * size, dtype)
        y = given.sum(1)
        rounded, total = np.asarray(given, np.float64) / size, np.asarray(y, np.float64) / size
        parts = rounded.reshape(5, 5, 2, 2), total.reshape(5, 2, 2)
        expected = np.einsum("tshd,thd->hts", *parts) / np.sum(parts[1] ** 2, axis=2).T[:, :, None]
        np.testing.assert_allclose(np.asarray(aggregate(given, y, 2), np.float64), expected, rtol=bound, atol=bound)


@pytest.mark.slow
def test_shares_of_a_tiny_layer_and_model():
    """Shares, lengths and state of a layer, and shares of a model, whose outputs are of 1e-25 in float32 are those at size 1."""
    w_z, w_h = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
    x, readout = X.astype(jnp.float32), jnp.eye(4, 5, dtype=jnp.float32)
    found: list[Any] = []
    for size in (1.0, 1e-25):
        mixer = MinGRU(w_z=w_z, w_h=w_h * np.float32(size))
        with jax.disable_jit():
            layer, model = layer_form(mixer, x), model_form(Stack(readout, (mixer,), readout), x)
            shares = layer.shares(heads=2), layer.shares([5]), model.shares([3, 5]), state_shares(layer)
            found.append((*shares, layer.norms() / np.float32(size)))
            assert layer.residual < 1e-5 and layer.map_residual < 1e-5 and model.residual < 1e-5
    for tiny, plain in zip(found[1], found[0], strict=True):
        assert plain.any()
        np.testing.assert_allclose(tiny, plain, rtol=1e-4, atol=1e-5)
