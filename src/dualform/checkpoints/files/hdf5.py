"""HDF5, as Keras keeps weights in it."""

import os
from typing import Any

import numpy as np

from dualform.checkpoints.files.checks import (
    Arrays,
    Metadata,
    byte_count,
    check_dtype,
    check_finite,
    check_size,
    library,
    native,
)
from dualform.errors import FileError
from dualform.reading import existing_file, reading, shown

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
"""What HDF5 and h5py bring themselves; any other filter would load a plug-in."""


def read_hdf5(path: str | os.PathLike[str]) -> tuple[Arrays, Metadata]:
    """Every array of an HDF5 file by its path in the file, and the texts of fixed length among its root's attributes.

    Texts of variable length are not read: they lie in a heap on whose damage the HDF5 library can search forever.

    **Raises:** `FileError` where h5py is not installed; where the file is missing, is no HDF5 file or is damaged; where it
    points out of itself (soft, external and virtual parts), holds anything but numbers, or numbers that are not finite, or
    would take far more memory than it has bytes.
    """
    path, where = existing_file(path, "an HDF5 file")
    h5py = library("h5py", "HDF5 files")
    with reading(where, "HDF5 file"), h5py.File(path, "r") as file:
        found: dict[str, Any] = {}
        _walk(h5py, file, "", found, set(), where)
        declared = sum(_checked_bytes(name, each, where) for name, each in found.items())
        check_size(where, declared, path.stat().st_size)
        arrays = {name: native(np.asarray(each[()])) for name, each in found.items()}
        metadata = _texts(file)
    check_finite(arrays, where)
    return arrays, metadata


def _walk(h5py: Any, group: Any, prefix: str, found: dict[str, Any], seen: set[Any], where: str) -> None:
    """Collect the datasets below `group`; a group that is met twice would be a circle, or a second name of its arrays."""
    mark = h5py.h5o.get_info(group.id).addr
    if mark in seen:
        raise FileError(f"{where} has the group {shown(prefix or '/')!r} in two places or in itself. It is not read.")
    seen.add(mark)
    for key in group:
        name = f"{prefix}{key}"
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise FileError(
                f"{shown(name)} in {where} is a link to another place or file, which is not followed. Copy its array into "
                "the file."
            )
        each = group[key]
        if isinstance(each, h5py.Group):
            _walk(h5py, each, f"{name}/", found, seen, where)
        elif isinstance(each, h5py.Dataset):
            found[name] = each
        else:
            raise FileError(f"{shown(name)} in {where} is no array but a {type(each).__name__}. It is not read.")


def _checked_bytes(name: str, each: Any, where: str) -> int:
    """How many bytes a dataset takes, whose numbers lie in this file."""
    check_dtype(name, each.dtype, where)
    if each.external or each.is_virtual:
        raise FileError(
            f"{shown(name)} in {where} keeps its numbers in another file, which is not opened. Copy them into it."
        )
    if each.shape is None:
        raise FileError(f"{shown(name)} in {where} is an empty dataset without a shape. It is damaged.")
    plan = each.id.get_create_plist()
    for i in range(plan.get_nfilters()):
        number = plan.get_filter(i)[0]
        if number not in _FILTERS:
            raise FileError(
                f"{shown(name)} in {where} is compressed by filter {number}, a plug-in's. Save it with gzip, or plain."
            )
    return byte_count(name, each.shape, each.dtype.itemsize, where)


def _texts(file: Any) -> Metadata:
    """The root's attributes that are texts of fixed length."""
    found: Metadata = {}
    for key in file.attrs:
        kind = file.attrs.get_id(key)
        if kind.dtype.kind == "S" and kind.shape == ():
            found[str(key)] = bytes(np.bytes_(file.attrs[key])).decode("utf-8", "replace")
    return found
