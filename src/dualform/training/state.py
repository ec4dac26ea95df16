"""The state of a training run, and how units are taken out of it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree

from dualform.counts import key_of
from dualform.errors import require
from dualform.mixers import GatedRNN, SideGatedRNN
from dualform.training.carried import Carried
from dualform.training.config import FitConfig
from dualform.training.devices import place_batches, place_parts, place_whole
from dualform.training.optimiser import adamw
from dualform.training.parameters import trainable

Module = TypeVar("Module", bound=eqx.Module)

_UNITS: dict[type, dict[str, tuple[str | None, ...]]] = {
    GatedRNN: {
        "w_m_in": ("hidden", None),
        "w_x_in": ("hidden", None),
        "w_m_out": ("readout", "hidden"),
        "w_x_out": ("readout", "hidden"),
        "readout": (None, "readout"),
        "nu": ("hidden",),
        "given_decay": ("hidden",),
    },
    SideGatedRNN: {
        "w_m_in": ("hidden", None),
        "w_x_in": ("hidden", None),
        "w_side": ("hidden", None),
        "readout": (None, "hidden"),
        "nu": ("hidden",),
        "given_decay": ("hidden",),
    },
}
"""Which axis of which weight belongs to which units."""


class TrainState(eqx.Module):
    """All that a training run remembers between steps.

    - model.  optimiser: the state of an optax transformation; Adam's moments are models with None where nothing is trained.
    - step: steps done.  key: of the data; step number s draws from `fold_in(key, s)`.
    - carried: what a batch's sequences go on from, (sequence, ...), where they do (`dualform.training.carried`).
    """

    model: Any
    optimiser: Any
    step: Int[Array, ""]
    key: Array
    carried: Any = ()


def initial_state(
    model: eqx.Module,
    config: FitConfig,
    *,
    optimiser: optax.GradientTransformation | None = None,
    trainable: Callable[[PyTree], PyTree] = trainable,
    carried: Carried | None = None,
) -> TrainState:
    """The state before the first step. The arrays are copies, since training reuses the memory of its state.

    **Arguments:** optimiser: as of `fit`.  carried: its data, where states are.
    """
    model = jtu.tree_map(lambda leaf: jnp.array(leaf) if eqx.is_array(leaf) else leaf, model)
    begun = (adamw(config) if optimiser is None else optimiser).init(eqx.filter(model, trainable(model)))
    states = () if carried is None else carried.begin(model)
    return TrainState(model, begun, jnp.zeros((), jnp.int32), key_of(config.seed), states)


def placed(state: TrainState, mesh: Mesh | None) -> TrainState:
    """A state of this process, the same in every one, on devices: whole on each, the optimiser's arrays in parts.

    What is carried is shared by its sequences.
    """
    whole = place_whole(replace(state, optimiser=None, carried=None), mesh)
    carried = place_batches(state.carried, mesh, 0)
    return replace(whole, optimiser=place_parts(state.optimiser, mesh), carried=carried)


def select_units(
    tree: Module,
    hidden: Int[np.ndarray, " kept"] | None = None,
    readout: Int[np.ndarray, " kept_readout"] | None = None,
) -> Module:
    """The units of the given indices, in that order: of a network, or of a whole training state, moments alike.

    **Arguments:**

    - tree: a `GatedRNN`, a `SideGatedRNN`, or a `TrainState` of one.
    - hidden: indices of hidden units, all if not given.
    - readout: indices of pre-readout units, all if not given; a side-gated RNN has none.

    **Returns:** the same kind of thing with smaller (or larger, or permuted) arrays; other arrays are unchanged.

    **Raises:** `InputError` where the network is of another kind, or an index is not that of a unit.
    """
    if isinstance(tree, TrainState):
        return _of_networks(tree, lambda network: select_units(network, hidden, readout))
    kind = type(tree)
    require(kind in _UNITS, f"units of a {kind.__name__} cannot be selected; give a GatedRNN or a SideGatedRNN.")
    units, chosen = _UNITS[kind], {"hidden": hidden, "readout": readout}
    require(
        readout is None or any("readout" in axes for axes in units.values()),
        f"a {kind.__name__} has no pre-readout units of its own; select hidden ones.",
    )

    def cut(name: str, leaf: Any) -> Any:
        for axis, belongs in enumerate(units[name]):
            index = chosen.get(belongs or "")
            if index is not None:
                for a in jtu.tree_leaves(leaf):
                    _check_index(np.asarray(index), a.shape[axis], belongs)
                rows = jnp.asarray(np.asarray(index, np.int32))
                take = partial(jnp.take, indices=rows, axis=axis)
                leaf = jtu.tree_map(take, leaf)  # an array, or the bits of a constant
        return leaf

    present = [name for name in units if getattr(tree, name) is not None]
    where = lambda network: [getattr(network, name) for name in present]
    return eqx.tree_at(where, tree, [cut(name, getattr(tree, name)) for name in present])


def silence_units(
    tree: Module,
    hidden: Int[np.ndarray, " silenced"] | None = None,
    readout: Int[np.ndarray, " silenced_readout"] | None = None,
) -> Module:
    """The same arrays with every weight of the given units at 0, and Adam's moments of them: they are gone for good.

    A unit whose gates are all 0 gets no gradient, so that training goes on as if it had been taken out, and nothing is
    compiled anew. `select_units` takes silent units out.

    **Arguments:** as `select_units`; decays stay as they are.
    """
    if isinstance(tree, TrainState):
        return _of_networks(tree, lambda network: silence_units(network, hidden, readout))
    units, chosen = _UNITS[type(tree)], {"hidden": hidden, "readout": readout}
    present = [name for name, axes in units.items() if len(axes) == 2 and getattr(tree, name) is not None]

    def quieted(name: str, leaf: Array) -> Array:
        for axis, belongs in enumerate(units[name]):
            index = chosen.get(belongs or "")
            if index is not None and len(index):
                _check_index(np.asarray(index), leaf.shape[axis], belongs)
                leaf = jnp.moveaxis(jnp.moveaxis(leaf, axis, 0).at[jnp.asarray(index, jnp.int32)].set(0), 0, axis)
        return leaf

    where = lambda network: [getattr(network, name) for name in present]
    return eqx.tree_at(where, tree, [quieted(name, getattr(tree, name)) for name in present])


def _of_networks(state: TrainState, change: Callable[[Any], Any]) -> Any:
    """The state with its network changed, and every array of its optimiser that belongs to the network's."""
    kind = type(state.model)
    is_one = lambda node: isinstance(node, kind)
    return jtu.tree_map(lambda node: change(node) if is_one(node) else node, state, is_leaf=is_one)


