"""Weights of mixers and models in safetensors files, with what they are made of named in the file."""

import dataclasses
import inspect
import json
import os
import typing
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from dualform import models
from dualform.described import HOW
from dualform.errors import FileError, InputError
from dualform.mixers import Constant, SoftmaxAttention
from dualform.mixers.registration import classes
from dualform.reading import reading
from dualform.tensor_file import open_tensors, write_tensors

FORMAT = "2"
"""With the structure: the class of every part, and the settings that are no arrays. In format 1 a mixer is arrays alone."""

_RENAMED = {"given_decay": "decay"}
"""Fields that their constructor calls otherwise."""


def save_weights(path: str | os.PathLike[str], module: eqx.Module, notes: Mapping[str, str] | None = None) -> None:
    """Write the arrays of a mixer or a model, to the bit, and what it is made of; those of a part carry the part's name.

    **Arguments:** module: one of this package's mixers, or a model made of them; notes: further metadata of the file, such as
    `tokens.notes` and a record of the training.

    **Raises:** `InputError` for another kind; `FileError` where the file cannot be written.
    """
    arrays: dict[str, Any] = {}
    structure = _taken_apart(module, "", arrays)
    metadata = dict(notes or {}) | {"format": "dualform", "version": FORMAT, "mixer": type(module).__name__}
    metadata["structure"] = json.dumps(structure, sort_keys=True)
    write_tensors(path, {name: np.asarray(array) for name, array in arrays.items()}, metadata)


