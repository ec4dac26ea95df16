"""ONNX: the initialisers of a graph, which are a model's weights. The graph itself is not run."""

import os
from typing import Any

import numpy as np

from dualform.checkpoints.files.checks import (
    Arrays,
    Metadata,
    byte_count,
    check_dtype,
    check_finite,
    library,
)
from dualform.errors import FileError
from dualform.reading import existing_file, foreign, reading, shown


def read_onnx(path: str | os.PathLike[str]) -> tuple[Arrays, Metadata]:
    """Every initialiser of an ONNX file's graph by name, and who made the file (producer, ir_version, opset).

    Gates of recurrent operators are in ONNX's order: a GRU's z, r, h; an LSTM's i, o, f, c.

    **Raises:** `FileError` where onnx is not installed; where the file is missing, is no ONNX file or is damaged; where
    weights lie in other files, are no numbers or not finite.
    """
    path, where = existing_file(path, "an ONNX file")
    onnx = library("onnx", "ONNX files")
    with reading(where, "ONNX file"):
        model = onnx.load_model_from_string(path.read_bytes())  # other files are not opened
        if not model.graph.node and not model.graph.initializer:
            raise foreign(where, "ONNX file", "it has no graph")
        if model.graph.sparse_initializer:
            raise FileError(f"{where} has sparse weights, which are not read here. Export it with dense ones.")
        arrays = _arrays(onnx, model.graph.initializer, where)
        opset = ", ".join(f"{_text(each.domain) or 'ai.onnx'} {each.version}" for each in model.opset_import)
        metadata = {"producer": _text(model.producer_name), "ir_version": str(model.ir_version), "opset": opset}
    check_finite(arrays, where)
    return arrays, metadata


def _arrays(onnx: Any, initializers: Any, where: str) -> Arrays:
    """All initialisers, each of a name of its own."""
    arrays: Arrays = {}
    for tensor in initializers:
        name = _text(tensor.name)
        if not name or name in arrays:
            raise FileError(f"{where} has two initialisers of the name {shown(name)!r}, or one without. It is damaged.")
        arrays[name] = _array(onnx, name, tensor, where)
    return arrays


def _text(value: str | bytes) -> str:
    """A string of protobuf's, which comes as bytes where it is no UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _array(onnx: Any, name: str, tensor: Any, where: str) -> np.ndarray:
    """One initialiser; its shape is held against its numbers before any memory is taken for it."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        target = next((each.value for each in tensor.external_data if each.key == "location"), "another file")
        raise FileError(
            f"{shown(name)} in {where} keeps its numbers in {shown(target)!r}, which is not opened: a path from a file may lead "
            "anywhere. Export the model as one file."
        )
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError):
        raise FileError(f"{shown(name)} in {where} has the unknown dtype {tensor.data_type}. It is damaged.") from None
    check_dtype(name, dtype, where)
    needed, shape = byte_count(name, tuple(tensor.dims), 1, where), tuple(tensor.dims)
    if tensor.raw_data:
        there = len(tensor.raw_data) // dtype.itemsize
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        there = len(getattr(tensor, field)) // (2 if dtype.kind == "c" else 1)
    if needed != there:
        raise FileError(
            f"{shown(name)} in {where} has {there:,} numbers, and its shape {shape} needs {needed:,}. It is damaged."
        )
    with reading(f"{shown(name)} in {where}", "array of ONNX"):
        return np.array(onnx.numpy_helper.to_array(tensor))
