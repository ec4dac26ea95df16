"""Texts as commands take them: files with marks and odd ends of lines, arguments that are none, and beginnings of texts."""

import jax
import numpy as np
import pytest

from dualform import checkpoints, generation
from dualform.cli import main
from dualform.commands.generate import Generate
from dualform.commands.perplexity import chosen_bounds
from dualform.errors import InputError
from dualform.generation import passages_of, perplexity
from dualform.reports.attend import _number
from tests.checkpoints.test_beside_weights import folder
from tests.fuzz.make_corpus import CORPUS, LETTERS, tokenizer

pytest.importorskip("tokenizers", reason="the optional package tokenizers is not installed")
BEGIN = LETTERS.index("<|begin|>")


@pytest.fixture(scope="module")
def begins(tmp_path_factory):
    """A small Llama whose tokenizer puts a token before a text."""
    path = folder(tmp_path_factory.mktemp("models") / "begins")
    (path / "tokenizer.json").write_text(tokenizer("bytes").to_str())
    return path


def test_every_passage_begins_as_a_text_does(begins, tmp_path, monkeypatch, capsys):
    """Each passage of a text has the token that stands before texts, and then a part of the text itself."""
    (tmp_path / "text").write_text("\ufeffc ab hi " * 12)
    seen, whole = [], generation.perplexity
    monkeypatch.setattr(
        generation, "perplexity", lambda model, passages: (seen.append(passages), whole(model, passages))[1]
    )
    arguments = ("--model", str(begins), "--passages", "3", "--length", "12")
    with jax.enable_x64(False):
        assert main(["perplexity", "--file", str(tmp_path / "text"), *arguments]) == 0
    capsys.readouterr()
    assert seen[0].shape == (3, 12) and (seen[0][:, 0] == BEGIN).all() and not (seen[0][:, 1:] == BEGIN).any()
    loaded = checkpoints.load(begins)
    text = "".join(loaded.decode(loaded.encode((tmp_path / "text").read_text("utf-8-sig")))[1:])
    for row in seen[0]:
        assert "".join(loaded.decode(row)[1:]) in text


def test_what_stands_before_a_text_is_not_predicted(begins):
    """Passages behind two tokens count what follows them alone, given both; the text's share is shorter by two."""
    model = checkpoints.load(begins).model
    tokens = np.arange(12, dtype=np.int32) % 7
    passages = passages_of(tokens, 2, 6, (BEGIN, 1))
    assert passages.tolist() == [[BEGIN, 1, 0, 1, 2, 3], [BEGIN, 1, 1, 2, 3, 4]]
    logits = np.asarray(model(jax.numpy.asarray(passages[0]))[0], np.float64)
    worth = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -np.mean([worth[t - 1, passages[0, t]] for t in (2, 3, 4, 5)])
    np.testing.assert_allclose(perplexity(model, passages, given=2).losses[0], expected, rtol=1e-6)
    assert passages_of(tokens, 3, 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 0], [1, 2, 3, 4]]
    for call, message in (
        (
            lambda: passages_of(tokens, 1, 2, (1, 2)),
            "passages of 2 tokens have no place behind the 2 that stand before",
        ),
        (lambda: perplexity(model, passages, given=6), "give .passage, time., each of at least 7 tokens"),
        (
            lambda: perplexity(model, passages, given=0),
            "given is 0; at least the first token of a passage is only read",
        ),
        (lambda: perplexity(model, passages + 8), "token 0 is 20; this vocabulary goes from 0 to 15"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_one_token_is_an_output_whatever_stands_before_texts(begins):
    """The text of a token names its logit, without what begins a text; digits of no number name none."""
    loaded = checkpoints.load(begins)
    number = lambda asked: _number(loaded, asked, loaded.model.vocabulary)
    assert [number(asked) for asked in ("ab", "<|end|>", "15", "c")] == [14, 13, 15, 2]
    for wrong in ("\u00b2", "\u0663", "16", "abc", "9" * 5000, ""):
        with pytest.raises(
            InputError, match="is not one output of begins: give the text of a single token, or a number"
        ):
            number(wrong)


def test_prompts_are_the_lines_of_a_file(tmp_path):
    """A line ends at a newline alone; a byte-order mark is no part of the first."""
    path = tmp_path / "prompts"
    path.write_bytes(b"\xef\xbb\xbfTo be\r\n\n  \none\xe2\x80\xa8line\x0cof \xc2\x85text\x1c.\nlast")
    assert Generate(prompts=path)._prompts() == ["To be", "one\u2028line\x0cof \x85text\x1c.", "last"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--prompt", "caf\udce9", "--length", "3"),
        ("generate", "--prompt", "a", "--length", "3", "--stop", "\udce9"),
        ("generate", "--prompts", "latin"),
        ("attend", "--text", "caf\udce9"),
        ("attend", "--text", "a", "--logit", "\udce9"),
        ("attend", "--file", "latin"),
        ("perplexity", "--file", "latin"),
    ],
)
def test_what_is_no_text_gets_a_sentence(begins, arguments, tmp_path, monkeypatch, capsys):
    """Arguments and files that are no UTF-8: exit code 2, one sentence, and nothing written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with jax.enable_x64(False):
        assert main([*arguments, "--model", str(begins)]) == 2
    said = capsys.readouterr().err
    assert "no text in UTF-8. Convert it" in said and said.count("\n") == 1 and said.removesuffix("\n").isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["latin"]


def test_bounds_are_policies_with_numbers():
    """Each policy that drops some has each number; one below 1, and a policy's number that is none, are refused."""
    assert chosen_bounds(("full", "tova"), (4, 8)) == [("full", None), ("tova", 4), ("tova", 8)]
    for wrong in ((0,), (4, -1), ()):
        with pytest.raises(InputError, match="give whole numbers of at least 1"):
            chosen_bounds(("tova",), wrong)
    for wrong in ("window+\u00b2", "window+", "window+" + "9" * 30):
        with pytest.raises(InputError, match="there is no policy 'window"):
            generation.policy(wrong)


def test_a_model_without_a_tokenizer_has_no_beginning(tmp_path, capsys):
    """It is said before anything is measured."""
    path = folder(tmp_path / "a")
    (tmp_path / "text").write_text("abc" * 99)
    assert main(["perplexity", "--file", str(tmp_path / "text"), "--model", str(path)]) == 2
    assert "came without a tokenizer" in capsys.readouterr().err
    assert checkpoints.load(CORPUS / "own.safetensors").encode("ab").tolist() == [0, 1]
