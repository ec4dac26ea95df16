"""Which arrays of a model are trained, and on which of them weight decay acts."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import PyTree


def trainable(model: PyTree) -> PyTree:
    """True where a leaf is trained: every real array. What is given is a `Constant`, which is none."""
    return jtu.tree_map(eqx.is_inexact_array, model)


def decayed(model: PyTree) -> PyTree:
    """True where weight decay acts: on the fields that the class they belong to names in `weight_decayed`.

    Of a class that names none, and of arrays that belong to no class, on matrices: all with two axes or more.
    """

    def acts(path: Sequence[Any], leaf: Any) -> bool:
        if not eqx.is_inexact_array(leaf):
            return False
        owner, name = _owner(model, path)
        named = getattr(owner, "weight_decayed", None)
        return leaf.ndim >= 2 if named is None else name in named

    return jtu.tree_map_with_path(acts, model)


def _owner(tree: PyTree, path: Sequence[Any]) -> tuple[Any, str]:
    """The innermost module on the way to a leaf, and the name of its field that the way goes through."""
    owner, name = None, ""
    at: Any = tree
    for key in path:
        if isinstance(at, eqx.Module):
            owner, name = at, str(getattr(key, "name", ""))
        place: Any = at  # a module is entered by name, anything else by number or key
        at = getattr(at, key.name) if hasattr(key, "name") else place[key.idx if hasattr(key, "idx") else key.key]
    return owner, name


def name_of(path: Sequence[Any]) -> str:
    """The field's name at the end of a tree path."""
    return str(getattr(path[-1], "name", getattr(path[-1], "key", ""))) if path else ""
