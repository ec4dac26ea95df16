"""How texts begin and end by a GGUF file, as llama.cpp has it, and tokenizers in it that do not fit together."""

import json

import pytest

from dualform.checkpoints.gguf_model import gguf_ends, gguf_tokenizer
from dualform.checkpoints.tokens import PublishedTokens
from dualform.errors import FileError

pytest.importorskip("tokenizers", reason="the optional package tokenizers is not installed")

TOKENS = ["a", "b", "ab", "<|begin|>", "<|end|>", "<|eot|>", "c"]
FILE = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": json.dumps(TOKENS),
    "tokenizer.ggml.merges": '["a b"]',
    "tokenizer.ggml.token_type": "[1, 1, 1, 3, 3, 3, 1]",
    "tokenizer.ggml.bos_token_id": "3",
    "tokenizer.ggml.eos_token_id": "4",
}


def changed(**keys: str | None) -> dict[str, str]:
    said = FILE | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    return {key: value for key, value in said.items() if value is not None}


def encoded(**keys: str | None) -> list[int]:
    text = gguf_tokenizer(changed(**keys), "a file")
    assert text is not None
    return PublishedTokens.parsed(text, "a file").encode("ab").tolist()


def test_what_stands_before_a_text():
    """add_bos_token is followed; without it a token begins a text in llama-bpe alone; an end is never added."""
    assert encoded() == encoded(add_bos_token="true") == encoded(add_eos_token="true") == [3, 2]
    assert encoded(add_bos_token="false") == encoded(bos_token_id=None) == [2]
    for pre in ("gpt-2", "default", "smollm", "qwen2"):
        assert encoded(pre=pre) == [2] and encoded(pre=pre, add_bos_token="true") == [3, 2]
    assert encoded(bos_token_id="5", add_bos_token="true") == [5, 2]


def test_what_ends_a_text():
    """The ends of a text, of a turn and of a message, each once; a number that is none is none."""
    assert gguf_ends(changed()) == [4]
    assert gguf_ends(changed(eot_token_id="5")) == [4, 5] and gguf_ends(
        changed(eom_token_id="6", eot_token_id="4")
    ) == [4, 6]
    assert gguf_ends(changed(eos_token_id=None)) == gguf_ends(changed(eos_token_id="\u0664")) == []
    assert gguf_ends(changed(eos_token_id=str(2**64))) == []


WRONG = {
    "outcome": {"merges": '["a c"]'},
    "part": {"merges": '["a x"]'},
    "empty token and outcome": {"tokens": json.dumps(["", "a", "b"]), "merges": '["a b"]', "token_type": None},
    "three parts": {"merges": '["a b c"]'},
    "no list": {"merges": "3"},
    "no text": {"tokens": "[1, 2]", "token_type": None},
    "types": {"token_type": "[1]"},
    "no json": {"tokens": "["},
    "deep": {"tokens": "[" * 100_000},
    "missing": {"tokens": None},
    "which begins": {"add_bos_token": "true", "bos_token_id": None},
    "begins beyond": {"bos_token_id": "7"},
    "begins by what is no number": {"bos_token_id": "\u00b2", "add_bos_token": "true"},
    "no flag": {"add_bos_token": "2"},
    "half a character": {"tokens": '["\\ud800", "a", "b", "ab"]', "token_type": None, "bos_token_id": None},
}


@pytest.mark.parametrize("case", WRONG)
def test_tokenizers_that_do_not_fit_together(case, capfd):
    """Each is refused in a sentence that can be printed, and the package has not panicked."""
    with pytest.raises(FileError, match="the tokenizer in a file does not fit together .* Copy it again") as caught:
        gguf_tokenizer(changed(**WRONG[case]), "a file")
    assert str(caught.value).isprintable() and "panicked" not in capfd.readouterr().err


def test_empty_tokens_are_no_damage():
    """A token that is empty is never said; one among those of control is left out of these."""
    text = gguf_tokenizer(
        changed(tokens=json.dumps(["", "a", "b", "ab"]), token_type="[3, 1, 1, 1]", bos_token_id=None), "f"
    )
    assert text is not None and PublishedTokens.parsed(text, "f").encode("ab").tolist() == [3]
