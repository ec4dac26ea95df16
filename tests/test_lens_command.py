"""`dualform lens`: what is printed and written, both pages with their links, and a training that goes on where it was stopped."""

import html
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dualform import checkpoints, lenses, models
from dualform.checkpoints.tokens import CharacterTokens, notes
from dualform.cli import main
from dualform.lenses import lens_training
from tests.reports.test_attention_page import embedded, first

LETTERS = "abcdefgh \n"
TEXT = "abc def\nhad a bad cab, a fed chef\n" * 12
TRAIN = ["--train", "--file", "text", "--steps", "4", "--batch", "2", "--length", "8"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """With a small model that reads letters, another one, and a text; float32 is a user's default."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text(TEXT)
    with jax.enable_x64(False):
        for name, seed in (("model", 0), ("other", 1)):
            sizes: Any = {"vocabulary": 11, "d": 4, "layers": 2, "heads": 1, "kv_heads": 1, "hidden": 4, "context": 64}
            made = models.llama(key=jax.random.key(seed), **sizes)
            checkpoints.save_weights(f"{name}.safetensors", made, notes(CharacterTokens(LETTERS)))
        yield


def test_a_text_is_read(capsys):
    """The terminal has each token with what layers would say, and means by layer; the page has the lens's own numbers."""
    assert main(["lens", "model.safetensors", "--text", "a bad\ncab"]) == 0
    said = capsys.readouterr().out
    content, _ = embedded(Path("lens.html").read_text())
    model = checkpoints.load("model.safetensors")
    reading = lenses.logit_lens(model.model, model.encode("a bad\ncab"))
    (lens,) = content["lenses"]
    assert content["tokens"] == list("a bad\ncab") and content["layers"] == list(reading.layers)
    np.testing.assert_allclose(lens["kl"], reading.kl, rtol=1e-3, atol=1e-6)
    assert "What each layer of model would say" in said and "lens.html" in said
    rows = [line.split() for line in said.splitlines() if line.startswith(("embedding", "block"))]
    assert [row[-3] for row in rows] == [f"{float(np.mean(kl, dtype=np.float64)):.3g}" for kl in reading.kl_bits]
    assert rows[-1][-1] == "100%" and said.count("%") >= 9 * 3
    command = "dualform attend --model model.safetensors --text 'a bad\ncab' --out attention.html"
    assert ["attention page", command] in content["details"]


def test_a_lens_is_trained_and_read_with(capsys):
    """KL of both lenses by layer on the part that is held out; the file is the model's alone, and the page has both lenses."""
    assert main(["lens", "model.safetensors", *TRAIN, "--out", "tuned"]) == 0
    said = capsys.readouterr().out
    result = json.loads(Path("tuned.run/result.json").read_text())
    assert result["layers"] == ["embedding", "block 1"] and result["steps"] == 4
    for layer, *bits in zip(result["layers"], result["logit_bits"], result["tuned_bits"], strict=True):
        assert re.search(rf"^{layer} +{bits[0]:.4g} +{bits[1]:.4g} ", said, flags=re.M), said
    assert main(["lens", "model.safetensors", "--file", "text", "--tuned", "tuned", "--out", "page.html"]) == 0
    content, _ = embedded(Path("page.html").read_text())
    assert [each["name"] for each in content["lenses"]] == ["logit lens", "tuned lens"]
    capsys.readouterr()
    assert main(["lens", "other.safetensors", "--text", "a", "--tuned", "tuned"]) == 2
    assert "the tuned lens in 'tuned' is of a model with other weights" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_held_out_is_not_trained_on(monkeypatch):
    """Windows are of the first nine tenths of the text; what is measured is of the last."""
    seen: dict[str, Any] = {}
    fit, losses = lens_training.train_lens, lens_training.lens_losses
    run = "dualform.lenses.lens_run."
    monkeypatch.setattr(run + "train_lens", lambda m, w, *a, **k: seen.update(trained=w) or fit(m, w, *a, **k))
    monkeypatch.setattr(run + "lens_losses", lambda m, lens, w: seen.update(measured=w) or losses(m, lens, w))
    assert main(["lens", "model.safetensors", *TRAIN, "--out", "tuned"]) == 0
    ids = CharacterTokens(LETTERS).encode(TEXT)
    cut = len(TEXT) - int(0.1 * len(TEXT))
    np.testing.assert_array_equal(seen["trained"].tokens, ids[:cut])
    assert (seen["measured"][0] == ids[cut : cut + 8]).all() and (seen["measured"][-1] == ids[-8:]).all()


@pytest.mark.slow
def test_a_training_goes_on(monkeypatch, capsys):
    """Interrupted it says so, with 130, and writes no lens; the same command ends with the same file as without."""
    assert main(["lens", "model.safetensors", *TRAIN, "--out", "whole"]) == 0

    def stops(config):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lens_training, "nesterov", stops)
        assert main(["lens", "model.safetensors", *TRAIN, "--out", "cut"]) == 130
    assert "nothing is lost, the same command goes on" in capsys.readouterr().err and not Path("cut").exists()
    for _ in range(2):
        assert main(["lens", "model.safetensors", *TRAIN, "--out", "cut"]) == 0
        assert Path("cut").read_bytes() == Path("whole").read_bytes()
    assert main(["lens", "model.safetensors", *TRAIN[:-1], "9", "--out", "cut"]) == 2
    assert "was made with lens.length = 8, and now it is 9" in capsys.readouterr().err


