"""Text: each token of a file foretold from those before it."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Int, Integer

from dualform.errors import InputError, require
from dualform.published_tokens import PublishedTokens
from dualform.reading import text_of_file
from dualform.tasks.registration import register
from dualform.tasks.scores import Score, Scores, of_tokens
from dualform.tasks.task import AbstractTask, Batch, checked_settings, setting


@register("text")
class Text(AbstractTask):
    """The next token of a text, in windows of `time` tokens, each read from the initial state.

    A token is a character, a byte, or one of a tokenizer.json. The first 90% of the text are for training, the next 5% for
    validation, the last 5% for the test; a window lies in one part. Training draws windows anywhere in its part; what is held
    out is read whole, in windows side by side, and what is left at the end of a part, less than a window, is not asked for.
    For a tokenizer the text is cut first, so that no token has letters of two parts. Whether the tokenizer was made of this same
    text is not known here.

    "bits_per_byte" is the loss over the bytes, in UTF-8, of what was foretold: by it texts in different tokens are compared. It
    is missing where tokens do not say the text again, as of a tokenizer that makes letters small, or leaves out what it does
    not know.

    - unit: "characters" or "bytes".  tokenizer: the path of a tokenizer.json, instead.  time: tokens of a window.
    - train, validation, test: the numbers of their tokens.  bytes_of: how many each token stands for, (vocabulary,),
      None where they do not make up the text.  count: of the vocabulary.  characters: in the order of their numbers, "" where
      tokens are others.  tokenizer_json: what the file says, "" where there is none; without what it puts around a text.

    **Raises:** `InputError` where a part is shorter than a window.
    """

    train: Integer[Array, " trained"]
    validation: Integer[Array, " validated"]
    test: Integer[Array, " tested"]
    bytes_of: Integer[Array, " vocabulary"] | None
    count: int = eqx.field(static=True)
    characters: str = eqx.field(static=True)
    tokenizer_json: str = eqx.field(static=True)
    unit: str = setting(default="characters")
    tokenizer: str = setting(default="")
    time: int = setting(default=256)
    batch: int = setting(default=32)
    judge = staticmethod(of_tokens)
    data = "any file of text in UTF-8"
    licence = "that of the file"

    def __check_init__(self):
        for name in ("time", "batch"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        for split in ("train", "validation", "test"):
            size = len(getattr(self, split))
            require(
                size > self.time,
                f"the part {split} of this text is {size:,} tokens; a window of {self.time} and the token behind it need more. "
                "Give a longer text, or shorter windows.",
            )

    @classmethod
    def open(cls, data: Any = None, **settings: Any) -> "Text":
        """The text of a file.

        **Arguments:** data: its path.

        **Raises:** `InputError` for a setting that is none, and without the package tokenizers where it is needed; `FileError`
        where a file cannot be read.
        """
        if data is None:
            raise InputError("this task reads a file of text; give one by --data, such as --data shakespeare.txt.")
        path = settings.get("tokenizer")
        settings = checked_settings(cls, settings | ({"tokenizer": os.fspath(path)} if isinstance(path, Path) else {}))
        unit, path = settings.get("unit", "characters"), settings.get("tokenizer", "")
        require(unit in ("characters", "bytes"), f"unit is {unit!r}; it must be characters or bytes.")
        require(not path or "unit" not in settings, "a tokenizer says its own tokens; give it, or the unit.")
        text = text_of_file(data)
        if path:
            return cls._of_tokenizer(text, PublishedTokens.read(path), settings)
        if unit == "bytes":
            ids, characters = np.frombuffer(text.encode(), np.uint8), ""
            sizes = np.ones(256, np.int32)
        else:
            characters = "".join(sorted(set(text)))
            numbers = {character: i for i, character in enumerate(characters)}
            kind = np.uint8 if len(characters) <= 256 else np.int32
            ids = np.fromiter((numbers[character] for character in text), kind, len(text))
            sizes = np.array([*(len(character.encode()) for character in characters), 0], np.int32)
        train, validation, test = map(jnp.asarray, _parts(ids))
        return cls(train, validation, test, jnp.asarray(sizes), len(sizes), characters, "", **settings)

    @classmethod
    def _of_tokenizer(cls, text: str, tokens: PublishedTokens, settings: dict[str, Any]) -> "Text":
        texts = _parts(text)
        parts = [tokens.encode_within(part) for part in texts]
        # A space before the text that is none of its own is of the first token, which is not foretold.
        whole = all(tokens.text(ids) in (part, f" {part}") for ids, part in zip(parts, texts, strict=True))
        sizes = np.zeros(tokens.size, np.int32)
        for i in np.unique(np.concatenate(parts)) if whole else ():
            sizes[i] = tokens.bytes_of(int(i))
        whole = whole and all(
            0 <= int(sizes[ids].sum()) - len(part.encode()) <= 1 for ids, part in zip(parts, texts, strict=True)
        )
        train, validation, test = map(jnp.asarray, parts)
        return cls(
            train, validation, test, jnp.asarray(sizes) if whole else None, tokens.size, "", tokens.bare(), **settings
        )

    @property
    def vocabulary(self) -> int:
        """The characters that there are, and one for all others; the 256 bytes; or as many as the tokenizer has."""
        return self.count

    def sample(self, key: Array) -> Batch:
        """Windows of the training part, and what follows each token."""
        first = jr.randint(key, (self.batch,), 0, len(self.train) - self.time)
        return _windows(self.train, first, self.time)

    def held_out(self, split: str) -> Iterator[Batch]:
        """The part in windows side by side."""
        self.check_split(split)
        part = getattr(self, split)
        first = np.arange(0, len(part) - self.time, self.time)
        for begin in range(0, len(first), self.batch):
            yield _windows(part, jnp.asarray(first[begin : begin + self.batch]), self.time)

    def piece(self, number: Int[Array, ""]) -> tuple[Batch, Bool[Array, " sequence"]]:
        """The training part in `batch` streams side by side, each read `time` tokens further; all begin anew at their ends.

        What is left at a stream's end, less than a piece, is not read.

        **Raises:** `InputError` where a stream is shorter than a piece.
        """
        stream = (len(self.train) - 1) // self.batch
        pieces = stream // self.time
        require(
            pieces >= 1,
            f"the part train of this text is {len(self.train):,} tokens, {stream:,} for each of {self.batch} streams; a piece is "
            f"{self.time} tokens. Give a smaller batch, or a longer text.",
        )
        place = number % pieces
        batch = _windows(self.train, jnp.arange(self.batch, dtype=place.dtype) * stream + place * self.time, self.time)
        return batch, jnp.full(self.batch, place == 0)

    def held_out_pieces(self, split: str) -> Iterator[Batch]:
        """The part as it is read, a batch's tokens at a time; the last piece is what is left."""
        self.check_split(split)
        part, size = getattr(self, split).astype(jnp.int32), self.batch * self.time
        for begin in range(0, len(part) - 1, size):
            whole = part[begin : begin + size + 1]
            yield whole[:-1], whole[1:]

    def judged(self, outputs: Array, y: Array) -> Scores:
        """Of the tokens, and bits per byte where each is of so many bytes; of a text no window is ever foretold whole."""
        found = super().judged(outputs, y)
        of_tokens = {name: found[name] for name in ("loss", "accuracy")}
        if self.bytes_of is None:
            return of_tokens
        nats = found["loss"].total
        return {**of_tokens, "bits_per_byte": Score(nats / math.log(2), jnp.sum(self.bytes_of[y]).astype(nats.dtype))}


def _parts(whole: Any) -> tuple[Any, Any, Any]:
    """The first 90%, the next 5% and the last 5%."""
    first, second = int(0.9 * len(whole)), int(0.95 * len(whole))
    return whole[:first], whole[first:second], whole[second:]


def _windows(part: Array, first: Array, time: int) -> Batch:
    rows = jax.vmap(lambda at: jax.lax.dynamic_slice_in_dim(part, at, time + 1))(first).astype(jnp.int32)
    return rows[:, :-1], rows[:, 1:]
