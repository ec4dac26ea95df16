"""Above every map stands what is true of it: exact sums with their residual, all others named as what they are."""

import re
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.checkpoints.loading import Loaded
from dualform.checkpoints.tokens import CharacterTokens
from dualform.dual import attribute, model_form
from dualform.dual.attribution import METHODS
from dualform.mixers import GLA, GRU, LSTM, LinearAttention, RWKV4TimeMixing
from dualform.models import Block, LanguageModel, SequenceModel
from dualform.reports.attend import ABOVE, Bound, Question, attend, past_alone
from dualform.reports.attention_page import attention_page
from dualform.reports.whole_model import METHOD_WORDS, kind_of
from tests.dual.broken import broken
from tests.reports.test_attention_page import embedded
from tests.tiers import tiers

TEXT = "abcaab"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """A language model that reads a, b and c: a mixer with heads, one over convolved tokens, one with no map of its own."""
    keys = jr.split(jr.key(0), 4)
    kinds = GLA, RWKV4TimeMixing, GRU
    blocks = tuple(Block.make(kind.make(4, key=key), key=key) for kind, key in zip(kinds, keys, strict=False))
    model = LanguageModel.make(blocks, 4, key=keys[3])
    return Loaded(model, CharacterTokens("abc"), "three", "three.safetensors", "a mixture", {})


def shown(view: Any) -> list[list[tuple[str, str, list[str]]]]:
    """What the page of a view says above each map of each layer, mean and strongest last, and what its rows explain."""
    layers = embedded(attention_page(view))[0]["layers"]
    return [[(mark, sentence, layer["explains"]) for mark, sentence in layer["claims"]] for layer in layers]


def error_in(sentence: str) -> float:
    """The relative error that a sentence states."""
    found = re.search(r"relative error(?: of| is)? ([\d.e+-]+\d)", sentence)
    assert found, sentence
    return float(found[1])


def test_the_logits_are_named_and_their_rows_sum_to_them(loaded):
    """The first map is exact: each row, with what it says that no token brought, sums to the logit that it names."""
    view = attend(loaded, TEXT)
    ((mark, sentence, explains),) = shown(view)[0]
    assert mark == "exact" and "sum to the logit that is named beside it" in sentence
    logits = np.asarray(loaded.model(jnp.asarray(loaded.encode(TEXT)))[0])
    for t, (row, text) in enumerate(zip(view.layers[0].maps[0], explains, strict=True)):
        found = re.fullmatch(r"the logit of (.+) = (\S+), (\S+) of it from no token", text)
        assert found and found[1] == repr(loaded.decode([logits[t].argmax()])[0])
        value, bias = float(found[2]), float(found[3])
        assert value == pytest.approx(logits[t].max(), rel=1e-3)
        assert row.sum() + bias == pytest.approx(value, abs=0.01 * abs(bias) + 2e-3 * abs(value))
    total = (
        view.layers[0].maps[0].astype(float).sum(1)
        + np.asarray(model_form(loaded.model, jnp.asarray(loaded.encode(TEXT))).bias)[np.arange(6), logits.argmax(1)]
    )
    assert np.linalg.norm(total - logits.max(1)) / np.linalg.norm(logits.max(1)) < 1e-6
    assert error_in(sentence) < 1e-10
    for text in shown(attend(loaded, TEXT, Question(output="a", against="b")))[0][0][2]:
        assert text.startswith("the logit of 'a' less that of 'b' = ")


