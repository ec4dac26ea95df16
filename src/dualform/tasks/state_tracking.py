"""State tracking: the product of all elements of a group that were read so far."""

import itertools
from functools import lru_cache

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int

from dualform.errors import require
from dualform.tasks.registration import register
from dualform.tasks.scores import of_tokens
from dualform.tasks.task import DrawnTask, setting

GROUPS = ("z2", "z5", "z60", "s3", "s4", "s5", "a4", "a5", "a4xz5")
"""Sums modulo 2 (parity), 5 and 60; permutations of 3, 4 and 5 things, the even ones of 4 and 5; a4xz5 is of pairs."""

Permutation = tuple[int, ...]


@register("state-tracking")
class StateTracking(DrawnTask):
    """`time` elements of a group, drawn uniformly; the target of each token is the product of all up to it.

    Elements are numbered in the order of the permutations that they are, written as tuples; number 0 is the identity. The product
    of p, then q, is "first p, then q": place i goes to q[p[i]].

    - group: one of `GROUPS`.  elements: "all" of it, or "swaps", the exchanges of two things, which all of s3, s4 and s5 are
      products of.

    **Raises:** `InputError` for another group, and for swaps of a group that has none.

    **Source:** Merrill, Petty and Sabharwal 2024 (arXiv 2404.08819): a5, a4xz5, z60, s5 at lengths up to 25; Siems et al. 2025
    (arXiv 2502.10297): s3, s4, a5, s5, trained at 128, tested at 512.
    """

    time: int = setting(default=128)
    group: str = setting(default="s5")
    elements: str = setting(default="all")
    judge = staticmethod(of_tokens)
    source = "Merrill et al. 2024 (arXiv 2404.08819)"

    def __check_init__(self):
        require(self.group in GROUPS, f"there is no group {self.group!r}; there are {', '.join(GROUPS)}.")
        require(
            self.elements in ("all", "swaps"),
            f"elements is {self.elements!r}; it must be 'all' of the group, or 'swaps'.",
        )
        require(
            self.elements == "all" or self.group[0] == "s",
            f"no element of {self.group} exchanges two things and no more; only s3, s4 and s5 have swaps.",
        )

    @property
    def vocabulary(self) -> int:
        """How many elements the group has."""
        return len(members(self.group))

    @property
    def chance(self) -> float:
        """The accuracy of a guess: 1 / order; of swaps 2 / order, since their number says which half of the group it is in."""
        return (1 if self.elements == "all" else 2) / self.vocabulary

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Elements, and the products up to each, (time,)."""
        swaps = [i for i, each in enumerate(members(self.group)) if _moved(each) == 2]
        drawn = np.arange(self.vocabulary) if self.elements == "all" else np.array(swaps)
        x = jnp.asarray(drawn, jnp.int32)[jr.randint(key, (self.time,), 0, len(drawn), jnp.int32)]
        table = jnp.asarray(products(self.group))
        return x, jax.lax.associative_scan(lambda p, q: table[p, q], x)


def _moved(permutation: Permutation) -> int:
    return sum(place != i for i, place in enumerate(permutation))


@lru_cache
def members(group: str) -> tuple[Permutation, ...]:
    """The elements of a group as permutations, in the order of their numbers."""
    kind, size = group[0], int(group.split("x")[0][1:])
    if kind == "z":
        return _turns(size)
    all_of_it = itertools.permutations(range(size))
    some = tuple(each for each in all_of_it if kind == "s" or _is_even(each))
    if group != "a4xz5":
        return some
    return tuple((*even, *(size + place for place in turn)) for even in some for turn in _turns(5))


def _turns(size: int) -> tuple[Permutation, ...]:
    return tuple(tuple((i + by) % size for i in range(size)) for by in range(size))


def _is_even(permutation: Permutation) -> bool:
    return sum(a > b for a, b in itertools.combinations(permutation, 2)) % 2 == 0


@lru_cache
def products(group: str) -> Int[np.ndarray, "element element"]:
    """The number of p, then q, at [p, q]."""
    elements = members(group)
    number = {each: i for i, each in enumerate(elements)}
    return np.array([[number[tuple(q[i] for i in p)] for q in elements] for p in elements], np.int32)
