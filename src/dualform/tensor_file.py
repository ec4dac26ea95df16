"""One safetensors file: read with everything checked, written whole or not at all."""

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from dualform.errors import FileError

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Every array of a safetensors file by name, in the file's own dtypes, and the file's metadata.

    **Raises:** `FileError` where the file is missing, is no safetensors file, is truncated, or its header does not
    describe what is in it.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileError(f"there is no file {os.fspath(path)!r}. Check the path.") from None
    except IsADirectoryError:
        raise FileError(f"{os.fspath(path)!r} is a folder; give the path of a safetensors file in it.") from None
    except OSError as error:
        raise FileError(f"{os.fspath(path)!r} cannot be read: {error.strerror}.") from None
    try:
        # The parser checks the header's length, its JSON, and that the arrays cover the file exactly.
        found = safetensors.deserialize(data)
        with safetensors.safe_open(os.fspath(path), framework="np") as file:
            metadata = dict(file.metadata() or {})
    except Exception as error:  # the parser has an error class of its own, outside of any tree
        raise FileError(
            f"{os.fspath(path)!r} is not a whole safetensors file ({error}). It is truncated or of another format; "
            "copy or export it again."
        ) from None
    arrays = {}
    for name, entry in found:
        if entry["dtype"] not in _DTYPES:
            raise FileError(
                f"{name} in {os.fspath(path)!r} has dtype {entry['dtype']}, which cannot be read here; "
                "save it as F32, F64, F16 or BF16."
            )
        arrays[name] = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays, metadata


def write_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays as one safetensors file, atomically; the same content gives the same bytes.

    **Raises:** `FileError` as `write_atomically` does.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_atomically(path, _in_order(save(contiguous, dict(metadata) if metadata else None)))


def _in_order(data: bytes) -> bytes:
    """The same file with its metadata in the order of their names: the writer has them in another one in each process."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # arrays stay aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old one or the new one, whole.

    **Raises:** `FileError` where it cannot be written; a file that was there is left as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            os.fchmod(handle, 0o644)  # mkstemp's file is for its owner alone
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: str | os.PathLike[str], error: BaseException) -> FileError:
    """What a person reads when `path` cannot be written: what to do depends on whether the disk is full."""
    if disk_is_full(error):
        return FileError(
            f"no space is left on the disk for {os.fspath(path)!r}; what was there before is whole. Free some space, "
            "then run the same command again."
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileError(
        f"{os.fspath(path)!r} cannot be written: {reason}. Choose another place, or change its permissions."
    )


def disk_is_full(error: BaseException | None) -> bool:
    """True where `error`, or what it came from, says that the disk or the quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
