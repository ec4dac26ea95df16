"""The tokenizers that come with published models, from their tokenizer.json."""

import contextlib
import functools
import importlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from dualform.errors import InputError
from dualform.reading import guarded, reading, reason, text_of_file
from dualform.token_ids import UNKNOWN, checked_ids, checked_text

TOKENIZER = "tokenizer.json"
"""What the file of a tokenizer is called."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A token that stands for a byte where the vocabulary has no character for it."""


class PublishedTokens:
    """The tokenizer of a published model, from its tokenizer.json, by the `tokenizers` package.

    What tokenizer.json has beside the tokens for training and for batches is left out: lengths to cut and to fill texts to, and
    merges that are dropped at random. So is what it puts behind a text: a text that is read here goes on.

    **Arguments:** tokenizer: a `tokenizers.Tokenizer`, which is not changed.
    """

    def __init__(self, tokenizer: Any):
        if tokenizer.truncation or tokenizer.padding or getattr(tokenizer.model, "dropout", None):
            tokenizer = type(tokenizer).from_str(tokenizer.to_str())
            tokenizer.no_truncation()
            tokenizer.no_padding()
            if hasattr(tokenizer.model, "dropout"):
                tokenizer.model.dropout = None
        self._tokenizer = tokenizer
        self._said: dict[int, str] = {}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "PublishedTokens":
        """From a tokenizer.json.

        **Raises:** `FileError` where it is missing or is none; `InputError` where `tokenizers` is not installed.
        """
        where = repr(os.fspath(path))
        _library(where)
        return cls.parsed(text_of_file(path), where)

    @classmethod
    def parsed(cls, text: str, where: str) -> "PublishedTokens":
        """From the text of a tokenizer.json, called `where`; errors as of `read`."""
        library = _library(where)
        with reading(where, "tokenizer.json"):
            said = json.loads(text)
            if "merges" in said["model"]:
                merges = [m.split(" ", 1) if isinstance(m, str) else m for m in said["model"]["merges"]]
                check_merges(said["model"]["vocab"], merges, said["model"].get("continuing_subword_prefix") or "")
            _check_template(said.get("post_processor") or {})
            made = cls(library.Tokenizer.from_str(text))
            return made

    def bare(self) -> str:
        """The text of its tokenizer.json, by which nothing stands around a text."""
        return json.dumps(json.loads(self._tokenizer.to_str()) | {"post_processor": None}, ensure_ascii=False)

    @property
    def size(self) -> int:
        """One more than the largest number of a token, those that were added among them; some below may be of none."""
        return self._size

    @functools.cached_property
    def _size(self) -> int:
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    @functools.cached_property
    def beginning(self) -> tuple[int, ...]:
        """What the tokenizer puts before a text."""
        for text in ("a", *([] if self._anchor is None else self._anchor[1:])):
            with contextlib.suppress(InputError), _asked("read this text"):
                found = self._tokenizer.encode(text)
                if 0 in found.sequence_ids:
                    return tuple(found.ids[: found.sequence_ids.index(0)])
        return ()

    def encode(self, text: str) -> Int[np.ndarray, " time"]:
        """The tokens, behind those that the tokenizer puts before a text.

        **Raises:** `InputError` where it cannot read the text.
        """
        return np.concatenate([np.array(self.beginning, np.int32), self.encode_within(text)])

    def encode_within(self, text: str) -> Int[np.ndarray, " time"]:
        """The tokens alone, without those that the tokenizer puts around a text; errors as of `encode`."""
        with _asked("read this text"):
            return np.array(self._tokenizer.encode(checked_text(text), add_special_tokens=False).ids, np.int32)

    def decode(self, ids: Any) -> list[str]:
        """What each token says where it stands, as the vocabulary has it where it says nothing by itself (a part of a character).

        A number that is no token's is the replacement character.
        """
        found = []
        for place, i in enumerate(checked_ids(ids, self.size)):
            text = self._behind(i) if place else self._text([i])
            found.append(text if text and UNKNOWN not in text else self._tokenizer.id_to_token(i) or UNKNOWN)
        return found

    def text(self, ids: Any) -> str:
        """What tokens say together; a number that is no token's says nothing."""
        return self._text(checked_ids(ids, self.size))

    def text_within(self, ids: Sequence[int]) -> str:
        """What tokens say together behind another text: many decoders take a space away before the first token of a text.

        Numbers beyond the vocabulary, which a model with more rows than it has tokens may give, say nothing.
        """
        if self._anchor is None:
            return self._text(ids)
        anchor, before = self._anchor
        both = self._text([anchor, *ids])
        return both[len(before) :] if both.startswith(before) else self._text(ids)

    def bytes_of(self, i: int) -> int:
        """How many bytes of a text in UTF-8 one token stands for, behind another; those of a part of a character, too."""
        text = self.text_within([i])
        if UNKNOWN not in text:
            return len(text.encode())
        name = self._tokenizer.id_to_token(i) or ""
        return (
            1 if self._has_bytes and _BYTE.fullmatch(name) else len(name)
        )  # at the level of bytes, a character for each

    def _behind(self, i: int) -> str:
        """What one token says behind another; a space that the decoder puts between words, and the token has not, is left out."""
        if i not in self._said:
            alone, behind = self._text([i]), self.text_within([i])
            self._said[i] = alone if alone == self._tokenizer.id_to_token(i) and behind == f" {alone}" else behind
        return self._said[i]

    def _text(self, ids: Sequence[int]) -> str:
        with _asked("say these tokens"):
            text = self._tokenizer.decode(ids, skip_special_tokens=False)
            if UNKNOWN not in text or not self._has_bytes:
                return text
            # The package gives up all bytes of a run where one character of it is not whole.
            names = (self._tokenizer.id_to_token(i) for i in ids)
            return self._tokenizer.decoder.decode(list(_joined_bytes(name for name in names if name is not None)))

    @functools.cached_property
    def _has_bytes(self) -> bool:
        """Whether there are tokens that stand for bytes."""
        decoder = self._tokenizer.decoder
        return decoder is not None and decoder.decode(["<0x41>"]) == "A"

    @functools.cached_property
    def _anchor(self) -> tuple[int, str] | None:
        """A token, and what it says by itself, behind which another one says what it says within a text."""
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        for name, i in sorted(vocabulary.items(), key=lambda each: each[1]):
            text = self._text([i])
            plain = text.strip() and text.isprintable() and UNKNOWN not in text and not _BYTE.fullmatch(name)
            if plain and self._text([i, i]).startswith(text):
                return i, text
        return None


