"""A whole model is an exact sum over its input tokens: layer by layer, and through all of them."""

import functools
import importlib
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.dual import model_form, to_bertviz, to_circuitsvis
from dualform.errors import InputError
from dualform.mixers import LinearAttention, registry
from dualform.models import Stack
from tests.laws import laws
from tests.models.families import VOCABULARY, D, language_model, sequence_model, tokens

model_form_module: Any = importlib.import_module("dualform.dual.model_forms")
X = tokens(0)
START, MASK = jnp.arange(6) == 2, jnp.arange(6) != 1
MODEL = functools.cache(lambda: language_model("gla", "griffin_recurrent", scale=2.0, softcap=5.0))
FORM = functools.cache(lambda: model_form(MODEL(), X, block=4))


def test_layers_and_their_product():
    """Every residual is small, and contributions to the logits sum to what the model gives."""
    y, _ = laws.call(MODEL(), X)
    laws.check_close(FORM().y, y, laws.EXACT, "the output")
    assert [layer.name for layer in FORM().layers] == ["block 1", "block 2"] and FORM().names[-1] == "head"
    assert max(FORM().residual, *(layer.residual for layer in FORM().layers)) <= laws.EXACT
    total = FORM().total()
    assert total.shape == (6, 6, VOCABULARY)
    laws.check_close(total.sum(1) + np.asarray(FORM().bias), np.asarray(y), laws.EXACT, "the sum over input tokens")
    assert np.abs(total[np.triu_indices(6, 1)]).max() < laws.EXACT * np.abs(total).max()


def test_a_logit_is_a_sum():
    """One backward pass gives the contributions to a logit, and to a difference of two, that the whole product has."""
    total = FORM().total([4, 5])
    for found, expected in (
        (FORM().logit(5, 3), total[1, :, 3]),
        (FORM().logit(4, 3, 2), total[0, :, 3] - total[0, :, 2]),
    ):
        laws.check_close(found.contributions, expected, laws.EXACT, "contributions")
        assert found.residual <= laws.EXACT
        assert found.contributions.sum() + found.bias == pytest.approx(found.value, abs=1e-10)


@pytest.mark.slow
def test_rows_of_a_long_text_read_what_they_need(monkeypatch):
    """Rows that are read on the first quarters of a text alone are the same, with a state and flags too."""
    _, state = laws.call(MODEL(), X)
    form = model_form(MODEL(), X, state, start=START, mask=MASK, block=2)
    rows, asked = np.array([0, 2, 3, 5, 4]), np.array([1, 0, 3, 2, 1])
    logits, shares = form.logits(rows, asked), form.shares(rows)
    lengths = []
    monkeypatch.setattr(model_form_module, "LONG", 6)
    read = model_form_module._logits
    count = lambda model, x, *rest: lengths.append(len(x)) or read(model, x, *rest)
    monkeypatch.setattr(model_form_module, "_logits", count)
    laws.check_close(form.logits(rows, asked), logits, laws.ROUNDING, "logits")
    laws.check_close(form.shares(rows), shares, laws.ROUNDING, "shares")
    assert lengths == [4, 6, 6]


def test_one_layer_of_linear_attention_by_hand():
    """A stack of one linear attention: R (q_t . k_s) v_s, token by token, and the biases apart."""
    attention = LinearAttention(*np.random.default_rng(0).normal(size=(3, D, D)))
    model: Any = Stack.make((attention,), D, 2, key=jr.key(1))
    model = Stack(jnp.concatenate([jnp.eye(D), jnp.zeros((D, 1))], 1), (attention,), model.readout)
    x = laws.sequence(0, 5)
    w_v, w_k, w_q = (np.asarray(w).reshape(D, D) for w in (attention.w_v, attention.w_k, attention.w_q))
    scores = np.tril((x @ w_q.T) @ (x @ w_k.T).T)
    expected = np.einsum("ts,sv,ov->tso", scores, x @ w_v.T, np.asarray(model.readout)[:, :-1])
    form = model_form(model, x)
    laws.check_close(form.total(), expected, laws.EXACT, "the total")
    shares = np.einsum("tso,to->ts", expected, form.y) / np.sum(np.asarray(form.y) ** 2, axis=1)[:, None]
    laws.check_close(form.shares(to="readout"), shares, laws.EXACT, "its shares")


