"""What `dualform attend` shows: sums that hold, places that are right, and sentences for what cannot be shown."""

import base64
import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import checkpoints, models
from dualform.checkpoints.loading import Loaded
from dualform.checkpoints.tokens import CharacterTokens, notes
from dualform.cli import main
from dualform.errors import InputError
from dualform.mixers import GLA, GRU
from dualform.models import Block, LanguageModel
from dualform.reports.attend import Bound, Question, attend, strongest, write_view
from dualform.reports.attention_page import summary
from dualform.reports.kept_figure import kept_figure, over_time, write_kept_figure
from tests.dual.broken import broken
from tests.reports import views

TEXT = "abcaab"
LONG = "abcaabbcabacbc"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """A language model of two blocks that reads a, b and c."""
    keys = jr.split(jr.key(0), 3)
    blocks = (
        Block.make(GLA.make(4, key=keys[0]), key=keys[0], mlp="swiglu"),
        Block.make(GRU.make(4, key=keys[1]), key=keys[1]),
    )
    model, tokens = LanguageModel.make(blocks, 4, key=keys[2]), CharacterTokens("abc")
    return Loaded(model, tokens, "two", "two.safetensors", "GLA and GRU", {"licence": "none"})


def logits(loaded: Loaded) -> np.ndarray:
    return np.asarray(loaded.model(jnp.asarray(loaded.encode(TEXT)))[0])


def test_the_logits_are_sums_over_tokens(loaded):
    """Row t of the whole model's map sums to the largest logit at t, less the bias; the certificate says so."""
    view = attend(loaded, TEXT)
    assert [layer.name for layer in view.layers] == ["whole model", "block 1", "block 2"] and view.tokens == tuple(TEXT)
    assert view.layers[0].residual < 1e-10 and view.residual < 1e-10
    assert view.layers[1].residual < 1e-10 and view.layers[1].map_names == ("share of the output", "head 1", "head 2")
    assert view.layers[1].over == ("tokens",) * 3 and max(view.layers[1].map_residuals) < 1e-10 and view.bound == 1e-10
    a, b = (attend(loaded, TEXT, Question(output=letter)).layers[0].maps[0] for letter in "ab")
    difference = attend(loaded, TEXT, Question(output="a", against="b")).layers[0].maps[0]
    np.testing.assert_allclose(difference, a - b, atol=1e-6)
    top = np.argmax(logits(loaded), axis=1)
    np.testing.assert_array_equal(view.layers[0].maps[0][top == 0], a[top == 0])


def test_a_wrong_call_is_on_the_page(loaded):
    """A model whose logits are halved in its call alone does not add up, as a whole and in the logits that are asked for."""
    kind = type(loaded.model)

    def halved(self, *args, **flags):
        logits, state = kind.__call__(self, *args, **flags)
        return logits / 2, state

    view = attend(loaded._replace(model=broken(loaded.model, __call__=halved)), TEXT)
    assert view.residual > 0.1 and view.layers[0].residual > 0.1 and view.layers[1].residual < 1e-10


def test_the_shares_of_the_output(loaded):
    """For the target token, rows are the shares of the last layer's output: here without any bias, so they sum to 1."""
    view = attend(loaded, TEXT, Question(target="token", layer="block 2"))
    assert [layer.name for layer in view.layers] == ["whole model", "block 2"]
    rows = view.layers[0].maps[0].sum(axis=1)
    bias = attend(loaded, TEXT, Question(target="token")).details["layers"]
    assert np.isfinite(rows).all() and "bias" in bias
    np.testing.assert_allclose(np.triu(view.layers[0].maps[0], 1), 0)


def test_the_shares_of_the_state(loaded):
    """The shares of what is remembered in the end sum to 1 in every layer."""
    maps = attend(loaded, TEXT, Question(target="state")).layers[0].maps
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, rtol=1e-6)
    assert not maps[:, :-1].any()


@pytest.mark.parametrize("method", ["raw", "gradient"])
def test_other_methods_explain_one_place(loaded, method):
    """Another method gives one row, at the place asked for, and no certificate of a sum."""
    view = attend(loaded, TEXT, Question(method=method, place=-3))
    assert not np.delete(view.layers[0].maps[0], 3, axis=0).any() and view.layers[0].maps[0][3, :4].any()
    assert np.isnan(view.layers[0].residual)
    assert strongest(view)[0] == 3