def test_every_layer_and_head_says_what_it_sums_to(loaded):
    """Shares sum to 1 with the bias's; the maps of heads give the output together; the mean and the strongest are summaries."""
    view = attend(loaded, TEXT)
    for layer, said in zip(view.layers[1:], shown(view)[1:], strict=True):
        count = len(layer.maps) - 1
        of = f"the output of {layer.name}'s mixer"
        assert all(explains == [f"{of} at this token"] for _, _, explains in said)
        assert said[0][0] == "exact" and f"no token brought sum to 1, of {of}" in said[0][1]
        for (mark, sentence, _), residual in zip(said[1 : 1 + count], layer.map_residuals[1:], strict=True):
            together = (
                f"all {count} heads together give" if count > 1 else "this map, times what its columns carry, gives"
            )
            assert mark == "exact" and f"{together} {of}" in sentence
            assert error_in(sentence) == pytest.approx(residual, rel=0.1) and residual < 1e-10
        if count > 1:
            for (mark, sentence, _), word in zip(said[1 + count :], ("the mean of", "the strongest of"), strict=True):
                assert mark == "summary" and "no sum of its own" in sentence and f"{word} {count} maps" in sentence
    assert [len(layer.maps) for layer in view.layers] == [1, 3, 5, 1]  # GLA's heads, RWKV's channels, none of a GRU


def test_a_call_that_is_not_what_its_parts_say(loaded):
    """Where the model's own call gives something else, the first map is not called exact; the layers still are."""
    kind = type(loaded.model)

    def halved(self, *args, **flags):
        logits, state = kind.__call__(self, *args, **flags)
        return logits / 2, state

    view = attend(loaded._replace(model=broken(loaded.model, __call__=halved)), TEXT)
    first, second, *_ = shown(view)
    assert first[0][0] == "wrong" and first[0][1].startswith("It does not hold that each row")
    assert error_in(first[0][1]) == pytest.approx(1, rel=0.05) and second[0][0] == "exact"


def test_the_shares_of_the_last_layer(loaded):
    """For the target token the certificate beside the first map is of its own rows: that they and the bias's sum to 1."""
    view = attend(loaded, TEXT, Question(target="token"))
    ((mark, sentence, explains),) = shown(view)[0]
    assert mark == "exact" and "sum to 1, of the output of block 3" in sentence and error_in(sentence) < 1e-10
    assert explains == ["the output of block 3 at this token"]
    form = model_form(loaded.model, jnp.asarray(loaded.encode(TEXT)))
    total = form.total(to="block 3").sum(1)
    y = np.asarray(form.layers[-1].y)
    np.testing.assert_allclose(view.layers[0].maps[0].sum(1), (total * y).sum(1) / (y * y).sum(1), rtol=1e-5)


def test_the_shares_of_the_state(loaded):
    """Only the last row is of something; each layer's sums to 1, and the state is that of the layer's own call."""
    view = attend(loaded, TEXT, Question(target="state"))
    *own, mean, strongest = shown(view)[0]
    for name, (mark, sentence, explains) in zip(view.layers[0].map_names, own, strict=True):
        assert mark == "exact" and f"the state that {name} itself has in the end" in sentence
        assert error_in(sentence) < 1e-10
        assert explains[-1] == "what is remembered in the end" and all(e.startswith("nothing") for e in explains[:-1])
    assert mean[0] == strongest[0] == "summary"


@pytest.mark.parametrize("method", tiers([m for m in METHODS if m != "exact"], "occlusion"))
def test_other_methods_are_approximations(loaded, method):
    """No other method is called exact: it says what it is, and how near it comes to the exact contributions."""
    view = attend(loaded, TEXT, Question(method=method, place=4))
    ((mark, sentence, explains),) = shown(view)[0]
    assert mark == "approximation" and sentence.startswith(f"An approximation: {METHOD_WORDS[method]}")
    assert "xact to rounding" not in sentence and view.layers[0].kind == "an approximation"
    x = jnp.asarray(loaded.encode(TEXT))
    token = int(np.argmax(loaded.model(x)[0][4]))
    ours, exact = (attribute(loaded.model, x, (4, token), name).scores for name in (method, "exact"))
    correlation = re.search(r"correlation (-?[\d.]+\d)", sentence)
    assert correlation and float(correlation[1]) == pytest.approx(np.corrcoef(ours[:5], exact[:5])[0, 1], abs=0.006)
    if sums := re.search(r"its sum (\S+) where theirs is (\S+)\.", sentence):
        assert (float(sums[1]), float(sums[2])) == pytest.approx((ours.sum(), exact.sum()), rel=1e-3)
    assert explains[4].startswith("the logit of ") and all("only token 4" in e for e in explains[:4] + explains[5:])
    assert {said[0][0] for said in shown(view)[1:]} == {"exact"}  # the layers' own maps are what they were


