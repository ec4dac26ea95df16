"""Several devices that train one model: sequences shared among them, weights whole on each, the optimiser's arrays in parts."""

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from dualform.counts import count_of
from dualform.errors import require

AXIS = "data"


def mesh_of(devices: Iterable[Any] | None) -> Mesh | None:
    """The devices as a mesh of one axis; None for None.

    **Raises:** `InputError` where there is none, one stands there twice, or not every process has as many as the others.
    """
    if devices is None:
        return None
    given = sorted(devices, key=lambda device: (device.process_index, device.id))
    require(len(given) > 0, "no devices are given; at least one is needed.")
    require(len(set(given)) == len(given), "a device is given twice; each may be there once.")
    owners = [device.process_index for device in given]
    counts = [owners.count(process) for process in range(jax.process_count())]
    require(
        set(owners) == {jax.process_index()} or len(set(counts)) == 1,
        f"of the devices, {', '.join(map(str, counts))} belong to the processes 0 to {len(counts) - 1}; give as many of each, or "
        "those of this process alone.",
    )
    return Mesh(np.array(given), (AXIS,), axis_types=(AxisType.Auto,))


MOST = 256
"""Simulated devices; each has threads of its own."""


def simulated(count: int) -> None:
    """Let the CPU be so many devices, if nothing was computed yet.

    **Raises:** `InputError` where the number cannot be.
    """
    count_of("devices", count, 1, "give a whole number of at least 1")
    require(count <= MOST, f"devices is {count:,}; a CPU simulates at most {MOST}.")
    with contextlib.suppress(RuntimeError):  # JAX has made its devices already
        jax.config.update("jax_num_cpu_devices", count)


def of_each_process(count: int | None) -> list[Any]:
    """The first devices of each process, so many of each; all for None.

    **Raises:** `InputError` where a process has fewer.
    """
    every = [jax.local_devices(process_index=process) for process in range(jax.process_count())]
    least = min(map(len, every))
    require(count is None or count <= least, f"devices is {count}, and there are {least}. Give no more than there are.")
    return [device for own in every for device in own[:count]]


def check_batch(batch: PyTree, mesh: Mesh | None) -> None:
    """Raise `InputError` where a batch (arrays or their shapes, sequences first) cannot be shared equally."""
    if mesh is None:
        return
    for leaf in jtu.tree_leaves(batch):
        count = leaf.shape[0] if leaf.ndim else 0
        require(
            count > 0 and count % mesh.size == 0,
            f"a batch of {count:,} sequences cannot be shared equally among {mesh.size} devices. Give a batch of "
            f"{max(round(count / mesh.size), 1) * mesh.size:,}, or other devices.",
        )


def split_batch(batch: PyTree, mesh: Mesh | None) -> PyTree:
    """A batch inside of a compiled step, its sequences shared among the devices."""
    check_batch(batch, mesh)
    return _constrained(batch, mesh, lambda leaf: PartitionSpec(AXIS))


def split(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays inside of a compiled step, each in parts, one on each device (see `parts`)."""
    return tree if mesh is None else _constrained(tree, mesh, lambda leaf: parts(leaf, mesh))


def whole(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays inside of a compiled step, whole on each device."""
    return _constrained(tree, mesh, lambda leaf: PartitionSpec())


def parts(leaf: Any, mesh: Mesh) -> PartitionSpec:
    """How an optimiser's array is split: along its first axis that the devices divide equally; whole where there is none."""
    axis = next((axis for axis, size in enumerate(leaf.shape) if size > 0 and size % mesh.size == 0), None)
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)


def place_whole(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays of this process, the same in every one, put on the devices, whole on each; what is no array stays."""
    return tree if mesh is None else jtu.tree_map(partial(_put, mesh, lambda leaf: PartitionSpec()), tree)


def place_parts(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays of this process, the same in every one, put on the devices in parts (see `parts`)."""
    return tree if mesh is None else jtu.tree_map(partial(_put, mesh, lambda leaf: parts(leaf, mesh)), tree)


def place_batches(batches: PyTree, mesh: Mesh | None, before: int) -> PyTree:
    """Batches from outside put on the devices, their sequences shared.

    **Arguments:** before: axes before that of the sequences.
    """
    spec = PartitionSpec(*[None] * before, AXIS)
    return batches if mesh is None else jtu.tree_map(partial(_put, mesh, lambda leaf: spec), batches)


def here(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays that are whole on each device, as they are on this process's first one; their memory is the same."""
    if mesh is None:
        return tree
    return jtu.tree_map(lambda leaf: leaf.addressable_data(0) if eqx.is_array(leaf) else leaf, tree)


def _put(mesh: Mesh, spec: Any, leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array | np.ndarray):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jr.wrap_key_data(_put(mesh, lambda leaf: PartitionSpec(), jr.key_data(leaf)), impl=jr.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, NamedSharding(mesh, spec(leaf)), lambda index: host[index])


def _constrained(tree: PyTree, mesh: Mesh | None, spec: Any) -> PyTree:
    if mesh is None:
        return tree
    put = lambda leaf: jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec(leaf)))
    return jtu.tree_map(lambda leaf: put(leaf) if eqx.is_array(leaf) else leaf, tree)