@pytest.fixture(scope="module")
def transformer() -> Loaded:
    """A small transformer of two blocks that reads a, b and c, its context far longer than any text here."""
    sizes: Any = {"vocabulary": 4, "d": 8, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 12, "context": 4096}
    model = jax.tree.map(lambda a: 20 * a if a.ndim > 1 else a, models.llama(key=jr.key(0), **sizes))
    return Loaded(model, CharacterTokens("abc"), "small", "small.safetensors", "Llama", {})


def view_of(transformer: Loaded, bound: Bound | None):
    """What the transformer attends to, with its certificate."""
    view = attend(transformer, LONG, bound=bound)
    assert [layer.name for layer in view.layers] == ["whole model", "block 1", "block 2"]
    assert max(view.residual, *(layer.residual for layer in view.layers)) < 1e-10
    assert view.layers[1].map_names == ("share of the output", "head 1", "head 2", "head 3", "head 4")
    return view


@pytest.mark.slow
def test_a_transformer_as_it_is(transformer):
    """With every token kept, maps and certificates are those of the model itself."""
    whole, full = view_of(transformer, None), view_of(transformer, Bound("full"))
    for layer, other in zip(whole.layers, full.layers, strict=True):
        np.testing.assert_allclose(layer.maps, other.maps, rtol=1e-5, atol=1e-6)
    assert whole.kept is None and full.kept is not None and (full.kept.dropped == len(LONG)).all()


@pytest.mark.slow
def test_a_bounded_transformer(transformer):
    """The certificate holds for tokens that are kept; maps are 0 where a token was dropped."""
    small = view_of(transformer, Bound("tova", 3))
    assert small.kept is not None and small.kept.policy == "tova, 3 states" and small.kept.dropped.shape == (2, 2, 14)
    t, s = np.mgrid[:14, :14]
    for layer, dropped in zip(small.layers[1:], small.kept.dropped, strict=True):
        # Token t reads what was kept after the token before it, and itself.
        read = (s == t) | ((s < t) & (t - 1 < dropped[:, :, None].swapaxes(1, 2)))
        np.testing.assert_array_equal(layer.maps[1:] != 0, np.repeat(read, 2, axis=0))


@pytest.mark.slow
def test_a_bounded_state_is_made_of_what_is_kept(transformer):
    """The shares of the last state sum to 1, and are of the tokens that are kept; unbounded, of all."""
    for bound in (Bound("tova", 3), None):
        view = attend(transformer, LONG, Question(target="state"), bound)
        shares = view.layers[0].maps[:, -1]
        np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
        alive = np.ones((2, 14), bool) if view.kept is None else (view.kept.dropped == 14).any(1)
        np.testing.assert_array_equal(np.abs(shares) > 1e-9, alive)


@pytest.mark.slow
def test_what_is_kept_goes_onto_page_folder_and_picture(transformer, tmp_path):
    """The page and the folder's index have each token's life; the picture has a panel for each layer."""
    view = attend(transformer, LONG, bound=Bound("h2o", 4))
    assert view.kept is not None
    for content in (
        summary(view, view.causal)["kept"],
        json.loads((write_view(view, tmp_path / "maps") / "attention.json").read_text())["kept"],
    ):
        for layer, dropped in zip(content["layers"], view.kept.dropped, strict=True):
            lives = [np.frombuffer(base64.b64decode(text), "<u2") for text in layer["lives"]]
            assert layer["heads"] == 2 and len(lives) in (1, 2)
            np.testing.assert_array_equal(np.broadcast_to(lives, (2, 14)) + np.arange(14), dropped)
    assert kept_figure(view.kept, view.tokens).subfigs[1].axes[1].get_title() == "block 2"
    np.testing.assert_array_equal(over_time(view.kept, 0)[-1], (view.kept.dropped[0] == 14).mean(0, dtype=np.float32))
    assert np.isnan(over_time(view.kept, 0)[3, 4:]).all()
    for name, first in (("kept.svg", b"<svg"), ("kept.png", b"\x89PNG")):
        assert write_kept_figure(view.kept, view.tokens, tmp_path / name).read_bytes().startswith(first)


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        (Bound("best"), "there is no policy 'best'"),
        (
            Bound("full", 5),
            "full drops nothing, and 5 states are too few for 14 tokens. Leave --states out, or give 14",
        ),
    ],
)
def test_bad_bounds(transformer, bound, message):
    """A bound that makes no sense is answered with a sentence."""
    with pytest.raises(InputError, match=message):
        attend(transformer, LONG, bound=bound)


