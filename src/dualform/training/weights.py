"""Weights of mixers and stacks in safetensors files, with the mixer's class named in the file."""

import dataclasses
import inspect
import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from dualform.errors import FileError, InputError
from dualform.mixers import AbstractMixer
from dualform.mixers.registry import classes
from dualform.models import Stack
from dualform.tensor_file import read_tensors, write_tensors

FORMAT = "1"

_RENAMED = {"given_decay": "decay"}
"""Fields that their constructor calls otherwise."""


def save_weights(path: str | os.PathLike[str], mixer: AbstractMixer | Stack) -> None:
    """Write the arrays of a mixer or a stack, to the bit, and its class's name; those of a part carry the part's name.

    **Arguments:** mixer: one of this package's, or a `Stack` of them.

    **Raises:** `InputError` for another kind; `FileError` where the file cannot be written.
    """
    metadata = {"format": "dualform", "version": FORMAT, "mixer": type(mixer).__name__}
    if isinstance(mixer, Stack):
        arrays = {"embedding": mixer.embedding, "readout": mixer.readout}
        for i, layer in enumerate(mixer.layers):
            arrays |= _arrays(layer, f"layers.{i}.")
        metadata["layers"] = ",".join(type(layer).__name__ for layer in mixer.layers)
    else:
        arrays = _arrays(mixer)
    write_tensors(path, {name: np.asarray(array) for name, array in arrays.items()}, metadata)


def _arrays(mixer: AbstractMixer, prefix: str = "") -> dict[str, Any]:
    if type(mixer) not in classes().values():
        raise InputError(f"a {type(mixer).__name__} cannot be saved; {', '.join(classes())} can, and a Stack of them.")
    arrays: dict[str, Any] = {}
    for field in dataclasses.fields(mixer):
        value, name = getattr(mixer, field.name), prefix + _RENAMED.get(field.name, field.name)
        if isinstance(value, AbstractMixer):
            arrays |= _arrays(value, f"{name}.")
        elif value is not None:
            arrays[name] = value
    return arrays


def load_weights(path: str | os.PathLike[str], kind: type | None = None) -> Any:
    """The mixer or stack that `save_weights` wrote, to the bit (float64 needs JAX's float64 enabled).

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
    found = _named(metadata["mixer"], where)
    if kind is not None and found is not kind:
        raise FileError(f"{where} holds a {found.__name__}, and a {kind.__name__} is needed here. Check the path.")
    return _built_stack(arrays, metadata, where) if found is Stack else _built(found, arrays, where)


def _named(name: str, where: str) -> type:
    known: dict[str, type] = {**classes(), "Stack": Stack}
    if name not in known:
        raise FileError(f"{where} holds a {name}, which this dualform does not know; it knows {', '.join(known)}.")
    return known[name]


def _built_stack(arrays: dict[str, np.ndarray], metadata: Mapping[str, str], where: str) -> Stack:
    names = [name for name in metadata.get("layers", "").split(",") if name]
    layers = [_built(_named(name, where), _part(arrays, f"layers.{i}."), where) for i, name in enumerate(names)]
    known = {"embedding", "readout"} | {name for name in arrays if name.split(".")[:1] == ["layers"]}
    if set(arrays) != known or not {"embedding", "readout"} <= set(arrays):
        raise FileError(f"{where} does not hold the embedding, layers and readout of a Stack alone. Write it again.")
    try:
        return Stack(jnp.asarray(arrays["embedding"]), tuple(layers), jnp.asarray(arrays["readout"]))
    except InputError as error:
        raise InputError(f"the weights in {where} do not fit together: {error}") from None


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _built(kind: type[AbstractMixer], arrays: dict[str, np.ndarray], where: str) -> AbstractMixer:
    """The mixer of these arrays; a field that is a mixer itself (an LRU's core) is built of those that carry its name."""
    parts: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, AbstractMixer):
            own = _part(arrays, f"{field.name}.")
            arrays = {name: array for name, array in arrays.items() if not name.startswith(f"{field.name}.")}
            parts |= {field.name: _built(field.type, own, where)} if own else {}
    expected = inspect.signature(kind).parameters
    unknown = sorted(set(arrays) - set(expected))
    if unknown:
        raise FileError(f"{where} has arrays that no {kind.__name__} has: {', '.join(unknown)}. Write it again.")
    needed = (name for name, parameter in expected.items() if parameter.default is inspect.Parameter.empty)
    missing = sorted(set(needed) - set(arrays) - set(parts))
    if missing:
        raise FileError(f"{where} lacks {', '.join(missing)}, which a {kind.__name__} needs. Write it again.")
    build: Any = kind
    try:
        return build(**{name: jnp.asarray(array) for name, array in arrays.items()}, **parts)
    except InputError as error:
        raise InputError(f"the weights in {where} do not fit together: {error}") from None
