"""Text becomes tokens and comes back; what is not in a vocabulary has a token of its own, and bad input a sentence."""

import importlib
import json

import numpy as np
import pytest

from dualform.checkpoints.tokens import ByteTokens, CharacterTokens, PublishedTokens, Tokens, from_notes, notes, shown
from dualform.errors import FileError, InputError

TEXT = "h\u00e9llo \U0001f600\n"


def test_characters_go_there_and_back():
    """Characters of the vocabulary come back; all others are one token, shown as the replacement character."""
    tokens = CharacterTokens("helo \n")
    ids = tokens.encode(TEXT)
    np.testing.assert_array_equal(ids, [0, 6, 2, 2, 3, 4, 6, 5])
    assert ids.dtype == np.int32 and tokens.size == 7 and tokens.unknown == 6
    assert "".join(tokens.decode(ids)) == "h\ufffdllo \ufffd\n"
    assert tokens.encode("").shape == (0,) and tokens.decode(tokens.encode("")) == []


def test_bytes_go_there_and_back():
    """A byte each; those that are no character by themselves are shown in hexadecimal."""
    tokens = ByteTokens()
    ids = tokens.encode(TEXT)
    assert bytes(ids.tolist()).decode() == TEXT and ids.dtype == np.int32
    assert tokens.decode(ids)[:4] == ["h", "<C3>", "<A9>", "l"]


def test_every_tokenizer_has_the_one_face():
    """A size, encode and decode."""
    assert isinstance(CharacterTokens("a"), Tokens) and isinstance(ByteTokens(), Tokens)
    assert {"size", "encode", "decode"} <= set(vars(PublishedTokens))


@pytest.mark.parametrize("tokens", [CharacterTokens('a"\n\u20ac'), ByteTokens()])
def test_notes_in_a_file(tokens):
    """A file's metadata says which tokens its model reads, to the character."""
    found = from_notes(notes(tokens), "a file")
    assert found is not None and type(found) is type(tokens)
    np.testing.assert_array_equal(found.encode('a"\u20acx'), tokens.encode('a"\u20acx'))


def test_notes_that_say_nothing():
    """No note is no tokenizer; one that makes no sense is refused."""
    assert from_notes({}, "a file") is None
    for said in ("", "[]", "3", '{"kind": "characters"}', '{"kind": "characters", "vocabulary": "aa"}', "[" * 10_000):
        with pytest.raises(FileError, match="a file does not say clearly which tokens its model reads"):
            from_notes({"tokens": said}, "a file")


def test_bad_vocabularies_and_tokens():
    """A character twice, none at all; tokens out of range, of two axes, or no integers."""
    with pytest.raises(InputError, match="the vocabulary is empty"):
        CharacterTokens("")
    with pytest.raises(InputError, match="the vocabulary has 'b' twice"):
        CharacterTokens("abcb")
    tokens = CharacterTokens("ab")
    for ids, message in (
        ([3], "token 3 is not in this vocabulary, which goes from 0 to 2"),
        ([-1], "token -1 is not in this vocabulary"),
        ([[0]], r"must be one sequence of integers; got shape \(1, 1\)"),
        ([0.5], "of float64"),
    ):
        with pytest.raises(InputError, match=message):
            tokens.decode(ids)
    assert shown(None, [3, 1]) == ["3", "1"] and shown(tokens, np.array([0, 2])) == ["a", "\ufffd"]


SMALL = {
    "version": "1.0",
    "model": {
        "type": "BPE",
        "vocab": {"h": 0, "i": 1, "hi": 2, "\u0120": 3, "\u00c3": 4, "\u00a9": 5},
        "merges": [["h", "i"]],
    },
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
}


def test_a_published_tokenizer(tmp_path):
    """Pairs are merged as the file says; a part of a character is shown as the vocabulary has it."""
    pytest.importorskip("tokenizers", reason="the optional package tokenizers is not installed")
    (tmp_path / "tokenizer.json").write_text(json.dumps(SMALL))
    tokens = PublishedTokens.read(tmp_path / "tokenizer.json")
    np.testing.assert_array_equal(tokens.encode("hi h\u00e9"), [2, 3, 0, 4, 5])
    assert tokens.size == 6 and tokens.decode([2, 3, 0, 4, 5]) == ["hi", " ", "h", "\u00c3", "\u00a9"]
    with pytest.raises(InputError, match="token 6 is not in this vocabulary, which goes from 0 to 5"):
        tokens.decode([6])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileError, match="is not a whole tokenizer.json"):
        PublishedTokens.read(tmp_path / "tokenizer.json")


def test_a_published_tokenizer_without_its_package(tmp_path, monkeypatch):
    """Where `tokenizers` is not installed, it is said which extra brings it; a file that is not there is named."""

    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"needs the package tokenizers. Install it: .* 'dualform\[checkpoints\]'"):
        PublishedTokens.read(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match="needs the package tokenizers"):
        PublishedTokens.parsed("{}", "the file")
    monkeypatch.setattr(importlib, "import_module", lambda name: None)
    with pytest.raises(FileError, match="there is no file '.*tokenizer.json'"):
        PublishedTokens.read(tmp_path / "tokenizer.json")
