"""Mixers' weights in safetensors files, with the mixer's class named in the file."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from dualform.errors import FileError, InputError
from dualform.mixers import AbstractMixer, GatedRNN, LinearAttention, SideGatedRNN
from dualform.tensor_file import read_tensors, write_tensors

FORMAT = "1"

_FIELDS: dict[type[AbstractMixer], tuple[str, ...]] = {
    GatedRNN: ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout", "nu", "decay"),
    SideGatedRNN: ("w_m_in", "w_x_in", "w_side", "readout", "nu", "decay"),
    LinearAttention: ("w_v", "w_k", "w_q", "w_o"),
}
"""The arguments of each class's constructor; `decay` is kept by the mixer as `given_decay`."""


def save_weights(path: str | os.PathLike[str], mixer: AbstractMixer) -> None:
    """Write a mixer's arrays, to the bit, and its class's name.

    **Arguments:** mixer: a `GatedRNN`, `SideGatedRNN` or `LinearAttention`.

    **Raises:** `InputError` for another kind; `FileError` where the file cannot be written.
    """
    kind = type(mixer)
    if kind not in _FIELDS:
        raise InputError(f"a {kind.__name__} cannot be saved; {_kinds()} can.")
    arrays = {name: _field(mixer, name) for name in _FIELDS[kind]}
    metadata = {"format": "dualform", "version": FORMAT, "mixer": kind.__name__}
    write_tensors(path, {name: np.asarray(array) for name, array in arrays.items() if array is not None}, metadata)


def load_weights(path: str | os.PathLike[str], kind: type[AbstractMixer] | None = None) -> AbstractMixer:
    """The mixer that `save_weights` wrote, to the bit (float64 needs JAX's float64 enabled).

    **Arguments:** kind: the class that it must be of; any if not given.

    **Raises:** `FileError` where the file is missing, truncated, foreign, of a later version, or of another mixer;
    `InputError` where its arrays do not fit together.
    """
    arrays, metadata = read_tensors(path)
    where = repr(os.fspath(path))
    if metadata.get("format") != "dualform" or "mixer" not in metadata:
        raise FileError(
            f"{where} does not say which mixer it holds: it was not written by save_weights. Check the path."
        )
    if metadata.get("version") != FORMAT:
        raise FileError(
            f"{where} has format version {metadata.get('version')}; this dualform reads {FORMAT}. Update it."
        )
    named = {kind.__name__: kind for kind in _FIELDS}
    if metadata["mixer"] not in named:
        raise FileError(f"{where} holds a {metadata['mixer']}, which this dualform does not know; it knows {_kinds()}.")
    found = named[metadata["mixer"]]
    if kind is not None and found is not kind:
        raise FileError(f"{where} holds a {found.__name__}, and a {kind.__name__} is needed here. Check the path.")
    return _built(found, arrays, where)


def _built(kind: type[AbstractMixer], arrays: dict[str, np.ndarray], where: str) -> AbstractMixer:
    unknown = sorted(set(arrays) - set(_FIELDS[kind]))
    if unknown:
        raise FileError(f"{where} has arrays that no {kind.__name__} has: {', '.join(unknown)}. Write it again.")
    build: Any = kind
    try:
        return build(**{name: jnp.asarray(array) for name, array in arrays.items()})
    except TypeError:
        missing = sorted(set(_FIELDS[kind]) - set(arrays) - {"nu", "decay", "w_o"})
        raise FileError(f"{where} lacks {', '.join(missing)}, which a {kind.__name__} needs. Write it again.") from None
    except InputError as error:
        raise InputError(f"the weights in {where} do not fit together: {error}") from None


def _field(mixer: AbstractMixer, name: str) -> Any:
    return getattr(mixer, "given_decay" if name == "decay" else name)


def _kinds() -> str:
    return ", ".join(kind.__name__ for kind in _FIELDS)
