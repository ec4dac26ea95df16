"""Earlier states of one text, as many as a number of bytes allows: the nearer to the end, the closer together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dualform.arrays import State


class Mark(NamedTuple):
    """Where a text was, or several: how many tokens were read (text,), by how many calls, the state, and the logits."""

    place: Any
    calls: int
    state: State
    logits: Any

    @property
    def nbytes(self) -> int:
        """How many bytes its arrays take."""
        return bytes_of((self.state, self.logits))


class History:
    """Marks in order of their places, of `budget` bytes together at most.

    Where they would be more, that one goes which leaves the least gap, as a share of the way back to it; so a way back is re-read
    from a mark at most a constant share of it away, for as long as the budget holds a handful.
    """

    def __init__(self, budget: int, marks: tuple[Mark, ...] = ()):
        self.budget = budget
        self.marks = list(marks)

    def add(self, mark: Mark) -> None:
        """Keep a mark behind all others."""
        self.marks.append(mark)
        while self.marks and sum(each.nbytes for each in self.marks) > self.budget:
            del self.marks[_least_missed([int(np.max(each.place)) for each in self.marks])]

    def keep(self, right: Callable[[Mark], bool]) -> None:
        """Forget the marks of which `right` is not true."""
        self.marks = [each for each in self.marks if right(each)]

    def back_to(self, place: Any) -> Mark | None:
        """The last mark that is not behind `place`; those behind are forgotten."""
        self.keep(lambda mark: bool(np.all(mark.place <= place)))
        return self.marks[-1] if self.marks else None

    @property
    def last(self) -> int:
        """The place of the last mark in the longest text; 0 where there is none."""
        return int(np.max(self.marks[-1].place)) if self.marks else 0

    def copy(self) -> "History":
        """Another history of the same marks."""
        return History(self.budget, tuple(self.marks))


def _least_missed(places: list[int]) -> int:
    """Which of these places leaves the least gap behind, as a share of the way back to where the gap begins; not the last."""
    if len(places) == 1:
        return 0
    ends, now = [0, *places], places[-1]
    gaps = [(after - before) / (now - before) for before, after in zip(ends, ends[2:], strict=False)]
    return gaps.index(min(gaps))


def bytes_of(tree: Any) -> int:
    """How many bytes the arrays of a tree take."""
    return sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(tree))
