"""`dualform probe`: a row for each layer, texts apart, and a sentence for what cannot be read."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from dualform import checkpoints, models
from dualform.checkpoints.loading import load
from dualform.checkpoints.tokens import CharacterTokens, notes
from dualform.cli import main
from dualform.lenses.probes.labelled import contrasted_texts, labelled_texts
from dualform.lenses.probes.places import activations, layers_of

LETTERS = "abcdefgh "


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A small recurrent model that reads letters."""
    path = tmp_path_factory.mktemp("probed") / "model.safetensors"
    with jax.enable_x64(False):
        made = models.min_rnn(key=jax.random.key(0), vocabulary=len(LETTERS) + 1, d=6, layers=2)
        checkpoints.save_weights(path, made, notes(CharacterTokens(LETTERS)))
    return str(path)


def written(path: Path, lines: list) -> str:
    """A file of lines of JSON."""
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts of four letters."""
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list("abcd"), 4)) for _ in range(count)]


def said(capsys, *arguments: str) -> list[str]:
    """The lines that a command prints."""
    with jax.enable_x64(False):
        assert main(["probe", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_every_layer_has_a_row(model, tmp_path, capsys):
    """The last letter is read off each layer, with its interval, its control and the commonest label beside it."""
    file = written(tmp_path / "a.jsonl", [{"text": t, "label": t[-1] in "ab"} for t in texts(60)])
    head, columns, *rows = said(capsys, model, "--data", file, "--kind", "difference")
    assert "of other texts scored" in head and columns.split() == ["layer", "accuracy", "AUROC", "control", "commonest"]
    with jax.enable_x64(False):
        layers = layers_of(load(model).model)
    assert [row[:20].strip() for row in rows] == list(layers)
    assert all(float(row[20:].split()[0]) > 0.8 for row in rows if row.startswith("block"))
    (row,) = said(capsys, model, "--data", file, "--layer", "block 2.state", "--kind", "lda", "--seed", "1")[2:]
    assert row.startswith("block 2.state ")


def test_other_kinds(model, tmp_path, capsys):
    """Contrast, and an onion's list of labels."""
    pairs = [{"yes": f"{t} a", "no": f"{t} b", "label": i % 2 == 0} for i, t in enumerate(texts(30))]
    rows = said(capsys, model, "--data", written(tmp_path / "c.jsonl", pairs), "--kind", "ccs", "--layer", "block 1")
    assert rows[0].startswith("ccs probe of") and len(rows) == 3


@pytest.mark.slow
def test_an_onion(model, tmp_path, capsys):
    """Labels in lists, of which shares are right: of whole lists, and of labels."""
    lists = [{"text": t, "label": list(t)} for t in texts(60)]
    file = written(tmp_path / "o.jsonl", lists)
    _, columns, row = said(capsys, model, "--data", file, "--kind", "onion", "--layer", "block 1.state")
    assert columns.split() == ["layer", "whole", "lists", "labels", "linear", "control", "commonest"]
    assert len(row.split()) == 11


def test_which_token_is_probed(model, tmp_path):
    """By its number, from either end, by a character of the text, or the last; a prefix gives what the whole text gives there."""
    lines = [{"text": "abcd", "label": 0, "token": 1}, {"text": "abcd", "label": 0, "token": -1}]
    lines += [{"text": "abcd", "label": 1, "char": 2}, {"text": "abc", "label": 1}]
    with jax.enable_x64(False):
        loaded = load(model)
        found = labelled_texts(written(tmp_path / "t.jsonl", lines), loaded)
        assert (
            found.at == [1, 3, 2, 2] and found.groups.tolist() == [0, 0, 0, 1] and found.types.tolist() == [1, 3, 2, 2]
        )
        rows = activations(loaded.model, found.texts, found.at, ("block 2", "block 1.state"))
        np.testing.assert_allclose(rows["block 2"][2], rows["block 2"][3], atol=1e-6)
        whole = loaded.model.read(found.texts[0])[0]
        np.testing.assert_allclose(rows["block 2"][:3], np.asarray(whole)[[1, 3, 2]], atol=1e-6)
        _, state = loaded.model(found.texts[0][:2])
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(state[0])])
        np.testing.assert_allclose(rows["block 1.state"][0], flat, atol=1e-6)
        yes, no = contrasted_texts(
            written(tmp_path / "p.jsonl", [{"yes": "ab", "no": "cd", "label": True}] * 2), loaded
        )
        assert yes.groups.tolist() == [0, 0] and no.at == [1, 1]


GOOD = [{"text": text, "label": text[-1] in "ab"} for text in texts(20)]
BAD = {
    "no JSON": (["{"], [], "line 1 of"),
    "no object": (["3"], [], 'is no object of JSON; write it as {"text": ..., "label": ...}'),
    "nothing": ([""], [], "has no example; write a line of JSON for each"),
    "no label": ([{"text": "a"}], [], "has no 'label'"),
    "another name": ([{"text": "a", "label": 1, "at": 3}], [], "has 'at', which nothing reads"),
    "no text": ([{"text": 3, "label": 1}], [], "the text of line 1"),
    "empty text": ([{"text": "", "label": 1}], [], 'is ""; give a text.'),
    "one class": ([{"text": t, "label": "x"} for t in texts(4)], [], "all 4 examples have the label 'x'"),
    "one text": ([{"text": "ab", "label": i} for i in range(2)], [], "the label '0' is on 1 text alone"),
    "fewer than classes": ([{"text": t, "label": t} for t in ("a", "b", "c")], [], "is on 1 text alone"),
    "token": ([{"text": "abc", "label": 1, "token": 3}], [], "its text has 3 tokens, from 0 to 2."),
    "token in words": ([{"text": "abc", "label": 1, "token": True}], [], "the token of line 1"),
    "char": ([{"text": "abc", "label": 1, "char": 3}], [], "its text has characters from 0 to 2."),
    "both": ([{"text": "abc", "label": 1, "char": 0, "token": 0}], [], "has both token and char; give one of them."),
    "list": ([{"text": "abc", "label": [1]}], [], "Lists are for --kind onion."),
    "no list": (GOOD, ["--kind", "onion"], "an onion probe peels off a list of labels, in order."),
    "one onion": ([{"text": "ab", "label": ["a", "b"]}], ["--kind", "onion"], "has one text alone; give at least two"),
    "ccs": (GOOD, ["--kind", "ccs"], "has no 'yes'"),
    "ccs label": ([{"yes": "a", "no": "b", "label": 1}], ["--kind", "ccs"], "is 1; give true or false."),
    "layer": (GOOD, ["--layer", "block 9"], "there is no layer 'block 9'; there are block 1"),
    "state of a norm": (GOOD, ["--layer", "norm.state"], "there is no layer 'norm.state'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_probed_is_said(name, model, tmp_path, capsys):
    """One sentence, and exit code 2."""
    lines, more, sentence = BAD[name]
    with jax.enable_x64(False):
        assert main(["probe", model, "--data", written(tmp_path / "bad.jsonl", lines), *more]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and error.startswith("dualform: ")
