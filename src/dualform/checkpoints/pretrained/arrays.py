"""From a file's arrays to a model's: those that are needed are there, and of the shapes that belong together."""

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from dualform.errors import FileError, InputError

Model = TypeVar("Model")


def built(
    build: Callable[[Mapping[str, np.ndarray]], Model], arrays: dict[str, np.ndarray], path: str | os.PathLike[str]
):
    """The model that `build` makes of a file's arrays.

    **Raises:** `FileError` where an array is missing, or shapes do not fit.
    """
    where = repr(os.fspath(path))
    try:
        return build(_Wanted(arrays, where))
    except InputError as error:
        raise FileError(f"the weights in {where} do not fit together: {error} Are they another model's?") from None


class _Wanted(Mapping[str, np.ndarray]):
    """Arrays by name; a name that is not there is a sentence."""

    def __init__(self, arrays: dict[str, np.ndarray], where: str):
        self.arrays, self.where = arrays, where

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise FileError(f"{self.where} has no array {name!r}. Are the weights another model's?")
        return self.arrays[name]

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)