def test_what_is_kept_must_fit(loaded, transformer):
    """A recurrent model has nothing to bound; lives of other tokens, or before a token is read, are refused."""
    with pytest.raises(InputError, match="no layer of softmax attention: its memory is bounded as it is"):
        attend(loaded, TEXT, bound=Bound("tova"))
    what = views.kept(8)
    with pytest.raises(
        InputError, match=r"what is kept has shape \(2, 3, 8\); for 2 layers and 6 tokens it is \(2, kv_head, 6"
    ):
        views.view("abcdef", kept=what).check()
    with pytest.raises(InputError, match="a token is dropped before it is read"):
        views.view("abcdefgh", kept=dataclasses.replace(what, dropped=what.dropped - 2)).check()


@pytest.mark.slow
def test_the_command_bounds_and_draws(transformer, capsys, tmp_path, monkeypatch):
    """--policy prints what becomes of each kind of token, and draws it; its options alone, and another picture, are refused."""
    monkeypatch.chdir(tmp_path)
    checkpoints.save_weights("small.safetensors", transformer.model, notes(CharacterTokens("abc")))
    given = ["attend", "--model", "small.safetensors", "--text", LONG, "--target", "token"]
    assert main([*given, "--policy", "window+1", "--states", "3", "--figure", "kept.svg"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Kept under window+1, 3 states, over 2 layers: the first token by 4 of 4 heads" in shown
    assert "first token 1 100.0% 100.0% 14.0" in shown and (tmp_path / "kept.svg").exists()
    for more, message in (
        (["--states", "3"], "--states is of a policy; give --policy, such as tova"),
        (["--policy", "tova", "--figure", "kept.pdf"], "'kept.pdf' is no picture's name: let it end in .png or .svg"),
    ):
        assert main([*given, *more]) == 2
        assert message in capsys.readouterr().err


def test_a_page_or_a_folder(loaded, tmp_path):
    """A name that ends in .html is a page, another a folder for dualform serve."""
    view = attend(loaded, TEXT)
    assert write_view(view, tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert (write_view(view, tmp_path / "maps") / "attention.json").exists()


def test_a_bare_mixer_takes_activations(tmp_path):
    """A mixer that `save_weights` wrote is mapped on activations from an .npy file; others are refused."""
    checkpoints.save_weights(tmp_path / "gla.safetensors", GLA.make(4, key=jr.key(0)))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(6, 4)))
    np.save(tmp_path / "wide.npy", np.zeros((6, 5)))
    loaded = checkpoints.load(tmp_path / "gla.safetensors")
    view = attend(loaded, tmp_path / "x.npy", Question(target="token"))
    assert [layer.name for layer in view.layers] == ["whole model", "mixer"] and view.residual < 1e-10
    with pytest.raises(InputError, match=r"float64 of shape \(6, 5\); gla takes activations, \(time, 4\)"):
        attend(loaded, tmp_path / "wide.npy")
    with pytest.raises(InputError, match="gla came without a tokenizer"):
        attend(loaded, "text")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question(method="guess"), "--method guess: there are contributions, raw, rollout"),
        (Question(method="raw", target="state"), "--method raw explains a logit; for the target state"),
        (Question(target="token", output="a"), "--logit, --against and --place choose a logit; the target token"),
        (
            Question(output="ab"),
            "'ab' is not one output of two: give the text of a single token, or a number from 0 to 3",
        ),
        (Question(place=2), "--place 2 is the token at which another --method explains the logit"),
        (Question(method="gradient", place=6), "--place 6: the text has 6 tokens, from 0 to 5"),
        (Question(layer="block 9"), "there is no layer 'block 9'; there are block 1, block 2"),
    ],
)
def test_bad_questions(loaded, question, message):
    """A question that makes no sense is answered with a sentence."""
    with pytest.raises(InputError, match=message):
        attend(loaded, TEXT, question)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "what shall nowhere read"),
        (["--model", "nowhere", "--text", "a"], "there is no file or folder 'nowhere', and no model of that name"),
        (["--text", ""], "the text is empty"),
        (["--text", "a", "--file", "b.txt"], "--text and --file are both given"),
        (["--file", "missing.txt"], "there is no file 'missing.txt'. Check the path"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, capsys, tmp_path, monkeypatch):
    """A mistake of the caller's is a sentence and exit code 2; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert main(["attend", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_without_a_model(capsys, tmp_path, monkeypatch):
    """With no model at all, the one that comes with the package is mapped, and its certificate printed."""
    monkeypatch.chdir(tmp_path)
    assert main(["attend", "--text", "To be, or not"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "What characters attends to" in shown and "The whole model's residual is" in shown
    assert (tmp_path / "attention.html").stat().st_size > 10_000
