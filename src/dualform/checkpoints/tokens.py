"""Text to tokens and back: characters, bytes, and the tokenizers that come with published models."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from dualform.errors import FileError, require
from dualform.published_tokens import PublishedTokens
from dualform.token_ids import UNKNOWN, checked_ids, checked_text

__all__ = [
    "UNKNOWN",
    "ByteTokens",
    "CharacterTokens",
    "PublishedTokens",
    "Tokens",
    "beginning",
    "checked_ids",
    "encode_within",
    "from_notes",
    "notes",
    "shown",
    "text_of",
]


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
        require(len(checked_text(vocabulary)) >= 1, "the vocabulary is empty; give at least one character.")
        twice = sorted(c for c, count in Counter(vocabulary).items() if count > 1)
        require(
            not twice,
            f"the vocabulary has {twice[0] if twice else ''!r} twice; each character needs a number of its own.",
        )
        self.vocabulary = vocabulary
        self._characters = vocabulary + UNKNOWN
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
        return np.array([self._ids.get(character, self.unknown) for character in checked_text(text)], np.int32)

    def decode(self, ids: Any) -> list[str]:
        """One character for each token; the replacement character for the unknown."""
        return [self._characters[i] for i in checked_ids(ids, self.size)]


class ByteTokens:
    """One token for each byte of the text in UTF-8."""

    size = 256

    def encode(self, text: str) -> Int[np.ndarray, " time"]:
        """One token for each byte."""
        return np.frombuffer(checked_text(text).encode(), np.uint8).astype(np.int32)

    def decode(self, ids: Any) -> list[str]:
        """The character where it is of one byte, else the byte in hexadecimal, as <E2>."""
        return [chr(i) if i < 128 else f"<{i:02X}>" for i in checked_ids(ids, self.size)]


def encode_within(tokens: Any, text: str) -> Int[np.ndarray, " time"]:
    """The tokens of a text that goes on from another one, which may be none.

    **Raises:** `InputError` for a text where there is no tokenizer.
    """
    if not text:
        return np.zeros(0, np.int32)
    require(tokens is not None, "the model came without a tokenizer, so that no text can be read for it.")
    return tokens.encode_within(text) if isinstance(tokens, PublishedTokens) else tokens.encode(text)


def beginning(tokens: Any) -> tuple[int, ...]:
    """The tokens that stand before every text, such as one that says that it begins; most kinds have none."""
    return tokens.beginning if isinstance(tokens, PublishedTokens) else ()


def text_of(tokens: Tokens | None, ids: Sequence[int]) -> str:
    """The text of tokens that a model gave, behind another text; numbers where the model has no tokenizer.

    A character of several tokens is one, the replacement character where it is not whole. A model may have more rows than there
    are tokens: what is beyond them is a replacement character, or nothing.
    """
    if isinstance(tokens, PublishedTokens):
        return tokens.text_within(ids)
    if isinstance(tokens, ByteTokens):
        return bytes(i if i < ByteTokens.size else 0xFF for i in ids).decode("utf-8", "replace")
    return (" " if tokens is None else "").join(shown(tokens, ids))


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
    """The tokens' own strings, the replacement character beyond the last; their numbers where the model has no tokenizer."""
    numbers = [int(i) for i in np.asarray(ids)]
    if tokens is None:
        return [str(i) for i in numbers]
    size = tokens.size
    inside = iter(tokens.decode(np.array([i for i in numbers if i < size], np.int64)))
    return [next(inside) if i < size else UNKNOWN for i in numbers]
