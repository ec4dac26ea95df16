"""GGUF files whose weights were dequantised once: kept in the user's cache as safetensors, whole or not at all."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from dualform.checkpoints.cache import cache_folder, sha256_of
from dualform.checkpoints.files.checks import Arrays, check_finite
from dualform.checkpoints.files.gguf import read_gguf
from dualform.checkpoints.gguf_model import gguf_config, gguf_tensors, gguf_tokenizer
from dualform.errors import FileError
from dualform.tensor_file import read_tensors, write_tensors

LOGGER = logging.getLogger(__name__)
FORMAT = "4"


class Converted(NamedTuple):
    """A GGUF file's model in transformers' names: its tensors, what its config says, and its tokenizer.json or None."""

    arrays: Arrays
    fields: dict[str, Any]
    tokenizer: str | None


def converted_gguf(path: str | os.PathLike[str], *, dtype: Any = None, sha256: str | None = None) -> Converted:
    """The model of a GGUF file, from the cache where it was read before.

    The first time, the weights are dequantised and written to the cache (`converted_place`) in float32, or in bfloat16 where
    that is asked for; then they are read from there, and held against their own SHA-256. A copy that is damaged, or half of
    another version, is made anew. Where the cache cannot be written the model is read all the same.

    **Arguments:** sha256: the file's own, where it was just found.

    **Raises:** `FileError` as `read_gguf` does, and where the file holds no model that can be read.
    """
    path, where = Path(path), repr(os.fspath(path))
    try:
        sha256 = sha256 or sha256_of(path)
    except OSError as error:
        raise FileError(f"{where} cannot be read: {error.strerror}. Check the path.") from None
    kept = np.dtype(ml_dtypes.bfloat16 if dtype is not None and np.dtype(dtype) == ml_dtypes.bfloat16 else np.float32)
    place = converted_place(sha256, kept)
    found = _kept(place) if place.is_file() else None
    if found is not None:
        return found
    arrays, metadata = read_gguf(path)
    fields = gguf_config(metadata, arrays, where)
    with np.errstate(over="ignore"):  # what is beyond the dtype is refused in the next line
        arrays = {name: np.asarray(array).astype(kept) for name, array in gguf_tensors(arrays, fields, where).items()}
    check_finite(arrays, f"{where}, as {kept},")
    found = Converted(arrays, fields, gguf_tokenizer(metadata, where))
    told = {"format": "dualform gguf", "version": FORMAT, "source": sha256}
    told |= {"config": json.dumps(fields, sort_keys=True)}
    told |= {} if found.tokenizer is None else {"tokenizer": found.tokenizer}
    told |= {"sha256": _sum(arrays, told)}
    try:
        write_tensors(place, arrays, told)
    except FileError as error:
        LOGGER.warning("the dequantised weights are not kept: %s", error)
    return found


def converted_place(sha256: str, dtype: Any) -> Path:
    """Where the weights of the GGUF file of this SHA-256 are kept, whether they are there or not."""
    return cache_folder() / "models" / "converted" / f"{sha256}.{np.dtype(dtype).name}.safetensors"


def _kept(place: Path) -> Converted | None:
    """What is in the cache, None where it is damaged or of another version."""
    try:
        arrays, told = read_tensors(place)
        if (
            told.get("version") == FORMAT
            and place.name.startswith(told["source"])
            and told["sha256"] == _sum(arrays, told)
        ):
            return Converted(arrays, json.loads(told["config"]), told.get("tokenizer"))
    except (FileError, KeyError, ValueError) as error:
        LOGGER.warning("the weights in %s are damaged (%s); they are made anew", place, error)
    return None


def _sum(arrays: Arrays, told: dict[str, str]) -> str:
    """The SHA-256 of what is told and of all arrays, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(set(told) - {"sha256"}):
        found.update(f"{name} {told[name]} ".encode())
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        found.update(np.ascontiguousarray(arrays[name]).view(np.uint8).data)
    return found.hexdigest()
