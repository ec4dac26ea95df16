"""The tensors of a published checkpoint, taken one by one: each checked, and none left over."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dualform.checkpoints.layouts.config import Config
from dualform.errors import FileError
from dualform.reading import whole


class Tensors:
    """Named arrays of a checkpoint. Whoever takes one says its shape; what nobody takes is an error in the end.

    **Arguments:** arrays: by name, in memory or stored (`tensor_file.StoredArray`), which are read as they are taken; where: what
    the checkpoint is called in messages; kind: the architecture, in words.
    """

    def __init__(self, arrays: Mapping[str, Any], where: str, kind: str):
        self.where, self.kind = where, kind
        self._arrays, self._prefix = dict(arrays), ""
        self._left = set(arrays)

    def under(self, prefix: str) -> "Tensors":
        """The same checkpoint, its names without `prefix`."""
        part = object.__new__(Tensors)
        part.where, part.kind, part._arrays, part._left = self.where, self.kind, self._arrays, self._left
        part._prefix = self._prefix + prefix
        return part

    def base(self, prefix: str) -> "Tensors":
        """The model without its head: behind `prefix`, which a base model saved by itself does not have."""
        return self.under(prefix if any(name.startswith(prefix) for name in self.names()) else "")

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
        found = self._found(name)
        if tuple(found.shape) != shape:
            raise FileError(
                f"{self._named(name)} has shape {tuple(found.shape)}; the other weights and the config of this {self.kind} "
                f"need {shape}. Is a file of another model among them?"
            )
        if found.dtype.kind in "iubO":
            raise FileError(
                f"{self._named(name)} is {found.dtype}; weights are real numbers. Save it as F32, F16 or BF16."
            )
        array = np.asarray(found)
        if not np.isfinite(array).all():
            raise FileError(f"{self._named(name)} holds NaN or infinity. The checkpoint is damaged; copy it again.")
        self._left.discard(self._prefix + name)
        return array

    def take_or(self, name: str, there: bool, *shape: int) -> np.ndarray | None:
        """A tensor where `there` is True, else None."""
        return self.take(name, *shape) if there else None

    def count(self, prefix: str, config: Config, asked: str) -> int:
        """How many layers there are, named `prefix` and a number from 0; the config's number where it has one."""
        found = {name.removeprefix(prefix).split(".")[0] for name in self.names() if name.startswith(prefix)}
        numbers = {whole(n) for n in found} - {None}
        told = config[asked] if config.says(asked) else len(numbers)
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

    def _found(self, name: str) -> Any:
        if name not in self:
            raise FileError(
                f"{self.where} lacks {self._prefix}{name}, which a {self.kind} has. A part of the checkpoint is missing, or it "
                "is a variant that cannot be read here."
            )
        return self._arrays[self._prefix + name]

    def _named(self, name: str) -> str:
        return f"{self._prefix}{name} in {self.where}"


def divided(tensors: Tensors, what: str, whole: int, parts: int) -> int:
    """The size of each of `parts` equal parts.

    **Raises:** `FileError` where they do not divide it.
    """
    if parts < 1 or whole % parts:
        raise FileError(f"{tensors.where}: {parts} do not divide {what} of {whole}. Its config is of another model.")
    return whole // parts


def placed(array: np.ndarray) -> jax.Array:
    """An array as a model holds it, without a copy where its memory can be taken as it lies: for the largest ones."""
    return jax.device_put(array)


def head(tensors: Tensors, config: Config, embedding: jax.Array, name: str = "lm_head.weight") -> jax.Array | None:
    """The head's matrix, None where it is the embedding.

    **Raises:** `FileError` where it is said to be the embedding, and is there and is another.
    """
    if not config["tie_word_embeddings"]:
        return placed(tensors.take(name, *embedding.shape))
    if name in tensors and not np.array_equal(tensors.take(name, *embedding.shape), embedding):
        raise FileError(
            f"{config.where} says that head and embedding are one, and {name} is another than the embedding. Set "
            "tie_word_embeddings to false, or take the checkpoint again."
        )
    return None
