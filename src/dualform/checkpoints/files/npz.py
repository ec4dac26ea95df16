"""NumPy's archive of arrays, read without unpickling."""

import io
import os
import warnings
import zipfile

import numpy as np
from numpy.lib import format as npy

from dualform.checkpoints.files.checks import (
    Arrays,
    Metadata,
    byte_count,
    check_dtype,
    check_finite,
    check_size,
    native,
)
from dualform.errors import FileError
from dualform.reading import existing_file, reading, shown

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: str | os.PathLike[str]) -> tuple[Arrays, Metadata]:
    """Every array of an .npz file by name, in the file's own dtypes; such a file has no metadata.

    **Raises:** `FileError` where the file is missing, is no such archive, is damaged, holds Python objects, anything but
    arrays, or numbers that are not finite, or would take far more memory than it has bytes.

        >>> import numpy as np, os, tempfile
        >>> from dualform.checkpoints.files import read_npz
        >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
        >>> np.savez(path, w=np.eye(2))
        >>> read_npz(path)[0]["w"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    path, where = existing_file(path, "an .npz file")
    with reading(where, ".npz file"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_size(where, sum(member.file_size for member in members), path.stat().st_size)
        arrays: Arrays = {}
        for member in members:
            name = _name(member, arrays, where)
            arrays[name] = _array(name, archive.read(member), where)
    check_finite(arrays, where)
    return arrays, {}


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of an .npy file, in the file's own dtype.

    **Raises:** `FileError` where the file is missing, is no such file, is damaged, or holds Python objects or numbers that are
    not finite.
    """
    path, where = existing_file(path, "an .npy file")
    with reading(where, ".npy file"):
        array = _array("the array", path.read_bytes(), where)
    check_finite({"the array": array}, where)
    return array


def _name(member: zipfile.ZipInfo, arrays: Arrays, where: str) -> str:
    """A member's name without its ending, where it is that of an array."""
    if member.filename.endswith((".pkl", ".pickle")):
        raise FileError(
            f"{where} is a pickle, as torch.save writes it: unpickling runs whatever code the file brings, and it is not "
            "read. Save the state dict with safetensors instead."
        )
    name = member.filename.removesuffix(".npy")
    if name == member.filename or name in arrays:
        raise FileError(
            f"{where} holds {shown(member.filename)!r}, which is no array or there twice; an .npz file holds .npy arrays alone."
        )
    return name


def _array(name: str, data: bytes, where: str) -> np.ndarray:
    """The array of a member, whose header is held against its length before any memory is taken for it."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise FileError(
            f"{shown(name)} in {where} is of version {version} of NumPy's format; 1.0 and 2.0 can be read here."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's of old headers, and Python's of what stands in them
        shape, _, dtype = _HEADERS[version](file)
    check_dtype(name, dtype, where)
    needed, there = byte_count(name, shape, dtype.itemsize, where), len(data) - file.tell()
    if needed != there:
        raise FileError(
            f"{shown(name)} in {where} has {there:,} bytes, and its shape {shape} of {dtype} needs {needed:,}. It is damaged."
        )
    file.seek(0)
    return native(npy.read_array(file, allow_pickle=False))
