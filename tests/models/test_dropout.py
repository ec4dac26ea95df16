"""Dropout: what is drawn, for whom, and that nothing else of a model changes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form, models
from dualform.errors import InputError
from dualform.mixers import TanhRNN
from dualform.models.architecture import Architecture
from dualform.models.dropout import Dropout
from tests.laws import laws
from tests.tiers import tiers

RATE = 0.25


def plain() -> Any:
    return Architecture(("tanh_rnn", "lstm"), 3, 2, options={"n": 5}, plain=True).sequence_model(3, 4, key=jr.key(0))


def deep(layers: int = 2) -> Any:
    return Architecture(("tanh_rnn",), 6, layers, "gelu").sequence_model(3, 2, key=jr.key(0), pool="mean")


def test_numbers_are_kept_with_their_probability_and_sequences_draw_apart():
    """Of 64 times 500 numbers a quarter are 0 and the others larger by 4 / 3, and their mean stays; each row in its own way."""
    layer = Dropout(500, jr.key(1), RATE)
    y = np.asarray(jax.jit(jax.vmap(lambda x: layer(x)[0]))(jnp.ones((64, 1, 500))))[:, 0]
    assert set(np.unique(y)) == {0.0, 1 / (1 - RATE)}
    share = (y == 0).mean()
    assert abs(share - RATE) < 5 * (RATE * (1 - RATE) / y.size) ** 0.5  # five deviations of a mean of so many
    assert len({row.tobytes() for row in y}) == 64
    two = jax.vmap(jax.vmap(lambda x: layer(x)[0]))(jnp.ones((2, 2, 1, 500)))
    assert len({np.asarray(row).tobytes() for row in two.reshape(4, 500)}) == 4
    np.testing.assert_array_equal(layer(jnp.ones((1, 500)))[0], layer(jnp.ones((1, 500)))[0])


def drops(layer: Any) -> list[Dropout]:
    """The places of dropout in what a model is put together of."""
    if isinstance(layer, Dropout):
        return [layer]
    inner = layer.whole if hasattr(layer, "whole") else layer
    parts = [part.of(inner) for part in inner.parts()] if hasattr(inner, "parts") else []
    return [found for part in parts for found in drops(part)]


def test_places_are_those_of_the_field():
    """The embedding and both branches of each block, by keys of their own; of a plain network what its layers give."""
    dropped = models.with_dropout(deep(), RATE, key=jr.key(1))
    counts = [len(drops(stage)) for _, stage in dropped.stages()]
    assert counts == [0, 3, 2, 0, 0, 0] and [name for name, _ in dropped.stages()] == [n for n, _ in deep().stages()]
    keys = [jr.key_data(each.key).tobytes() for _, stage in dropped.stages() for each in drops(stage)]
    assert len(set(keys)) == 5
    assert [len(drops(stage)) for _, stage in models.with_dropout(plain(), RATE, key=jr.key(1)).stages()] == [1, 1, 0]


@pytest.mark.parametrize("make", tiers([plain, deep], plain))
def test_states_are_the_same_and_the_form_is_exact(make):
    """A model with dropout takes and gives the model's states; its certificate holds for what was drawn; rate 0 is itself."""
    model, x = make(), jr.normal(jr.key(2), (5, 3))
    dropped = models.with_dropout(model, RATE, key=jr.key(1))
    shapes = lambda m: jax.tree.map(jnp.shape, m.init_state())
    assert shapes(dropped) == shapes(model) and models.with_dropout(model, 0.0, key=jr.key(1)) is model
    y, _ = dropped(x, model.init_state())
    assert y.shape == model(x)[0].shape and not np.allclose(y, model(x)[0])
    assert dual_form(dropped, x).residual < 1e-12


@pytest.mark.slow
def test_a_loop_over_blocks_draws_what_the_blocks_do():
    """Scanned and computed anew, with a first block of another kind: values and gradients of the blocks as they are written."""
    x = jr.normal(jr.key(2), (3, 5, 3))

    @eqx.filter_jit
    def value(model):
        arrays, rest = eqx.partition(model, eqx.is_inexact_array)

        def loss(arrays):
            dropped = models.with_dropout(eqx.combine(arrays, rest), RATE, key=jr.key(1))
            return jnp.mean(jnp.square(jax.vmap(lambda x: dropped(x)[0])(x)))

        return jax.value_and_grad(loss)(arrays)

    found, expected = value(models.with_depth(deep(4), scanned=True, rematerialised=True)), value(deep(4))
    laws.check_close(jax.tree.leaves(found), jax.tree.leaves(expected), 1e-11, "loss and gradient")


def test_what_has_no_place_for_it_is_refused():
    """A mixer alone, and a rate that is none."""
    with pytest.raises(
        InputError, match="a TanhRNN has no places for dropout; a LanguageModel, SequenceModel, Recurrent"
    ):
        models.with_dropout(TanhRNN.make(3, key=jr.key(0)), RATE, key=jr.key(1))
    for rate in (1.0, -0.1):
        with pytest.raises(InputError, match=f"dropout is {rate}; it must be at least 0, and below 1"):
            models.with_dropout(plain(), rate, key=jr.key(1))
