"""Text to tokens and back: characters, bytes, and the tokenizers that come with published models."""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from dualform.errors import FileError, InputError, require

UNKNOWN = "\ufffd"
"""How a character that is not in the vocabulary is shown: the replacement character."""


@runtime_checkable
class Tokens(Protocol):
    """What turns text into the numbers that a language model reads."""

    @property
    def size(self) -> int:
        """How many tokens there are; they are numbered from 0."""
        ...

    def encode(self, text: str) -> Int[np.ndarray, " time"]:
        """The tokens of a text, (time,), int32."""
        ...

    def decode(self, ids: Any) -> list[str]:
        """What each token says, one string for each, to be shown; joined, they are the text where it can be had."""
        ...


class CharacterTokens:
    """One token for each character of a vocabulary, and a last one for every other character.

    **Arguments:** vocabulary: the characters, each once, in the order of their numbers.

    **Raises:** `InputError` where there is none, or one is there twice.
    """

    def __init__(self, vocabulary: str):
        require(len(vocabulary) >= 1, "the vocabulary is empty; give at least one character.")
        twice = sorted({c for c in vocabulary if vocabulary.count(c) > 1})
        require(
            not twice,
            f"the vocabulary has {twice[0] if twice else ''!r} twice; each character needs a number of its own.",
        )
        self.vocabulary = vocabulary
        self._ids = {character: i for i, character in enumerate(vocabulary)}

    @property
    def size(self) -> int:
        """The characters, and one for all others."""
        return len(self.vocabulary) + 1

    @property
    def unknown(self) -> int:
        """The token of a character that is not in the vocabulary."""
        return len(self.vocabulary)

    def encode(self, text: str) -> Int[np.ndarray, " time"]:
        """One token for each character."""
        return np.array([self._ids.get(character, self.unknown) for character in text], np.int32)

    def decode(self, ids: Any) -> list[str]:
        """One character for each token; the replacement character for the unknown."""
        return [(self.vocabulary + UNKNOWN)[i] for i in checked_ids(ids, self.size)]


class ByteTokens:
    """One token for each byte of the text in UTF-8."""

    size = 256

    def encode(self, text: str) -> Int[np.ndarray, " time"]:
        """One token for each byte."""
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)

    def decode(self, ids: Any) -> list[str]:
        """The character where it is of one byte, else the byte in hexadecimal, as <E2>."""
        return [chr(i) if i < 128 else f"<{i:02X}>" for i in checked_ids(ids, self.size)]


class PublishedTokens:
    """The tokenizer of a published model, from its tokenizer.json, by the `tokenizers` package.

    **Arguments:** tokenizer: a `tokenizers.Tokenizer`.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "PublishedTokens":
        """From a tokenizer.json.

        **Raises:** `FileError` where it is missing or is none; `InputError` where `tokenizers` is not installed.
        """
        where = repr(os.fspath(path))
        _library(where)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise FileError(f"{where} cannot be read: {reason}. Check the path.") from None
        return cls.parsed(text, where)

    @classmethod
    def parsed(cls, text: str, where: str) -> "PublishedTokens":
        """From the text of a tokenizer.json, called `where`; errors as of `read`."""
        library = _library(where)
        try:
            return cls(library.Tokenizer.from_str(text))
        except Exception as error:  # the package raises bare exceptions
            raise FileError(f"{where} is not a tokenizer.json ({error}). Copy it again.") from None

    @property
    def size(self) -> int:
        """How many tokens there are, those that were added among them."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> Int[np.ndarray, " time"]:
        """The tokens, with those that the tokenizer puts around a text."""
        return np.array(self._tokenizer.encode(text).ids, np.int32)

    def encode_within(self, text: str) -> Int[np.ndarray, " time"]:
        """The tokens alone, without those that the tokenizer puts around a text."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    def decode(self, ids: Any) -> list[str]:
        """What each token says by itself, as the vocabulary has it where it says nothing by itself (a part of a character)."""
        found = []
        for i in checked_ids(ids, self.size):
            text = self._tokenizer.decode([i], skip_special_tokens=False)
            found.append(text if text and UNKNOWN not in text else str(self._tokenizer.id_to_token(i)))
        return found

    def text(self, ids: Any) -> str:
        """What tokens say together."""
        return self._tokenizer.decode(checked_ids(ids, self.size), skip_special_tokens=False)


def encode_within(tokens: Any, text: str) -> Int[np.ndarray, " time"]:
    """The tokens of a text that goes on from another one, which may be none.

    **Raises:** `InputError` for a text where there is no tokenizer.
    """
    if not text:
        return np.zeros(0, np.int32)
    require(tokens is not None, "the model came without a tokenizer, so that no text can be read for it.")
    return tokens.encode_within(text) if isinstance(tokens, PublishedTokens) else tokens.encode(text)


def text_of(tokens: Tokens | None, ids: Sequence[int]) -> str:
    """The text of tokens together: a character of several tokens is one, the replacement character where it is not whole."""
    if isinstance(tokens, PublishedTokens):
        return tokens.text(ids)
    if isinstance(tokens, ByteTokens):
        return bytes(checked_ids(ids, 256)).decode("utf-8", "replace")
    return " ".join(shown(None, ids)) if tokens is None else "".join(tokens.decode(ids))


def _library(where: str) -> Any:
    """The package tokenizers."""
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise InputError(
            f"reading {where} needs the package tokenizers. Install it: python -m pip install 'dualform[checkpoints]'."
        ) from None


def checked_ids(ids: Any, size: int) -> list[int]:
    """Tokens as Python's integers.

    **Raises:** `InputError` unless they are one sequence of integers from 0 to size - 1.
    """
    array = np.asarray(ids)
    require(
        array.ndim == 1 and (array.size == 0 or np.issubdtype(array.dtype, np.integer)),
        f"tokens must be one sequence of integers; got shape {array.shape} of {array.dtype}.",
    )
    wrong = [int(i) for i in array if not 0 <= i < size]
    require(not wrong, f"token {wrong[0] if wrong else 0} is not in this vocabulary, which goes from 0 to {size - 1}.")
    return [int(i) for i in array]


def notes(tokens: CharacterTokens | ByteTokens) -> dict[str, str]:
    """What a file of weights says of its tokens, for `save_weights(..., notes=...)`."""
    if isinstance(tokens, ByteTokens):
        return {"tokens": json.dumps({"kind": "bytes"})}
    return {"tokens": json.dumps({"kind": "characters", "vocabulary": tokens.vocabulary})}


def from_notes(metadata: Mapping[str, str], where: str) -> Tokens | None:
    """The tokens that a file's metadata names, None where it names none.

    **Raises:** `FileError` where it does not make sense.
    """
    if "tokens" not in metadata:
        return None
    try:
        said = json.loads(metadata["tokens"])
        if said == {"kind": "bytes"}:
            return ByteTokens()
        if set(said) == {"kind", "vocabulary"} and said["kind"] == "characters" and isinstance(said["vocabulary"], str):
            return CharacterTokens(said["vocabulary"])
    except (ValueError, TypeError, RecursionError):
        pass
    raise FileError(f"{where} does not say clearly which tokens its model reads. Write it again.")


def shown(tokens: Tokens | None, ids: Any) -> list[str]:
    """The tokens' own strings, or their numbers where the model has no tokenizer."""
    return [str(int(i)) for i in np.asarray(ids)] if tokens is None else tokens.decode(ids)
