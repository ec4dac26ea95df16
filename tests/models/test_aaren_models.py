"""Aaren takes softmax attention's place: the same calls, the same keys, values and readout, a state that does not grow."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.dual import attention_as_rnn, model_form
from dualform.errors import InputError
from dualform.generation import generate
from dualform.mixers import Aaren, SoftmaxAttention
from tests.laws import laws
from tests.models.families import shaken

SIZES: Any = {"vocabulary": 11, "d": 8, "layers": 2, "heads": 4, "hidden": 12}
TOKENS = jr.randint(jr.key(4), (12,), 0, 11)
LLAMA = models.llama(key=jr.key(0), kv_heads=2, context=64, biases=True, **SIZES)
LLAMA = jax.tree.map(lambda a: 20 * a if a.ndim > 2 else a, shaken(LLAMA))
SWAPPED: Any = models.with_aaren(LLAMA, key=jr.key(1))


def numbers(state) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def test_the_whole_is_its_steps_in_a_state_that_does_not_grow():
    """A text read at once, in two parts and token by token is the same, and leaves heads * (2 + d_v) numbers a layer."""
    y, state = laws.call(SWAPPED, TOKENS)
    first, between = laws.call(SWAPPED, TOKENS[:5])
    second, after = laws.call(SWAPPED, TOKENS[5:], between)
    laws.check_close((jnp.concatenate([first, second]), after), (y, state), laws.EXACT, "in two parts")
    step = eqx.filter_jit(lambda model, token, state: model.step(token, state))
    one, rows = SWAPPED.init_state(), []
    for token in TOKENS:
        row, one = step(SWAPPED, token, one)
        rows.append(row)
        assert numbers(one) == 2 * 4 * (2 + 2)
    laws.check_close((jnp.stack(rows), one), (y, state), laws.EXACT, "token by token")
    grown = models.with_context(LLAMA, 13)
    assert numbers(grown.init_state()) > numbers(models.with_context(LLAMA, 5).init_state()) > numbers(one)


def test_it_keeps_keys_values_and_readout():
    """Each layer is the attention's with one query for all tokens: rows of its own, biases of keys and values included."""
    for block, old in zip(SWAPPED.blocks, LLAMA.blocks, strict=True):
        new, attention = block.mixer, old.mixer
        assert isinstance(new, Aaren) and isinstance(attention, SoftmaxAttention)
        x = jr.normal(jr.key(2), (9, 8))
        # The same query at each token: none of the token's own, and the learned one as its bias; keys are not turned.
        fixed = SoftmaxAttention(
            w_q=jnp.zeros_like(attention.w_q),
            w_k=attention.w_k,
            w_v=attention.w_v,
            w_o=attention.w_o,
            b_o=attention.b_o,
            window=64,
            rotary=0,
            b_q=new.query,
            b_k=attention.b_k,
            b_v=attention.b_v,
        )
        laws.check_close(new(x)[0], fixed(x)[0], laws.ROUNDING, "outputs")
        laws.check_close(new(x)[0], attention_as_rnn(fixed, x), laws.ROUNDING, "rows as recurrences")
        assert float(jnp.std(new.query)) > 0 and not np.allclose(new.query[0], new.query[1])
    changed = lambda model: [b.mixer for b in model.blocks]
    rest = lambda model: jax.tree.leaves(eqx.tree_at(changed, model, [0, 0]))
    assert all((a == b).all() for a, b in zip(rest(SWAPPED), rest(LLAMA), strict=True) if eqx.is_array(a))
    other: Any = models.with_aaren(LLAMA, key=jr.key(2)).blocks[0].mixer
    assert not np.allclose(other.query, SWAPPED.blocks[0].mixer.query)


def test_the_preset_is_a_language_model():
    """It generates, is a sum over its tokens, and has as many parameters as said."""
    model = models.aaren(key=jr.key(0), **SIZES)
    assert model.parameters() == 11 * 8 + 8 + 2 * (3 * 8 * 8 + 8 + 3 * 8 * 12 + 2 * 8)
    found, state = generate(model, TOKENS, 3, temperature=0)
    assert found.shape == (3,) and numbers(state) == 2 * 4 * 4
    form = model_form(model, TOKENS)
    assert form.residual < 1e-10 and max(layer.residual for layer in form.layers) < 1e-10


def test_a_sequence_model_streams_too():
    """Columns in, columns out: attention is replaced, and each step is the row of the whole."""
    block = models.Block.make(SoftmaxAttention.make(8, key=jr.key(3), rotary=0), key=jr.key(4), mlp="gelu")
    model = models.with_aaren(models.SequenceModel.make((block,), 3, 2, key=jr.key(5)), key=jr.key(6))
    assert isinstance(model, models.SequenceModel) and isinstance(model.blocks[0].mixer, Aaren)
    x = jr.normal(jr.key(7), (6, 3))
    y, _ = model(x)
    state = model.init_state()
    for t in range(6):
        y_t, state = model.step(x[t], state)
        laws.check_close(y_t, y[t], laws.EXACT, "a step")


def test_bad_models(unchecked):
    """A model without softmax attention, and a bias that does not fit, are refused with a sentence."""
    with pytest.raises(InputError, match="this LanguageModel has no block of softmax attention to replace"):
        models.with_aaren(SWAPPED, key=jr.key(0))
    mixer = SWAPPED.blocks[0].mixer
    with pytest.raises(InputError, match=r"b_o has shape \(3,\); it must be \(8,\)"):
        Aaren(query=mixer.query, w_k=mixer.w_k, w_v=mixer.w_v, w_o=mixer.w_o, b_o=jnp.zeros(3))