def _joined_bytes(names: Iterable[str]) -> Iterable[str]:
    """The tokens with each run of bytes as its text, in which what is no whole character is the replacement character."""
    run = bytearray()
    for name in names:
        if byte := _BYTE.fullmatch(name):
            run.append(int(byte[1], 16))
            continue
        if run:
            yield run.decode("utf-8", "replace")
            run.clear()
        yield name
    if run:
        yield run.decode("utf-8", "replace")


def check_merges(vocabulary: Mapping[str, int], merges: Iterable[Sequence[str]], prefix: str = "") -> None:
    """Raise `ValueError` where a merge is of what is no token, or gives none: the package stops at it with a panic.

    **Arguments:** prefix: what a token that goes on from another begins with, which a merge takes away.
    """
    for first, second in merges:
        for token in (first, second, first + second.removeprefix(prefix)):
            if token not in vocabulary or not second.startswith(prefix):
                raise ValueError(f"the merge of {first!r} and {second!r} needs {token!r}, which is no token")


def _check_template(processor: Mapping[str, Any]) -> None:
    """Raise `ValueError` where what is put around a text is not said: the package stops at it with a panic."""
    for each in processor.get("processors", [processor]):
        pieces = [*each.get("single", []), *each.get("pair", [])] if each.get("type") == "TemplateProcessing" else []
        for piece in pieces:
            name = piece["SpecialToken"]["id"] if "SpecialToken" in piece else None
            if name is not None and name not in each["special_tokens"]:
                raise ValueError(f"{name!r} stands around a text, and which token it is is not said")


def _asked(what: str) -> contextlib.AbstractContextManager[None]:
    """Within it, whatever the package raises is an `InputError`."""
    return guarded(lambda error: InputError(f"the model's tokenizer cannot {what} ({reason(error)})."))


def _library(where: str) -> Any:
    """The package tokenizers."""
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise InputError(
            f"reading {where} needs the package tokenizers. Install it: python -m pip install 'dualform[checkpoints]'."
        ) from None
