"""Text by a tokenizer: parts that share nothing, bits per byte that any tokens can be compared by, and a run that keeps it."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from dualform import checkpoints, tasks
from dualform.cli import main
from dualform.errors import FileError, InputError
from dualform.published_tokens import PublishedTokens
from dualform.training.recipe import measure
from tests.fuzz.make_corpus import tokenizer

pytest.importorskip("tokenizers", reason="the optional package tokenizers is not installed")

TEXT = "ab cab dabab" * 100  # a part ends between an a and its b
OTHER = "a \u20ac b" * 200  # a character that is three tokens


def bits(task: tasks.Text) -> dict[str, float]:
    """The scores of a model that finds all tokens as likely, on the test."""
    even = lambda x: (jnp.zeros((len(x), task.vocabulary), jnp.float32), None)
    return measure(task, even, list(task.held_out("test")))


@pytest.mark.parametrize(("kind", "text"), [("bytes", TEXT), ("sentencepiece", OTHER)])
def test_each_part_is_read_by_itself(kind, text, tmp_path):
    """Its tokens say it again, to the letter; and their bytes are those of the text."""
    (tmp_path / "text.txt").write_text(text)
    tokenizer(kind).save(str(tmp_path / "tokenizer.json"))
    task = tasks.Text.open(tmp_path / "text.txt", tokenizer=tmp_path / "tokenizer.json", time=8, batch=4)
    tokens = PublishedTokens.parsed(task.tokenizer_json, "the task's")
    first, second = int(0.9 * len(text)), int(0.95 * len(text))
    parts = (task.train, task.validation, task.test)
    for ids, part in zip(parts, (text[:first], text[first:second], text[second:]), strict=True):
        assert tokens.text(np.asarray(ids)) == part
    assert task.vocabulary == tokens.size and tokens.beginning == ()
    [y] = [np.concatenate([np.asarray(y).reshape(-1) for _, y in task.held_out("test")])]
    assert len(y) == (len(task.test) - 1) // 8 * 8
    foretold = tokens.text_within(y.tolist()).strip("\ufffd")
    found = bits(task)
    assert found["loss"] == pytest.approx(math.log(tokens.size), rel=1e-6)
    most, least = (len(y) * math.log2(tokens.size) / n for n in (len(foretold.encode()), len(foretold.encode()) + 5))
    assert least <= found["bits_per_byte"] <= most * (1 + 1e-6)


def test_bits_per_byte_of_characters_and_bytes(tmp_path):
    """A byte in 256 that are as likely is 8 bits; a character is over its bytes; what a tokenizer loses has none."""
    (tmp_path / "text.txt").write_text(OTHER)
    assert bits(tasks.Text.open(tmp_path / "text.txt", time=8, unit="bytes"))["bits_per_byte"] == pytest.approx(8)
    found = bits(tasks.Text.open(tmp_path / "text.txt", time=10))["bits_per_byte"]
    assert found == pytest.approx(math.log2(5) * 5 / 7, rel=1e-6)  # five characters, seven bytes, again and again
    tokenizer("bytes").save(str(tmp_path / "tokenizer.json"))  # which knows no euro sign
    lost = tasks.Text.open(tmp_path / "text.txt", tokenizer=tmp_path / "tokenizer.json", time=8)
    assert lost.bytes_of is None and "bits_per_byte" not in bits(lost)


def test_tokenizers_that_cannot_be_had(tmp_path):
    """A unit beside it, a file that is none, and one that is not there."""
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="a tokenizer says its own tokens; give it, or the unit"):
        tasks.Text.open(tmp_path / "text.txt", tokenizer=tmp_path / "tokenizer.json", unit="bytes")
    with pytest.raises(FileError, match="is not a whole tokenizer.json"):
        tasks.Text.open(tmp_path / "text.txt", tokenizer=str(tmp_path / "tokenizer.json"))
    with pytest.raises(FileError, match="there is no file '.*none.json'"):
        tasks.Text.open(tmp_path / "text.txt", tokenizer=str(tmp_path / "none.json"))


@pytest.mark.slow
def test_a_training_by_a_tokenizer_writes_text(tmp_path, capsys):
    """The run keeps it, without what it puts before a text, and is asked in text when the first file is gone."""
    (tmp_path / "text.txt").write_text(TEXT)
    tokenizer("bytes").save(str(tmp_path / "tokenizer.json"))
    run, sizes = (
        tmp_path / "run",
        ("--mixer", "min_gru", "--width", "8", "--layers", "1", "--steps", "4", "--batch", "4"),
    )
    given = ("--data", str(tmp_path / "text.txt"), "--tokenizer", str(tmp_path / "tokenizer.json"))
    assert main(["train", "text", *given, *sizes, "--set", "settings.time=8", "--out", str(run)]) == 0
    assert "bits_per_byte" in json.loads((run / "result.json").read_text())["test"]["test"]
    assert "bits_per_byte" in capsys.readouterr().out
    (tmp_path / "tokenizer.json").unlink()
    loaded = checkpoints.load(run)
    np.testing.assert_array_equal(loaded.encode("ab"), PublishedTokens(tokenizer("bytes")).encode_within("ab"))
    assert main(["generate", "--model", str(run), "--prompt", "ab cab", "--length", "5"]) == 0
    said = capsys.readouterr().out.rstrip("\n")
    assert said and not any(c.isdigit() for c in said)
    assert main(["train", "copy", "--tokenizer", "t.json", "--out", str(tmp_path / "copy")]) == 2
    assert "has no setting 'tokenizer'" in capsys.readouterr().err
