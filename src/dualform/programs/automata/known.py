"""Automata that the literature measures networks with: parity, cycles, flip-flops, and the word problems of groups."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from dualform.errors import require
from dualform.programs.automata.automaton import Automaton
from dualform.tasks.state_tracking import GROUPS, members


def parity() -> Automaton:
    """Symbols 0 and 1; 1 where the number of ones is odd."""
    return Automaton.accepting([[0, 1], [1, 0]], [1], name="parity", what="1 where the number of ones is odd.")


def even_pairs() -> Automaton:
    """Symbols 0 and 1; 1 where the first and the last one are the same, which is where 01 and 10 stand an even number of times.

    **Source:** Deletang et al. 2022 (arXiv 2207.02098), Table 1.
    """
    # Nothing yet; the first symbol a and the last one b, at 1 + 2 a + b.
    table = [[1, 4], *([1 + 2 * a, 2 + 2 * a] for a in (0, 1) for _ in (0, 1))]
    what = "1 where the first and the last symbol are the same."
    return Automaton.accepting(table, [0, 1, 4], name="even pairs", what=what)


def cycle_navigation(n: int = 5) -> Automaton:
    """A place on a circle of n; symbols 0, 1, 2 stay, go one place on, and one back.

    **Source:** Deletang et al. 2022 (arXiv 2207.02098), Table 1.
    """
    require(n >= 1, f"n is {n}; a circle has at least 1 place.")
    table = [[p, (p + 1) % n, (p - 1) % n] for p in range(n)]
    return Automaton(table, name="cycle navigation", what=f"Where one is on a circle of {n} places, one-hot.")


def remainder(n: int = 3, symbols: int = 2) -> Automaton:
    """How often the last symbol was read, modulo n, one-hot."""
    require(n >= 1 and symbols >= 1, f"n is {n}, and symbols {symbols}; both must be at least 1.")
    table = [[p] * (symbols - 1) + [(p + 1) % n] for p in range(n)]
    return Automaton(table, name="remainder", what=f"How often symbol {symbols - 1} was read, modulo {n}, one-hot.")


def clock(n: int = 5, symbols: int = 2) -> Automaton:
    """How many tokens were read, modulo n, one-hot, whatever they are."""
    require(n >= 1 and symbols >= 1, f"n is {n}, and symbols {symbols}; both must be at least 1.")
    table = [[(p + 1) % n] * symbols for p in range(n)]
    return Automaton(table, name="clock", what=f"How many tokens were read, modulo {n}, one-hot.")


def flip_flop(values: int = 2) -> Automaton:
    """Symbol 0 keeps what is held, symbols 1, 2, ... set it to 0, 1, ...; gives what is held, one-hot.

    **Source:** Liu et al. 2023 (arXiv 2306.00946).
    """
    require(values >= 1, f"values is {values}; it must be at least 1.")
    table = [[p, *range(values)] for p in range(values)]
    return Automaton(table, name="flip-flop", what="What was set last, one-hot.")


def word_problem(group: str = "s3", elements: str = "all") -> tuple[Automaton, ...]:
    """The product of all elements of a group that were read so far, as a permutation: for each thing, its place, one-hot.

    **Arguments:** group: one of `tasks.state_tracking.GROUPS`; elements: "all" of it, or "swaps" of two things. Symbols are
    elements in the order of `members(group)`; of swaps, those that are swaps.

    **Raises:** `InputError` for another group, other elements, and where there are no swaps.

    **Source:** Merrill, Petty and Sabharwal 2024 (arXiv 2404.08819).
    """
    require(group in GROUPS, f"there is no group {group!r}; there are {', '.join(GROUPS)}.")
    require(elements in ("all", "swaps"), f"elements is {elements!r}; it must be 'all' of the group, or 'swaps'.")
    moved = lambda each: sum(place != i for i, place in enumerate(each))
    drawn = [each for each in members(group) if elements == "all" or moved(each) == 2]
    require(bool(drawn), f"no element of {group} swaps two things and keeps the others.")
    table = np.array(drawn).T
    what = "Where {} is, one-hot."
    return tuple(Automaton(table, i, name=f"{group} by {elements}", what=what.format(i)) for i in range(len(table)))


KNOWN: Mapping[str, Callable[..., Automaton | tuple[Automaton, ...]]] = MappingProxyType(
    {
        "parity": parity,
        "even_pairs": even_pairs,
        "cycle_navigation": cycle_navigation,
        "remainder": remainder,
        "clock": clock,
        "flip_flop": flip_flop,
        "word_problem": word_problem,
    }
)
"""Automata of the literature by name."""
