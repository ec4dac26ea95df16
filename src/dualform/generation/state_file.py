"""States on disk: one safetensors file, with what it is a state of, written whole or not at all."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from dualform.arrays import State
from dualform.errors import FileError, require
from dualform.generation.fingerprints import Fingerprint, fingerprint
from dualform.generation.growth import bounds_of, first_state
from dualform.growing import alike, shorter
from dualform.reading import whole
from dualform.tensor_file import read_tensors, write_tensors

FORMAT, VERSION = "dualform-state", 2
"""Version 1 had the tokens of a cache at its end, and is read where there is none."""


def save_state(
    path: str | os.PathLike[str],
    module: Any,
    state: State,
    *,
    texts: int | None = None,
    arrays: Mapping[str, Any] | None = None,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a state of a mixer or a model, to the bit, and which model it is of.

    The file that was there stays whole until the new one is.

    **Arguments:** module: what has `init_state()`; state: as a call or a step of it returned; texts: how many it is of, where
    its arrays have an axis of them; arrays, notes: what else is to be in the file, which `read_state` gives back.

    **Raises:** `InputError` where the state is not of the module, or holds NaN; `FileError` where the file cannot be written.
    """
    named = _named(state)
    expected = _named(_expected(module, texts, state))
    shapes = lambda leaves: {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in leaves.items()}
    require(
        shapes(named) == shapes(expected),
        f"the state is not one of this {type(module).__name__}: its init_state() has other parts, shapes or dtypes. Give the "
        "state that a call of it returned.",
    )
    held = {name: np.asarray(leaf) for name, leaf in {**named, **(arrays or {})}.items()}
    wrong = [name for name, leaf in held.items() if _has_nan(leaf)]
    require(
        not wrong,
        f"{', '.join(wrong[:1])} holds NaN, and all that goes on from there would. Was more read than the model has place "
        "for? Go back to before, and save that.",
    )
    own = fingerprint(module)
    metadata = dict(notes or {}) | own._asdict() | {"format": FORMAT, "version": str(VERSION), "digest": _digest(held)}
    metadata |= {} if texts is None else {"texts": str(texts)}
    write_tensors(path, held, metadata)


def load_state(path: str | os.PathLike[str], module: Any) -> State:
    """The state that `save_state`, or a session's `save`, wrote of this mixer or model, to the bit.

    **Raises:** `FileError` where the file is missing, truncated, damaged, foreign or of a later version, or holds NaN;
    `InputError` where it is of another model, other weights, another policy or another number of states.
    """
    return read_state(path, module)[0]


def read_state(
    path: str | os.PathLike[str], module: eqx.Module
) -> tuple[State, dict[str, np.ndarray], dict[str, str], int | None]:
    """The state, the other arrays of the file, its metadata, and how many texts it is of; errors as of `load_state`."""
    arrays, metadata = read_tensors(path)
    where = repr(os.fspath(path))
    if metadata.get("format") != FORMAT:
        raise FileError(
            f"{where} is no state: dualform did not write it as one. Give a file that save made of a session."
        )
    version = metadata.get("version", "")
    if version not in ("1", str(VERSION)):
        later = (whole(version) or 0) > VERSION
        raise FileError(
            f"{where} is of version {version or 'unknown'} of the format; this dualform reads {VERSION}. "
            + ("Update dualform." if later else "Read the tokens anew.")
        )
    if metadata.get("digest") != _digest(arrays):
        raise FileError(f"{where} is damaged: its numbers are not those that were written. Copy it again.")
    nan = [name for name, array in arrays.items() if _has_nan(array)]
    if nan:
        raise FileError(f"{nan[0]} in {where} holds NaN, and all that goes on from there would. Read the tokens anew.")
    own = fingerprint(module)
    try:
        found = Fingerprint(*(metadata[name] for name in Fingerprint._fields))
    except KeyError as error:
        raise FileError(f"{where} does not say which model it is of: it lacks {error}. Copy it again.") from None
    own.check(found, f"the state in {where}")
    if version == "1" and bounds_of(module):
        raise FileError(
            f"{where} is of version 1 of the format, in which caches were laid out otherwise. Read the tokens anew."
        )
    texts = whole(metadata.get("texts"))
    initial = jax.eval_shape(lambda: first_state(module, texts))
    held = {name: arrays.pop(name, np.zeros(0)) for name in _named(initial)}
    state = jtu.tree_structure(initial).unflatten(held.values())
    for name, leaf in _named(_expected(module, texts, state)).items():
        if (held[name].shape, held[name].dtype) != (leaf.shape, leaf.dtype):
            raise FileError(f"{name} in {where} is not what this model has. The file is damaged; copy it again.")
    return jtu.tree_map(jnp.asarray, state), arrays, metadata, texts


def _expected(module: Any, texts: int | None, state: Any) -> Any:
    """Shapes and dtypes of the module's states with as many places as this one."""
    initial = jax.eval_shape(lambda: first_state(module, texts))
    return jax.eval_shape(lambda: shorter(first_state(module, texts), state)) if alike(state, initial) else initial


def _named(state: Any) -> dict[str, Any]:
    """Each array of a state, or its shape, by its path in it."""
    leaves, _ = jtu.tree_flatten_with_path(state)
    return {f"state{jtu.keystr(path)}": leaf for path, leaf in leaves}


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    whole = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        whole.update(f"{name} {array.dtype} {array.shape} ".encode())
        whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def _has_nan(array: np.ndarray) -> bool:
    """Infinity is no mistake: the greatest score so far is minus infinity before there is one."""
    return array.dtype.kind not in "iub" and bool(np.isnan(array).any())