@pytest.mark.slow
def test_both_pages(capsys):
    """The attention page is what `attend` writes, and each has a link to the other."""
    line = ["lens", "model.safetensors", "--text", "abc", "--out", "a/lens.html", "--attention", "b/attention.html"]
    assert main(line) == 0
    pages = [Path("a/lens.html"), Path("b/attention.html")]
    said = capsys.readouterr().out
    assert all(str(page) in said for page in pages)
    links = [html.unescape(first(r'id="beside" href="([^"]*)"', page.read_text())) for page in pages]
    assert links == ["./../b/attention.html", "./../a/lens.html"]
    assert main(["attend", "--model", "model.safetensors", "--text", "abc", "--out", "c.html"]) == 0
    _, maps = embedded(pages[1].read_text())
    assert maps == embedded(Path("c.html").read_text())[1] and maps


BAD = {
    ("--text", "a", "--file", "text"): "--text and --file are both given; give one of them",
    (): "what shall model.safetensors read? Give --text '...' or --file FILE",
    ("--train",): "--train needs a text to train on; give --file FILE",
    ("--text", ""): "the text is empty",
    ("--text", "a", "--attention", "x"): "--attention x: give another name that ends in .html",
    ("--text", "a", "--attention", "lens.html"): "--attention lens.html: give another name that ends in .html",
    ("--text", "a", "--tuned", "nowhere"): "there is no file 'nowhere'",
    ("--text", "a", "--tuned", "model.safetensors"): "'model.safetensors' is no tuned lens",
    ("--text", "a" * 1100): "the text has 1,100 tokens; lenses of up to 1,024 can be shown",
    ("--train", "--file", "text", "--steps", "0"): "steps is 0; give a whole number, at least 1",
    ("--train", "--file", "text", "--length", "999"): "the text to train on has 368 tokens, and a window needs 999",
    ("--train", "--file", "short"): "the text has 3 characters; its last tenth is held out",
}


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_mistakes_get_a_sentence(arguments, capsys):
    """With exit code 2, and nothing is written."""
    Path("short").write_text("abc")
    before = {path.name for path in Path().iterdir()}
    assert main(["lens", "model.safetensors", *arguments]) == 2
    assert BAD[arguments] in capsys.readouterr().err
    assert {path.name for path in Path().iterdir()} == before


def test_what_reads_no_text_trains_no_lens(capsys, real_model):
    """A model that is no language model is named with what it is."""
    real_model("g2p-en")
    assert main(["lens", "g2p-en", "--train", "--file", "text"]) == 2
    assert "which reads no text token by token" in capsys.readouterr().err
