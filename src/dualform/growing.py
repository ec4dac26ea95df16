"""States with fewer places than a layer's bound, so that what is remembered of a short text is small.

A cache has one place for each token. `init_state()` gives as many as the layer's bound, and with those it goes on for ever. With
fewer, a state is one of a shorter context: it keeps as many tokens as it has places, and where one would have to go for want of a
place, all that follows is NaN. Shapes stay as they are within a call, a step or a loop; more places are given between calls.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dualform.arrays import State


class Growing(Protocol):
    """A part of a state that may have fewer places than `init_state()` gives it: any class that has these two."""

    @property
    def places(self) -> int:
        """How many tokens it has place for."""
        ...

    def of_places(self, places: int) -> Any:
        """It with so many places, empty ones added or taken away."""
        ...


def grows(part: Any) -> bool:
    """Whether a part of a state may have fewer places."""
    return hasattr(type(part), "of_places")


def places_of_parts(state: Any) -> tuple[int, ...]:
    """How many places each part of a state, or of its shapes, that may grow has, in order."""
    return tuple(part.places for part in jax.tree_util.tree_leaves(state, is_leaf=grows) if grows(part))


def alike(state: Any, initial: Any) -> bool:
    """Whether a state has the structure of the initial one, or of its shapes, and arrays of its ranks."""
    structure, ranks = jax.tree_util.tree_structure, lambda tree: [*map(jnp.ndim, jax.tree_util.tree_leaves(tree))]
    return structure(state) == structure(initial) and ranks(state) == ranks(initial)


def shorter(initial: State, state: Any) -> State:
    """The initial state with as many places as `state` has, where these are fewer.

    **Arguments:** initial: as of `init_state()`; state: of the same structure, and its arrays of the same rank.
    """
    cut = lambda like, part: like.of_places(part.places) if grows(like) and part.places < like.places else like
    return jax.tree_util.tree_map(cut, initial, state, is_leaf=grows)


def widened(a: Array, places: int, *, axis: int) -> Array:
    """An array with so many places along an axis, zeros or a cut behind."""
    axis %= a.ndim
    there = a.shape[axis]
    if places <= there:
        return jax.lax.slice_in_dim(a, 0, places, axis=axis)
    empty = jnp.zeros((*a.shape[:axis], places - there, *a.shape[axis + 1 :]), a.dtype)
    return jnp.concatenate([a, empty], axis=axis)
