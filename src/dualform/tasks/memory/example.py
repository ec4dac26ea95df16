"""What a memory task gives: a context that is shared, and questions on it, each with its answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dualform.counts import seed_of
from dualform.errors import require


class Question(NamedTuple):
    """One turn.

    - ask: what is asked.  lead: how the answer begins; it is given, so that a small model knows what is wanted.
    - answers: what the score compares with.  answer: what stands in the history when the next question is asked.
    - score: its name, of `scoring.SCORES`.
    """

    ask: str
    lead: str
    answers: tuple[str, ...]
    answer: str
    score: str


class Example(NamedTuple):
    """A context, and the questions on it."""

    context: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Room:
    """How much a context may hold.

    **Arguments:** length: at most so many tokens; count: how many tokens a text has; sentences: what fills the space between
    the facts, in the order of a text; items: how many facts there are (pairs, strings, chains, shots, numbers), the rest
    being filler; None for as many as fit, or as are asked for.

    **Raises:** `InputError` for a length or items below 1, more items than tokens, or no sentences.
    """

    length: int
    count: Callable[[str], int]
    sentences: Sequence[str]
    items: int | None = None

    def __post_init__(self):
        require(self.length >= 1, f"length is {self.length}; a context has at least 1 token.")
        require(self.items is None or self.items >= 1, f"items is {self.items}; give at least 1, or leave it out.")
        require(
            self.items is None or self.items <= self.length,
            f"items is {self.items or 0:,}; a context of {self.length:,} tokens has no place for so many. Give fewer.",
        )
        require(len(self.sentences) >= 1, "there is no sentence to fill a context with; give a text that has some.")

    def fitted(self, build: Callable[[int], str], least: int, most: int) -> tuple[str, int]:
        """The longest build(n), n from `least` to `most`, that has at most `length` tokens; and n.

        **Raises:** `InputError` where even build(least) is too long.
        """
        needed = self.count(build(least))
        require(
            needed <= self.length,
            f"the context has {needed:,} tokens at least, and there is room for {self.length:,}. Give it more length, or "
            "fewer turns or items.",
        )
        low, high = least, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.count(build(middle)) <= self.length else (low, middle - 1)
        return build(low), low

    def scattered(self, facts: Sequence[str], places: Sequence[float], rng: np.random.Generator) -> str:
        """The facts at their places (0 to 1, the order is theirs) among as many sentences as fit.

        **Raises:** `InputError` where not even the facts fit.
        """
        begin = int(rng.integers(len(self.sentences)))
        order = np.argsort(np.asarray(places), kind="stable")

        def build(count: int) -> str:
            lines, slots = [], [int(places[i] * (count + 1)) for i in order]
            for slot in range(count + 1):
                lines += [facts[i] for i, at in zip(order, slots, strict=True) if at == slot]
                lines += [self.sentences[(begin + slot) % len(self.sentences)]] if slot < count else []
            return "\n".join(lines)

        return self.fitted(build, 0, self.length)[0]


Make = Callable[[np.random.Generator, Room, int], Example]


@dataclass(frozen=True)
class MemoryTask:
    """A task by name.

    **Arguments:** make: an example from a generator of random numbers, a room and a number of questions; chance: the score of
    a guess among the answers that the question names; source: the paper.
    """

    name: str
    make: Make
    source: str
    chance: float = 0.0

    def examples(self, count: int, room: Room, turns: int, seed: int = 0) -> list[Example]:
        """Examples: the i-th is of the seed, the task and i alone.

        **Raises:** `InputError` for fewer than 1 example or turn, a room that is too small, or a seed that is none.
        """
        require(count >= 1, f"{count} examples: give at least 1.")
        require(turns >= 1, f"{turns} turns: give at least 1 question.")
        require(
            room.items is None or room.items >= turns,
            f"{self.name} has {room.items} items for {turns} turns; each asks for another. Give more items or fewer turns.",
        )
        require(
            turns <= room.length,
            f"{turns:,} turns: a context of {room.length:,} tokens has no facts for so many. Give fewer, or more length.",
        )
        own = int.from_bytes(self.name.encode(), "little") % 2**32
        return [self.make(np.random.default_rng([seed_of(seed), own, i]), room, turns) for i in range(count)]