def test_a_model_that_pools_has_one_output(tmp_path):
    """Of a model that pools, one row is held to its output, and the page says which, and that the others are not."""
    blocks = (Block.make(LSTM.make(4, key=jr.key(0)), key=jr.key(1)),)
    model = SequenceModel.make(blocks, 3, 2, key=jr.key(2), pool="mean")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5, 3)))
    loaded = Loaded(model, None, "pooled", "pooled.safetensors", "an LSTM", {})
    view = attend(loaded, tmp_path / "x.npy")
    ((mark, sentence, explains),) = shown(view)[0]
    assert mark == "exact" and "the row of token 4 and what no token brought sum to the model's one output" in sentence
    assert "no call was held against them" in sentence
    y = np.asarray(model(jnp.asarray(np.load(tmp_path / "x.npy")))[0])
    assert explains[4].startswith(f"the logit of output {y.argmax()} = {y.max():.4g}")
    assert [text.endswith("(if the text ended here)") for text in explains] == [True] * 4 + [False]


@pytest.mark.slow
def test_a_bounded_model_is_named(loaded):
    """Each sentence says under which policy the model ran: the sums are of that model, not of the one that keeps all."""
    sizes: Any = {"vocabulary": 4, "d": 8, "layers": 1, "heads": 2, "kv_heads": 1, "hidden": 8, "context": 64}
    model = jax.tree.map(lambda a: 20 * a if a.ndim > 1 else a, models.llama(key=jr.key(0), **sizes))
    transformer = loaded._replace(model=model)
    under = "The model is the one that runs under tova, 3 states."
    for layer in shown(attend(transformer, TEXT, bound=Bound("tova", 3))):
        assert all(sentence.endswith(under) and mark in ("exact", "summary") for mark, sentence, _ in layer)
    assert not any(under in sentence for layer in shown(attend(transformer, TEXT)) for _, sentence, _ in layer)


def test_what_was_not_measured_is_not_called_exact(loaded):
    """A map without a residual, and the mean of maps of which one is wrong, are not called exact."""
    view = attend(loaded, TEXT, Question(layer="block 1"))
    layer = view.layers[1]
    unknown = replace(layer, map_residuals=(float("nan"),) * 3)
    assert [mark for mark, _, _ in shown(replace(view, layers=(unknown,)))[0]] == ["none"] * 3 + ["summary"] * 2
    wrong = replace(layer, map_residuals=(0.0, 0.5, 0.0))
    said = shown(replace(view, layers=(wrong,)))[0]
    assert [mark for mark, _, _ in said] == ["exact", "wrong", "exact", "summary", "summary"]
    assert "not all of which are exact" in said[3][1] and error_in(said[3][1]) == 0.5


def test_what_freezing_means_is_of_all_stages(loaded):
    """A model whose parts are all linear given their gates is, too; one nonlinear part makes it a frozen nonlinearity."""
    block = Block(None, LinearAttention.make(4, key=jr.key(0)))
    linear = SequenceModel.make((block,), 3, 2, key=jr.key(2))
    x = jr.normal(jr.key(3), (4, 3))
    assert kind_of(model_form(linear, x)) == "linear given its gates"
    normed = SequenceModel.make(linear.blocks, 3, 2, key=jr.key(2), norm=models.RMSNorm.make(4))
    form = model_form(normed, x)
    assert kind_of(form) == "frozen nonlinearity" and kind_of(form, "block 1") == "linear given its gates"


def test_what_rounding_left_above_the_diagonal_is_no_map():
    """Of a causal layer, what is within rounding of the largest entry is 0 above the diagonal; what is larger stays."""
    maps = np.tril(np.random.default_rng(0).uniform(0.5, 1, (2, 4, 4))).astype(np.float32)
    maps[0, 1, 2], maps[1, 0, 3] = 0.3 * ABOVE, 3 * ABOVE
    kept = past_alone(maps)
    np.testing.assert_array_equal(kept[0], np.tril(maps[0]))
    np.testing.assert_array_equal(kept[1], maps[1])
