"""What every reader of weights checks: that what a file declares is in it, and that its numbers are finite."""

import importlib
import math
from collections.abc import Mapping
from types import ModuleType

import ml_dtypes
import numpy as np

from dualform.errors import FileError
from dualform.reading import shown

Arrays = dict[str, np.ndarray]
Metadata = dict[str, str]

EXPANSION, FLOOR = 200, 64 * 2**20
"""Arrays may take 200 times the file's own size in memory, and 64 MiB in any case: weights do not compress any better."""

MOST_DIMENSIONS, LONGEST_SIDE = 8, 2**48
"""Of an array. A side of 0 makes the product 0, whatever the others say."""


def library(name: str, what: str) -> ModuleType:
    """An optional library, imported on first use.

    **Raises:** `FileError` with the command that installs it, where it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise FileError(
            f"{what} are read with the library {name.partition('.')[0]}, which is not installed. Run "
            "pip install 'dualform[checkpoints]'."
        ) from None


def check_size(where: str, declared: int, size: int) -> None:
    """Raise `FileError` where arrays of `declared` bytes in all are said to be in a file of `size` bytes."""
    if declared > max(FLOOR, EXPANSION * size):
        raise FileError(
            f"{where} has {size:,} bytes and says that it holds arrays of {declared:,}. No weights compress that well; it is "
            "not read."
        )


def byte_count(name: str, shape: tuple[int, ...], itemsize: int, where: str) -> int:
    """How many bytes an array takes, counted without overflow.

    **Raises:** `FileError` for a side that is negative or absurd, or more than 8 of them.
    """
    if len(shape) > MOST_DIMENSIONS or any(not 0 <= side < LONGEST_SIDE for side in shape):
        raise FileError(
            f"{shown(name)} in {where} has shape {shown(shape)}, which no array of weights has. The file is damaged."
        )
    return math.prod(shape) * itemsize


def check_dtype(name: str, dtype: np.dtype, where: str) -> None:
    """Raise `FileError` unless the dtype is one of numbers."""
    if dtype.hasobject:
        raise FileError(
            f"{shown(name)} in {where} holds Python objects, which only unpickling could read, and unpickling runs whatever code "
            "the file brings. It is not read; save arrays of numbers."
        )
    if (dtype.kind not in "biufc" and dtype != ml_dtypes.bfloat16) or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise FileError(
            f"{shown(name)} in {where} has dtype {dtype}; numbers are needed. Save it as float32 or float64."
        )


def native(array: np.ndarray) -> np.ndarray:
    """The same numbers in the byte order of this machine: JAX takes no other."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def check_finite(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raise `FileError` where a number is NaN or infinite: with it, a model gives NaN everywhere."""
    for name, array in arrays.items():
        if array.dtype.kind in "biu" or array.size == 0:
            continue
        fine = np.isfinite(array)
        if not fine.all():
            place = tuple(int(i) for i in np.argwhere(~fine)[0])
            raise FileError(
                f"{shown(name)} in {where} has an entry of {array[place]} at {place}, and {int((~fine).sum())} such in all. The "
                "weights are damaged, or training had diverged; take another checkpoint."
            )
