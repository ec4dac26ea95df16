"""GGUF, the file format of llama.cpp: metadata, then tensors, most of them quantised.

Little-endian. A header: "GGUF", the version (uint32), the numbers of tensors and of metadata (uint64 each). Each metadatum:
key, type (uint32), value; a string is its length (uint64) and UTF-8; an array its type, its length (uint64) and its items.
Each tensor: name, number of dimensions (uint32), dimensions (uint64, the fastest first), type (uint32), offset (uint64). Then
the numbers, each tensor at its offset. The header is walked here, every length held against the file's; what the blocks of
a quantised type mean is known to the library gguf.
"""

import json
import os
import struct
from typing import Any, NamedTuple

import numpy as np

from dualform.checkpoints.files.checks import (
    Arrays,
    Metadata,
    byte_count,
    check_finite,
    library,
)
from dualform.errors import FileError
from dualform.reading import existing_file, foreign, reading, shown, whole

MAGIC, VERSIONS, ALIGNMENT = b"GGUF", (2, 3), 32

_SCALARS = dict(enumerate(("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?")))
_SCALARS |= {10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_PLAIN = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


class _Tensor(NamedTuple):
    """What the header says of one tensor."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Walk:
    """A place in the header, beyond whose end nothing is read."""

    def __init__(self, data: memoryview):
        self.data, self.place = data, 0

    def take(self, size: int) -> memoryview:
        """The next bytes."""
        if size > len(self.data) - self.place:
            raise ValueError(f"{size:,} bytes are to follow at {self.place:,}, and there are {len(self.data):,} in all")
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, kind: str) -> Any:
        """The next number."""
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def text(self) -> str:
        """The next string."""
        return bytes(self.take(self.number("<Q"))).decode("utf-8", "replace")

    def value(self, kind: int, nested: bool = False) -> Any:
        """The next value of a type."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY or nested:
            raise ValueError(f"a metadatum has the type {kind}{' within an array' if nested else ''}")
        kind, length = self.number("<I"), self.number("<Q")
        if kind in _SCALARS:
            form = _SCALARS[kind]
            items = self.take(length * struct.calcsize(form))
            return [each for (each,) in struct.iter_unpack(form, items)]
        return [self.value(kind, nested=True) for _ in range(length)]

    def tensor(self) -> _Tensor:
        """The next tensor's entry."""
        name, dimensions = self.text(), self.number("<I")
        shape = struct.unpack(f"<{min(dimensions, 9)}Q", self.take(8 * dimensions)[:72])
        return _Tensor(name, shape[::-1], self.number("<I"), self.number("<Q"))


def read_gguf(path: str | os.PathLike[str]) -> tuple[Arrays, Metadata]:
    """Every tensor of a GGUF file by name, the slowest dimension first, and the metadata.

    Quantised tensors (Q4_0, Q4_1, Q8_0 and the rest that the library gguf knows) come as float32, plain ones in their own
    dtype. A metadatum that is no string is given as JSON.

    **Raises:** `FileError` where gguf is not installed; where the file is missing, is no GGUF file of version 2 or 3, is
    truncated or damaged, has overlapping tensors or a type that cannot be read, or numbers that are not finite.

    **Source:** github.com/ggml-org/ggml, docs/gguf.md.
    """
    path, where = existing_file(path, "a GGUF file")
    data = memoryview(path.read_bytes())
    if data[:4] != MAGIC:
        raise foreign(where, "GGUF file", "it does not begin as one")
    with reading(where, "GGUF file"):
        tensors, metadata, begin = _header(data)
        gguf = library("gguf", "GGUF files")
        spans = _spans(gguf, tensors, begin, len(data), where)
        arrays = {
            name: _array(gguf, kind, np.frombuffer(data[first:end], np.uint8), tensor, where)
            for name, (first, end, tensor, kind) in spans.items()
        }
    check_finite(arrays, where)
    return arrays, metadata


def _header(data: memoryview) -> tuple[list[_Tensor], Metadata, int]:
    """The tensors' entries, the metadata, and where the numbers begin."""
    walk = _Walk(data)
    walk.take(4)
    version = walk.number("<I")
    if version not in VERSIONS:
        raise ValueError(f"its version is {version}; 2 and 3, little-endian, can be read here")
    tensors, count = walk.number("<Q"), walk.number("<Q")
    metadata: Metadata = {}
    for _ in range(count):
        key = walk.text()
        value = walk.value(walk.number("<I"))
        metadata[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    entries = [walk.tensor() for _ in range(tensors)]
    given = metadata.get("general.alignment", str(ALIGNMENT))
    alignment = whole(given) or 0
    if alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"its alignment is {shown(given)!r}, no power of two")
    return entries, metadata, -(-walk.place // alignment) * alignment


def _spans(
    gguf: Any, tensors: list[_Tensor], begin: int, size: int, where: str
) -> dict[str, tuple[int, int, _Tensor, str]]:
    """Where each tensor begins and ends, and of which type it is; no two share bytes."""
    spans: dict[str, tuple[int, int, _Tensor, str]] = {}
    for tensor in tensors:
        kind, length = _kind_and_size(gguf, tensor, where)
        first = begin + tensor.offset
        if tensor.name in spans or first + length > size:
            raise FileError(
                f"{shown(tensor.name)} in {where} is there twice, or its {length:,} bytes from {first:,} on are not all in the "
                f"file of {size:,}. It is truncated or damaged; copy it again."
            )
        spans[tensor.name] = (first, first + length, tensor, kind)
    _check_apart([(first, end, name) for name, (first, end, _, _) in spans.items()], where)
    return spans


def _kind_and_size(gguf: Any, tensor: _Tensor, where: str) -> tuple[str, int]:
    """The name of a tensor's type, and how many bytes it takes."""
    try:
        kind = gguf.GGMLQuantizationType(tensor.kind)
    except ValueError:
        raise FileError(
            f"{shown(tensor.name)} in {where} has the unknown type {tensor.kind}. Is gguf too old?"
        ) from None
    count = byte_count(tensor.name, tensor.shape, 1, where)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if (tensor.shape[-1] if tensor.shape else 1) % block:
        raise FileError(
            f"{shown(tensor.name)} in {where} has shape {tensor.shape}, whose rows are not whole blocks of {block}."
        )
    return kind.name, count // block * size


def _array(gguf: Any, kind: str, raw: np.ndarray, tensor: _Tensor, where: str) -> np.ndarray:
    """The numbers of one tensor."""
    if kind in _PLAIN:
        return raw.view(_PLAIN[kind]).reshape(tensor.shape)
    if raw.size == 0:
        return np.zeros(tensor.shape, np.float32)
    rows = raw.reshape(*tensor.shape[:-1], -1)
    try:
        return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind]).reshape(tensor.shape)
    except NotImplementedError:
        raise FileError(
            f"{shown(tensor.name)} in {where} is quantised as {kind}, which gguf cannot undo. Convert it to F16."
        ) from None


def _check_apart(spans: list[tuple[int, int, str]], where: str) -> None:
    """Raise `FileError` where two tensors share bytes."""
    spans = sorted(span for span in spans if span[0] < span[1])
    for (_, end, one), (begin, _, other) in zip(spans, spans[1:], strict=False):
        if begin < end:
            raise FileError(
                f"{shown(one)} and {shown(other)} in {where} lie upon each other. It is damaged; convert it again."
            )
