"""What a stage of training is of: its model, its data and its loss, so that no other one goes on from its checkpoints."""

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from dualform.described import digest
from dualform.errors import InputError
from dualform.training.state import TrainState, arrays_of

_LOG = logging.getLogger(__name__)
TOLERANCE = 1e-3
"""How far numbers may be apart that another machine or version computes; others are apart by about their own size."""
BLOCK = 1 << 20


def origin(
    state: TrainState,
    sample: Callable[..., tuple[Any, Any]],
    loss: Callable[[Any, Any, Any], Array],
    scale: float | int,
    others: Mapping[str, Any] = MappingProxyType({}),
    batch: Any = (),
) -> dict[str, Any]:
    """What training begins with, as JSON: shapes and a sketch of the model, of the first inputs and targets, and the first loss.

    Of the arrays that the data are taken from, where `sample` is a task's that holds them, there is a digest or a sketch of each,
    what is held out among them. Of the functions that make the data and the loss, and of all `others`, there is a digest of their
    code, too (see `dualform.described`).

    **Arguments:** state: before the first step; sample, loss, scale: as of `fit`; others: what else training is told by
    functions, by the names of `fit`, None where it is not; batch: the first one, where batches come from outside.
    """

    @eqx.filter_jit
    def first(state: TrainState, batch: Any):
        x, y = sample(jr.fold_in(state.key, state.step), *batch)
        return x, y, loss(state.model, x, y) / scale

    x, y, value = first(state, batch)
    model = {name: array for name, array in arrays_of(state).items() if name.startswith("model")}
    return {
        "shapes": {name: [str(array.dtype), *array.shape] for name, array in model.items()},
        "weights": sketch(model),
        "inputs": sketch(_arrays(x)),
        "targets": sketch(_arrays(y)),
        "loss": float(value),
        "data": {name: _content(array) for name, array in _arrays(sample).items()},
        **{f"code of {name}": digest(each) for name, each in {"sample": sample, "loss": loss, **others}.items()},
    }


def check_origin(there: dict[str, Any] | None, here: dict[str, Any], what: str) -> None:
    """Raise `InputError` where what is now trained is not what the checkpoint is of, naming what differs first.

    **Arguments:** there: as it was saved, None in a checkpoint of before there was one; what: names the checkpoint.
    """
    if there is None:
        _LOG.warning("%s does not say which model, data and loss it is of: make sure that they are the same.", what)
        return
    advice = "Choose another folder for this run, or delete that one."
    old, new = there["shapes"], here["shapes"]
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            said = [
                f"{shape[0]} {tuple(shape[1:])}" if shape else "not there" for shape in (old.get(name), new.get(name))
            ]
            raise InputError(f"{what} is of another model: {name} was {said[0]}, and now it is {said[1]}. {advice}")
    for name, is_of in (
        ("weights", "training began with other weights of the same shapes"),
        ("inputs", "the data that sample draws has other inputs"),
        ("targets", "the data that sample draws has other targets, as of another teacher"),
    ):
        if not _alike(there[name], here[name]):
            raise InputError(f"{what} is of another run: {is_of}. {advice}")
    old, new = there.get("data", here["data"]), here["data"]
    if old.keys() != new.keys() or not all(_same_content(old[name], new[name]) for name in new):
        raise InputError(f"{what} is of other data: what training or measuring reads has changed since. {advice}")
    if not _near(there["loss"], here["loss"]):
        first = f"the first one was {there['loss']:.6g}, and now it is {here['loss']:.6g}"
        raise InputError(f"{what} is of another loss, or scale: {first}. {advice}")
    for name in (each for each in here if each.startswith("code of ") and each in there):
        if there[name] != here[name]:
            function = name.removeprefix("code of ")
            raise InputError(f"{what} was made by other code of `{function}`, or by what it calls. {advice}")


def sketch(arrays: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Five numbers of each array: its norm, and what it is along four fixed directions of random signs, in units of the norm.

    Two arrays of one norm are apart by about 1 in each direction, and rounding moves them by as little as it moves the array.
    """
    return {name: _sketched(array) for name, array in arrays.items()}


def _content(array: np.ndarray) -> list[Any]:
    """Shape, and a digest of whole numbers or a sketch of others, which another machine may have rounded otherwise."""
    exact = not np.issubdtype(array.dtype, np.inexact)
    return [
        list(array.shape),
        hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest() if exact else _sketched(array),
    ]


def _same_content(old: list[Any], new: list[Any]) -> bool:
    (shape, old), (new_shape, new) = old, new
    exact = isinstance(new, str) or isinstance(old, str)
    return shape == new_shape and (old == new if exact else _alike({"": old}, {"": new}))


def _sketched(array: np.ndarray) -> list[float]:
    flat, squares, along = np.asarray(array).reshape(-1), 0.0, np.zeros(4)
    signs = np.random.default_rng(0)
    for begin in range(0, flat.size, BLOCK):
        part = flat[begin : begin + BLOCK]
        part = np.stack([np.real(part), np.imag(part)], axis=1).reshape(-1) if np.iscomplexobj(part) else part
        part = np.nan_to_num(part.astype(np.float64), nan=1.0, posinf=2.0, neginf=-2.0)
        squares += float(part @ part)
        along += (2.0 * signs.integers(0, 2, (4, part.size)) - 1.0) @ part
    norm = math.sqrt(squares)
    return [norm, *(along / (norm or 1.0)).tolist()]


def _arrays(tree: PyTree) -> dict[str, np.ndarray]:
    leaves = jtu.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    plain = lambda leaf: jr.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return {jtu.keystr(path): np.asarray(plain(leaf)) for path, leaf in leaves}


def _alike(old: dict[str, list[float]], new: dict[str, list[float]]) -> bool:
    return old.keys() == new.keys() and all(
        _near(old[name][0], new[name][0]) and np.allclose(old[name][1:], new[name][1:], atol=TOLERANCE, rtol=0)
        for name in old
    )


def _near(old: float, new: float) -> bool:
    if not (math.isfinite(old) and math.isfinite(new)):
        return old == new or (math.isnan(old) and math.isnan(new))
    return abs(old - new) <= TOLERANCE * max(abs(old), abs(new))