def _check_index(index: np.ndarray, count: int, kind: str | None) -> None:
    outside = index[(index < 0) | (index >= count)]
    require(
        len(outside) == 0,
        f"there is no {kind} unit {int(outside[0]) if len(outside) else 0}; the network has {count}, counted from 0.",
    )


def arrays_of(state: TrainState) -> dict[str, np.ndarray]:
    """Every array of the state by its path, whole and on the host: what a checkpoint holds.

    Where several processes have parts of it, all of them must ask.
    """
    plain = eqx.tree_at(lambda state: state.key, state, jr.key_data(state.key))
    leaves = jtu.tree_leaves_with_path(eqx.filter(plain, eqx.is_array))
    return {jtu.keystr(path).lstrip("."): _on_host(leaf) for path, leaf in leaves}


def _on_host(leaf: Array) -> np.ndarray:
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def state_from(arrays: dict[str, np.ndarray], like: TrainState) -> TrainState:
    """The state that `arrays_of` took apart: structure from `like`, shapes and values from `arrays`.

    **Raises:** `InputError` where the two do not hold arrays of the same names and dtypes.
    """
    plain = eqx.tree_at(lambda state: state.key, like, jr.key_data(like.key))
    expected = {
        jtu.keystr(path).lstrip("."): leaf for path, leaf in jtu.tree_leaves_with_path(eqx.filter(plain, eqx.is_array))
    }
    odd = sorted(set(arrays) ^ set(expected))
    require(not odd, f"the checkpoint is of another model: {', '.join(odd)} stand in one and not in the other.")
    for name, leaf in expected.items():
        require(
            arrays[name].dtype == leaf.dtype and arrays[name].ndim == leaf.ndim,
            f"the checkpoint is of another model: {name} is {arrays[name].dtype} with {arrays[name].ndim} axes there, "
            f"{leaf.dtype} with {leaf.ndim} here. Is float64 enabled as it was then?",
        )
    fill = lambda path, leaf: jnp.asarray(arrays[jtu.keystr(path).lstrip(".")]) if eqx.is_array(leaf) else leaf
    filled = jtu.tree_map_with_path(fill, plain)
    return eqx.tree_at(lambda state: state.key, filled, jr.wrap_key_data(filled.key, impl=jr.key_impl(like.key)))


def finite(tree: PyTree) -> Array:
    """True where no array of `tree` holds a NaN or an infinity."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.array(True)
