"""Any file of weights: the format is told by its first bytes, not by its name alone."""

import os

from dualform.checkpoints.files.checks import Arrays, Metadata, check_finite
from dualform.checkpoints.files.gguf import MAGIC, read_gguf
from dualform.checkpoints.files.hdf5 import read_hdf5
from dualform.checkpoints.files.npz import read_npz
from dualform.checkpoints.files.onnx import read_onnx
from dualform.errors import FileError
from dualform.reading import existing_file
from dualform.tensor_file import is_safetensors, read_tensors


def read_arrays(path: str | os.PathLike[str]) -> tuple[Arrays, Metadata]:
    """Every array of a safetensors, npz, HDF5, GGUF or ONNX file by name, and the file's metadata.

    **Raises:** `FileError` where the file is missing, of another format (pickles among them), truncated or damaged, or holds
    numbers that are not finite.
    """
    path, where = existing_file(path, "a file of weights")
    with path.open("rb") as file:
        first = file.read(9)
    whole = is_safetensors(path)
    if first.startswith(b"PK") and not whole:
        return read_npz(path)
    if first.startswith(b"\x89HDF\r\n\x1a\n"):
        return read_hdf5(path)
    if first.startswith(MAGIC):
        return read_gguf(path)
    if whole or first[8:] == b"{" or path.suffix == ".safetensors":
        arrays, metadata = read_tensors(path)
        check_finite(arrays, where)
        return arrays, metadata
    if path.suffix == ".onnx":
        return read_onnx(path)
    if first[:1] == b"\x80":
        raise FileError(
            f"{where} is a pickle: unpickling runs whatever code the file brings, and it is not read. Save the weights with "
            "safetensors instead."
        )
    raise FileError(
        f"{where} is of no format that is read here: safetensors, npz, HDF5, GGUF, or ONNX with the ending .onnx. Convert it."
    )