def _taken_apart(module: eqx.Module, prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """The structure of a module: its class, its parts, its settings; its arrays go into `arrays`."""
    if type(module) not in _known().values():
        raise InputError(f"a {type(module).__name__} cannot be saved; {', '.join(_known())} can.")
    structure: dict[str, Any] = {"class": type(module).__name__, "parts": {}, "settings": {}}
    for field in dataclasses.fields(module):
        if HOW in field.metadata:
            continue
        value, name = getattr(module, field.name), _RENAMED.get(field.name, field.name)
        if isinstance(value, Constant):
            arrays[prefix + name] = value.value
        elif isinstance(value, eqx.Module):
            structure["parts"][name] = _taken_apart(value, f"{prefix}{name}.", arrays)
        elif isinstance(value, tuple):
            taken = [_taken_apart(part, f"{prefix}{name}.{i}.", arrays) for i, part in enumerate(value)]
            structure["parts"][name] = taken
        elif value is None or isinstance(value, str | bool | int | float):
            structure["settings"][name] = value
        else:
            arrays[prefix + name] = value
    return structure


def _known() -> dict[str, type]:
    """Every class that a file may name: the registered mixers, and the models."""
    made = (kind for kind in vars(models).values() if isinstance(kind, type) and issubclass(kind, eqx.Module))
    return {**classes(), **{kind.__name__: kind for kind in made}}


def load_weights(path: str | os.PathLike[str], kind: type | None = None) -> Any:
    """The mixer or model that `save_weights` wrote, to the bit (float64 needs JAX's float64 enabled).

    **Arguments:** kind: the class that it must be of; any if not given.

    **Raises:** `FileError` where the file is missing, truncated, foreign, of a later version, or of another mixer;
    `InputError` where its arrays do not fit together.
    """
    arrays, metadata = open_tensors(path)
    return restored(arrays, metadata, repr(os.fspath(path)), kind)


def restored(arrays: Mapping[str, Any], metadata: Mapping[str, str], where: str, kind: type | None = None) -> Any:
    """The mixer or model of these arrays, in memory or stored, and this metadata; errors as of `load_weights`.

    **Arguments:** where: what the file is called.
    """
    if metadata.get("format") != "dualform" or "mixer" not in metadata:
        raise FileError(
            f"{where} does not say which mixer it holds: it was not written by save_weights. Check the path."
        )
    if metadata.get("version") not in ("1", FORMAT):
        raise FileError(
            f"{where} has format version {metadata.get('version')}; this dualform reads 1 and {FORMAT}. Update it."
        )
    found = _named(metadata["mixer"], where)
    if kind is not None and found is not kind:
        raise FileError(f"{where} holds a {found.__name__}, and a {kind.__name__} is needed here. Check the path.")
    with reading(where, "file of weights"):
        return _built(_structure(metadata, where), dict(arrays), where)


def _structure(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    if metadata["version"] == "1":
        return {"class": metadata["mixer"], "parts": {}, "settings": {}}
    try:
        structure = json.loads(metadata["structure"])
        _check_structure(structure)
    except (KeyError, ValueError, TypeError, RecursionError):
        raise FileError(f"{where} does not say what its {metadata['mixer']} is made of. Write it again.") from None
    return structure


def _as_named_now(kind: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names of their fields, which older files call otherwise.

    Attention once had a window of 1024 where none was said, and a mark of whether it slides; one that does not is a context.
    """
    if kind is not SoftmaxAttention or "context" in settings:
        return dict(settings)
    window, slides = settings.get("window", 1024), settings.get("sliding", True)
    if not isinstance(slides, bool):  # refused as what no attention has
        return dict(settings)
    others = {name: value for name, value in settings.items() if name not in ("window", "sliding")}
    return others | {"window": window if slides else None, "context": None if slides else window}


def _check_structure(structure: Any) -> None:
    """Raise unless it is what `_taken_apart` gives."""
    if not isinstance(structure, dict) or set(structure) != {"class", "parts", "settings"}:
        raise ValueError
    if not isinstance(structure["class"], str) or not all(
        isinstance(structure[key], dict) for key in ("parts", "settings")
    ):
        raise ValueError
    for value in structure["settings"].values():
        if value is not None and not isinstance(value, str | bool | int | float):
            raise TypeError
    for part in structure["parts"].values():
        for each in part if isinstance(part, list) else [part]:
            _check_structure(each)


def _named(name: str, where: str) -> type:
    known = _known()
    if name not in known:
        raise FileError(f"{where} holds a {name}, which this dualform does not know; it knows {', '.join(known)}.")
    return known[name]


def _part(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _built(structure: dict[str, Any], arrays: dict[str, Any], where: str) -> Any:
    """The module of this structure; its parts are built of the arrays that carry their names."""
    kind = _named(structure["class"], where)
    settings = _as_named_now(kind, structure["settings"])
    given: dict[str, Any] = dict(settings)
    for name, part in structure["parts"].items():
        own = _part(arrays, f"{name}.")
        arrays = {key: array for key, array in arrays.items() if not key.startswith(f"{name}.")}
        if isinstance(part, dict):
            given[name] = _built(part, own, where)
        else:
            given[name] = tuple(_built(each, _part(own, f"{i}."), where) for i, each in enumerate(part))
            stray = [key for key in own if not any(key.startswith(f"{i}.") for i in range(len(part)))]
            arrays |= {f"{name}.{key}": own[key] for key in stray}
    twice = sorted({*arrays} & {*given})
    if twice:
        raise FileError(f"{where} has {', '.join(twice)} of a {kind.__name__} twice. Write it again.")
    expected = inspect.signature(kind).parameters
    unknown = sorted({*arrays, *given} - set(expected))
    if unknown:
        raise FileError(f"{where} has what no {kind.__name__} has: {', '.join(unknown)}. Write it again.")
    needed = (name for name, parameter in expected.items() if parameter.default is inspect.Parameter.empty)
    missing = sorted(set(needed) - set(arrays) - set(given))
    if missing:
        raise FileError(f"{where} lacks {', '.join(missing)}, which a {kind.__name__} needs. Write it again.")
    _check_settings(kind, settings, where)
    try:
        return kind(**{name: jax.device_put(np.asarray(array)) for name, array in arrays.items()}, **given)
    except InputError as error:
        raise InputError(f"the weights in {where} do not fit together: {error}") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:  # a part of a class that does not belong there
        raise FileError(
            f"{where} holds no {kind.__name__} that can be made ({error!s:.200}). Write it again."
        ) from None


def _check_settings(kind: type, settings: Mapping[str, Any], where: str) -> None:
    """Raise `FileError` where a setting is not of its field's type: a text for a number, a number for an array."""
    types = {_RENAMED.get(field.name, field.name): field.type for field in dataclasses.fields(kind)}
    for name, value in settings.items():
        allowed = typing.get_args(types[name]) or (types[name],)
        if type(value) in allowed or (type(value) is int and float in allowed):
            continue
        raise FileError(
            f"{where} says {json.dumps(value)[:40]} for {name} of a {kind.__name__}, which is none. Write it again."
        )
