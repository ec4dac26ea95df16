"""The tensors and the config of a published checkpoint, taken one by one: each checked, and none left over."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dualform.errors import FileError
from dualform.reading import MOST_WHOLE, text_of_file, whole

LARGEST = float(np.finfo(np.float64).max)


class Tensors:
    """Named arrays of a checkpoint. Whoever takes one says its shape; what nobody takes is an error in the end.

    **Arguments:** arrays: by name; where: what the checkpoint is called in messages; kind: the architecture, in words.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], where: str, kind: str):
        self.where, self.kind = where, kind
        self._arrays, self._prefix = dict(arrays), ""
        self._left = set(arrays)

    def under(self, prefix: str) -> "Tensors":
        """The same checkpoint, its names without `prefix`."""
        part = object.__new__(Tensors)
        part.where, part.kind, part._arrays, part._left = self.where, self.kind, self._arrays, self._left
        part._prefix = self._prefix + prefix
        return part

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._arrays

    def names(self) -> list[str]:
        """All names that begin with the prefix, without it."""
        return [name.removeprefix(self._prefix) for name in self._arrays if name.startswith(self._prefix)]

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        """The shape of a tensor, which must have so many axes, none of them 0."""
        shape = tuple(self._found(name).shape)
        if len(shape) != ndim or 0 in shape:
            raise FileError(
                f"{self._named(name)} has shape {shape}; a {self.kind} has {ndim} axes there, none of them 0."
            )
        return shape

    def take(self, name: str, *shape: int) -> np.ndarray:
        """A tensor of real numbers, of this shape, all finite."""
        array = self._found(name)
        if tuple(array.shape) != shape:
            raise FileError(
                f"{self._named(name)} has shape {tuple(array.shape)}; the other weights and the config of this {self.kind} "
                f"need {shape}. Is a file of another model among them?"
            )
        if array.dtype.kind in "iubO":
            raise FileError(
                f"{self._named(name)} is {array.dtype}; weights are real numbers. Save it as F32, F16 or BF16."
            )
        if not np.isfinite(array).all():
            raise FileError(f"{self._named(name)} holds NaN or infinity. The checkpoint is damaged; copy it again.")
        self._left.discard(self._prefix + name)
        return array

    def take_or(self, name: str, there: bool, *shape: int) -> np.ndarray | None:
        """A tensor where `there` is True, else None."""
        return self.take(name, *shape) if there else None

    def count(self, prefix: str, config: "Config", field: str) -> int:
        """How many layers there are, named `prefix` and a number from 0; the config's number where it has one."""
        found = {name.removeprefix(prefix).split(".")[0] for name in self.names() if name.startswith(prefix)}
        numbers = {whole(n) for n in found} - {None}
        told = config.integer(field, len(numbers))
        for i in range(told):
            if i not in numbers:
                raise FileError(
                    f"{self.where} has no tensors of layer {i} ({self._prefix}{prefix}{i}.), of {told} layers. A part of the "
                    "checkpoint is missing; copy it again."
                )
        if told == 0:
            raise FileError(f"{self.where} has no layers: no tensor begins with {self._prefix}{prefix}0.")
        return told

    def finish(self) -> None:
        """Raise `FileError` where a tensor was not taken."""
        if self._left:
            first, more = min(self._left), len(self._left) - 1
            also = f", and {more} more" if more else ""
            raise FileError(
                f"{self.where} has {first}{also}, which no {self.kind} that can be read here has. It is a variant of another "
                "kind, or a file of another model is among it."
            )

    def _found(self, name: str) -> np.ndarray:
        if name not in self:
            raise FileError(
                f"{self.where} lacks {self._prefix}{name}, which a {self.kind} has. A part of the checkpoint is missing, or it "
                "is a variant that cannot be read here."
            )
        return self._arrays[self._prefix + name]

    def _named(self, name: str) -> str:
        return f"{self._prefix}{name} in {self.where}"


class Config:
    """The config.json of a checkpoint; empty where there is none, so that every field has its default.

    **Arguments:** fields: what the file says; where: its name in messages.
    """

    def __init__(self, fields: Mapping[str, Any], where: str):
        self.fields, self.where = dict(fields), where

    @classmethod
    def read(cls, path: Path) -> "Config":
        """From a file.

        **Raises:** `FileError` where it is missing, or no JSON object.
        """
        where, text = repr(os.fspath(path)), text_of_file(path)
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            raise FileError(f"{where} is not JSON. Copy it again.") from None
        if not isinstance(fields, dict):
            raise FileError(f"{where} is not a config: it is a {type(fields).__name__}, not an object. Copy it again.")
        return cls(fields, where)

    def integer(self, name: str, default: int) -> int:
        """A whole number of at least 0."""
        value = self._of(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_WHOLE:
            raise self.wrong(name, "a whole number")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        value = self._of(name, default)
        # An integer may have more digits than a float has exponents.
        if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
            raise self.wrong(name, "a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or False."""
        value = self._of(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """A string."""
        value = self._of(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def must_be(self, name: str, *allowed: Any) -> None:
        """Raise `FileError` where the config has a value that the models here do not have; the first is the default."""
        value = self.fields.get(name, allowed[0])
        if value not in allowed:
            raise self.wrong(name, " or ".join(json.dumps(a) for a in allowed))

    def agrees(self, name: str, found: int) -> None:
        """Raise `FileError` where the config has another number than the tensors."""
        if name in self.fields and self.fields[name] is not None and self.integer(name, found) != found:
            raise FileError(
                f"{self.where} says {name} {self.fields[name]}, and the tensors have {found}. They are of different models."
            )

    def needed(self, name: str, kind: str) -> int:
        """A whole number that the shapes of the tensors do not tell."""
        if self.fields.get(name) is None:
            raise FileError(
                f"{self.where} does not say {name}, which the shapes of a {kind}'s tensors do not tell. Keep the checkpoint's "
                "config.json beside it."
            )
        return self.integer(name, 0)

    def wrong(self, name: str, wanted: str) -> FileError:
        """What a person reads of a field that cannot be used."""
        return FileError(
            f"{self.where} says {name} {json.dumps(self.fields.get(name))}; what can be read here needs {wanted}. Take "
            "another checkpoint, or convert it."
        )

    def _of(self, name: str, default: Any) -> Any:
        return default if self.fields.get(name) is None else self.fields[name]


def divided(tensors: Tensors, what: str, whole: int, parts: int) -> int:
    """The size of each of `parts` equal parts.

    **Raises:** `FileError` where they do not divide it.
    """
    if parts < 1 or whole % parts:
        raise FileError(f"{tensors.where}: {parts} do not divide {what} of {whole}. Its config is of another model.")
    return whole // parts


def head(tensors: Tensors, config: Config, embedding: np.ndarray, tied: bool) -> np.ndarray | None:
    """lm_head.weight, None where it is the embedding; tied: what holds where the config does not say."""
    if "lm_head.weight" not in tensors:
        if config.flag("tie_word_embeddings", tied or not config.fields):
            return None
        tensors.take("lm_head.weight", *embedding.shape)  # it says that it is missing
    found = tensors.take("lm_head.weight", *embedding.shape)
    if not config.flag("tie_word_embeddings", tied and bool(config.fields)):
        return found
    if not np.array_equal(found, embedding):
        raise FileError(
            f"{config.where} says that head and embedding are one, and lm_head.weight is another than the embedding. Set "
            "tie_word_embeddings to false, or take the checkpoint again."
        )
    return None
