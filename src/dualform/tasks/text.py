"""Text: each token of a file foretold from those before it."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Integer

from dualform.errors import InputError, require
from dualform.reading import text_of_file
from dualform.tasks.registration import register
from dualform.tasks.scores import of_tokens
from dualform.tasks.task import AbstractTask, Batch, checked_settings, setting


@register("text")
class Text(AbstractTask):
    """The next character (or byte) of a text, in windows of `time` tokens, each read from the initial state.

    The first 90% of the text are for training, the next 5% for validation, the last 5% for the test; a window lies in one part.
    Training draws windows anywhere in its part; what is held out is read whole, in windows side by side, and what is left at the
    end of a part, less than a window, is not asked for.

    - text: the numbers of the tokens, (tokens,).  characters: those of the text, in the order of their numbers; "" for bytes.
    - time: tokens of a window.  unit: "characters" or "bytes".

    **Raises:** `InputError` where a part is shorter than a window.
    """

    text: Integer[Array, " tokens"]
    characters: str = setting(default="")
    time: int = setting(default=256)
    batch: int = setting(default=32)
    judge = staticmethod(of_tokens)
    data = "any file of text in UTF-8"
    licence = "that of the file"

    def __check_init__(self):
        for name in ("time", "batch"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        for split in ("train", "validation", "test"):
            size = len(self.part(split))
            require(
                size > self.time,
                f"the part {split} of this text is {size:,} tokens; a window of {self.time} and the token behind it need more. "
                "Give a longer text, or shorter windows.",
            )

    @classmethod
    def open(cls, data: Any = None, *, unit: str = "characters", **settings: Any) -> "Text":
        """The text of a file.

        **Arguments:** data: its path; unit: "characters", or "bytes".
        """
        if data is None:
            raise InputError("this task reads a file of text; give one by --data, such as --data shakespeare.txt.")
        require(unit in ("characters", "bytes"), f"unit is {unit!r}; it must be characters or bytes.")
        settings = checked_settings(cls, settings)
        text = text_of_file(data)
        if unit == "bytes":
            return cls(jnp.asarray(np.frombuffer(text.encode(), np.uint8)), **settings)
        characters = "".join(sorted(set(text)))
        numbers = {character: i for i, character in enumerate(characters)}
        kind = np.uint8 if len(characters) <= 256 else np.int32
        ids = np.fromiter((numbers[character] for character in text), kind, len(text))
        return cls(jnp.asarray(ids), characters, **settings)

    @property
    def vocabulary(self) -> int:
        """The characters that there are, and one for all others; or the 256 bytes."""
        return len(self.characters) + 1 if self.characters else 256

    def part(self, split: str) -> Integer[Array, " tokens"]:
        """The tokens of a part."""
        size = len(self.text)
        first, second = int(0.9 * size), int(0.95 * size)
        return {"train": self.text[:first], "validation": self.text[first:second], "test": self.text[second:]}[split]

    def sample(self, key: Array) -> Batch:
        """Windows of the training part, and what follows each token."""
        part = self.part("train")
        first = jr.randint(key, (self.batch,), 0, len(part) - self.time)
        return _windows(part, first, self.time)

    def held_out(self, split: str) -> Iterator[Batch]:
        """The part in windows side by side."""
        self.check_split(split)
        part = self.part(split)
        first = np.arange(0, len(part) - self.time, self.time)
        for begin in range(0, len(first), self.batch):
            yield _windows(part, jnp.asarray(first[begin : begin + self.batch]), self.time)


def _windows(part: Array, first: Array, time: int) -> Batch:
    rows = jax.vmap(lambda at: jax.lax.dynamic_slice_in_dim(part, at, time + 1))(first).astype(jnp.int32)
    return rows[:, :-1], rows[:, 1:]
