"""One safetensors file: read with everything checked, written whole or not at all."""

import errno
import json
import math
import os
import secrets
import stat
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from dualform.errors import FileError
from dualform.reading import existing_file, reading, shown

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

ALIGNED = 64
"""Bytes: what XLA asks of memory of the host that it is to use as it lies there."""


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as one: the length of its header, which may look like any other format's first bytes, then "{"."""
    path = Path(path)
    with path.open("rb") as file:
        first = file.read(9)
    return first[8:] == b"{" and int.from_bytes(first[:8], "little") <= path.stat().st_size - 8


class StoredArray:
    """An array of a file that is read when it is asked for, each time anew: `np.asarray(stored)` is it.

    - dtype, shape: as the file's header says.  ndim, size: of the shape.
    """

    def __init__(self, place: "_Place", dtype: np.dtype, shape: tuple[int, ...], offset: int):
        self.dtype, self.shape = dtype, shape
        self._place, self._offset = place, offset

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The numbers, read from the file.

        **Raises:** `FileError` where the file is no longer as long as its header says.
        """
        found = _aligned(self.shape, self.dtype)
        self._place.read_into(found, self._offset)
        return found if dtype is None else found.astype(dtype, copy=False)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array to be filled, which begins where a device of the host can take its memory as it is, without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNED, np.uint8)
    first = -memory.ctypes.data % ALIGNED
    return memory[first : first + size].view(dtype).reshape(shape)


class _Place:
    """An open file that arrays are read from; it is closed when the last of them goes."""

    def __init__(self, path: Path, where: str):
        self.where, self._file, self._lock = where, path.open("rb", buffering=0), threading.Lock()
        weakref.finalize(self, self._file.close)

    def read_into(self, array: np.ndarray, offset: int) -> None:
        """Fill the array with what stands there."""
        left = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        with self._lock:
            self._file.seek(offset)
            while left:
                read = self._file.readinto(left)  # of more than 2 GB, a part
                if not read:
                    raise FileError(f"{self.where} ends too early: it was changed while it was read. Copy it again.")
                left = left[read:]

    def header(self) -> bytes:
        """The JSON that the file begins with, behind its length, and the length in front of it."""
        length = np.empty(8, np.uint8)
        self.read_into(length, 0)
        text = np.empty(int.from_bytes(length.tobytes(), "little"), np.uint8)
        self.read_into(text, 8)
        return length.tobytes() + text.tobytes()


def open_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, StoredArray], dict[str, str]]:
    """Every array of a safetensors file by name, none of them read yet, and the file's metadata.

    **Raises:** `FileError` where the file is missing, is no safetensors file, is truncated, or its header does not
    describe what is in it.
    """
    path, where = existing_file(path, "a safetensors file")
    with reading(where, "safetensors file"):
        # The parser checks the header's length, its JSON, and that the arrays cover the file exactly.
        with safetensors.safe_open(path, "np"):
            pass
        place = _Place(path, where)
        data = place.header()
        header = _header(data)
        metadata = header.pop("__metadata__", None) or {}
        return {name: _stored(name, entry, place, len(data)) for name, entry in header.items()}, metadata


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Every array of a safetensors file by name, in the file's own dtypes, and the file's metadata.

    **Raises:** `FileError` as `open_tensors` does.
    """
    stored, metadata = open_tensors(path)
    return {name: np.asarray(array) for name, array in stored.items()}, metadata


def _stored(name: str, entry: dict[str, Any], place: _Place, start: int) -> StoredArray:
    """One array of the file."""
    if entry["dtype"] not in _DTYPES:
        raise FileError(
            f"{shown(name)} in {place.where} has dtype {shown(entry['dtype'])}, which cannot be read here; save it as F32, F64, "
            "F16 or BF16."
        )
    dtype = _DTYPES[entry["dtype"]]
    return StoredArray(place, dtype, tuple(entry["shape"]), start + entry["data_offsets"][0])


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
    header = _header(data)
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # arrays stay aligned
    return len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :]


def _header(data: bytes) -> dict[str, Any]:
    """The JSON that a file begins with, behind its length."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old one or the new one, whole.

    A new file is for whom the process's umask says; one that is there keeps its permissions, and a link to it stays a link. What
    is no file of a disk, such as /dev/stdout, is written to as it is.

    **Raises:** `FileError` where it cannot be written; a file that was there is left as it was.
    """
    try:
        there = _status(path)
        if there is not None and not stat.S_ISREG(there.st_mode) and not stat.S_ISDIR(there.st_mode):
            with open(path, "wb") as file:
                file.write(data)
            return
        place = Path(os.path.realpath(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _opened_beside(place, 0o666 if there is None else stat.S_IMODE(there.st_mode) & 0o777)
        try:
            with os.fdopen(handle, "wb") as file:
                if there is not None:
                    os.chmod(temporary, stat.S_IMODE(there.st_mode))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte in it
        raise unwritable(path, error) from None


def check_writable(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Raise `FileError` where a file cannot be written at `path`, before the work that it is for; nothing on disk is changed.

    **Arguments:** folder: it is a folder, in which files are written.
    """
    try:
        there = _status(path)
        if there is not None and not folder and stat.S_ISDIR(there.st_mode):
            raise FileError(f"{os.fspath(path)!r} is a folder. Give a file.")
        if there is not None and folder and not stat.S_ISDIR(there.st_mode):
            raise FileError(f"{os.fspath(path)!r} is a file. Give a folder.")
        if there is not None and not (stat.S_ISREG(there.st_mode) or folder):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        place = Path(os.path.realpath(path))
        above = place if folder else place.parent
        while not os.path.lexists(above):
            above = above.parent
        if not above.is_dir():
            raise FileError(
                f"{os.fspath(path)!r} cannot be written: {above.name!r} is no folder. Choose another place."
            )
        temporary, handle = _opened_beside(above / place.name, 0o600)
        os.close(handle)
        temporary.unlink()
    except (OSError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise unwritable(path, error) from None


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    """What is there, at the end of all links; None where nothing is."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _opened_beside(place: Path, mode: int) -> tuple[Path, int]:
    """A new file in the same folder, open for writing; the system takes off `mode` what the umask forbids."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        temporary = place.with_name(f".{place.name[:60]}.{secrets.token_hex(4)}.tmp")
        try:
            return temporary, os.open(temporary, flags, mode)
        except FileExistsError:
            continue


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