@pytest.mark.slow
def test_rollout_is_compared_with_the_exact_product():
    """With one block rollout is exact; with two it is a heuristic, and the form says by how much it is off."""
    one = model_form(language_model("gla"), X)
    found = one.agreement(one.rollout())
    assert found.relative_error <= laws.EXACT and found.correlation == pytest.approx(1)
    off = FORM().agreement(FORM().rollout())
    assert off.relative_error > 1e-3 and off.correlation < 1
    lengths = FORM().rollout("norms")
    laws.check_close(lengths.sum(1), np.ones(6), laws.EXACT, "rows of the rollout of lengths")
    assert FORM().agreement(FORM().rollout()[[3]], [3]).relative_error > 0


def test_states_flags_and_pools():
    """A carried state is bias; packed documents, absent tokens and a pooled model keep the sum."""
    model = sequence_model("min_gru", pool="mean")
    x = jr.normal(jr.key(1), (6, 3))
    _, state = laws.call(model, x)
    form = model_form(model, x, state, start=START, mask=MASK)
    assert form.residual <= laws.EXACT and [layer.name for layer in form.layers] == ["block 1", "pool"]
    assert max(layer.residual for layer in form.layers) <= laws.EXACT
    pooled, _ = laws.call(model, x, state, START, MASK)
    laws.check_close(form.y[-1], pooled, laws.EXACT, "the pooled output is the last token's")
    total = form.total()
    unseen = np.concatenate([total[2:, :2].ravel(), total[:, 1].ravel()])
    assert np.abs(unseen).max() <= laws.EXACT * np.abs(total).max()


@pytest.mark.slow
@pytest.mark.parametrize("kinds", np.array_split(np.array(sorted(registry())), 8), ids=lambda kinds: kinds[0])
def test_stacks_of_every_kind(kinds):
    """Language models of five kinds of blocks each: every layer and the whole, in float64 and in float32."""
    for dtype, bound in ((jnp.float64, 1e-10), (jnp.float32, 1e-5)):
        form = model_form(laws.cast(language_model(*kinds), dtype), X)
        assert max(form.residual, *(layer.residual for layer in form.layers)) <= bound


def test_other_viewers():
    """Shapes for CircuitsVis and BertViz, and a picture with the certificate in its title."""
    words = [f"<b>${i}</b>" for i in range(6)]
    shown = to_circuitsvis(FORM().layers[0], words)
    assert shown["tokens"] == words and shown["attention"].shape == (2, 6, 6)
    viewed = to_bertviz(FORM(), words)
    assert [a.shape for a in viewed["attention"]] == [(1, *layer.weights.shape) for layer in FORM().layers]
    laws.check_close(viewed["attention"][0].sum(-1), np.ones((1, 2, 6), np.float32), 1e-6, "rows")
    signed = to_bertviz(FORM(), words, magnitudes=False)["attention"][0][0]
    laws.check_same_bits(signed, FORM().layers[0].weights.astype(np.float32), "signed weights")
    figure = FORM().plot(words)
    assert "residual" in figure.axes[0].get_title() and len(figure.axes) == 2 * 4
    figure.canvas.draw()


BAD = {
    "no such stage": (
        lambda: FORM().total([0], to="block 3"),
        "no stage 'block 3'; there are block 1, block 2, norm, head",
    ),
    "no such layer": (lambda: FORM().layer("head"), "there is no layer 'head'; there are block 1, block 2"),
    "no such output": (lambda: FORM().logit(0, 7), "there is no output 7; there are 7, from 0 to 6"),
    "no such place": (lambda: FORM().logit(6, 0), "place 6 does not exist; there are 6, from 0 to 5"),
    "no such rollout": (lambda: FORM().rollout("sums"), "there is no rollout of 'sums'; there are shares and norms"),  # pyright: ignore - refused - refused
    "another map": (lambda: FORM().agreement(np.zeros((2, 6))), r"the map has shape \(2, 6\); .* must be \(6, 6\)"),
    "no stages": (lambda: model_form(laws.make("gla"), X), r"a GLA has no stages\(\); for a single mixer or block use"),
    "no token": (lambda: model_form(MODEL(), jnp.array([7])), "token 0 is 7; this vocabulary goes from 0 to 6"),
    "no block": (lambda: model_form(MODEL(), X, block=0), "block is 0; it must be at least 1 token"),
    "integers": (
        lambda: model_form(sequence_model("min_gru"), X),
        "SequenceModel takes real floating-point act",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What does not exist is named, with what there is."""
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call()
