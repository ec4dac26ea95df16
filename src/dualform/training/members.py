"""Several trainings in one program: their arrays with an axis in front, gone through at once or one after the other."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from dualform.errors import require

Members: TypeAlias = Literal["vmap", "map"]


def default_members() -> Members:
    """One operation for all on an accelerator; on a CPU, which gains nothing from products with one more axis, in turn."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def each(function: Callable[[Any], Any], members: Members | None) -> Callable[[Any], Any]:
    """The function of a tree of arrays, for each member of one with an axis of them in front; itself for None."""
    if members is None:
        return function
    return jax.vmap(function) if members == "vmap" else lambda tree: jax.lax.map(function, tree)


def stacked(trees: Sequence[Any]) -> Any:
    """One tree whose arrays have a leading axis of members.

    **Raises:** `InputError` where structure or shapes differ.
    """
    shapes = [jtu.tree_map(lambda leaf: jnp.shape(leaf), eqx.filter(tree, eqx.is_array)) for tree in trees]
    same = all(
        jtu.tree_structure(tree) == jtu.tree_structure(trees[0]) and shape == shapes[0]
        for tree, shape in zip(trees, shapes, strict=True)
    )
    require(same, "the networks (or tasks) of an ensemble differ in structure or shapes; train them apart.")
    return jtu.tree_map(lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *trees)
