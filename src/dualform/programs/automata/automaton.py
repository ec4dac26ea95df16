"""Finite automata: what is remembered is one of finitely many states, and every token says where each of them leads."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from dualform.errors import require


@dataclass(frozen=True, eq=False)
class Automaton:
    """s_t = table[s_{t-1}][x_t],  y_t = outputs[s_t], from a start state; x_t one of finitely many symbols.

        >>> from dualform.programs.automata import Automaton
        >>> parity = Automaton([[0, 1], [1, 0]], outputs=[[0], [1]])
        >>> parity.interpret(parity.one_hot([1, 0, 1, 1]))[:, 0].tolist()
        [1.0, 1.0, 0.0, 1.0]

    A token is a symbol, one-hot. Automata that read the same tokens side by side are a sequence of them, `Automata`: their
    outputs stand one behind the other.

    **Arguments:** table: (states, symbols), whole numbers below the number of states.  start: the state before the first token.
    outputs: (states, d_out); the state, one-hot, if not given.  name, what: its name, and what it does, in a sentence.

    **Raises:** `InputError` for a table that is none.
    """

    table: Any
    start: int = 0
    outputs: Any = None
    name: str = "automaton"
    what: str = ""

    def __post_init__(self):
        table = as_array(self.table)
        require(
            table is not None and table.ndim == 2 and table.size > 0 and bool(np.issubdtype(table.dtype, np.integer)),
            f"a table has a row of whole numbers for each state, and a column for each symbol; got {self.table!r}.",
        )
        assert table is not None
        states = len(table)
        wrong = table[(table < 0) | (table >= states)]
        require(not len(wrong), f"the table of {states} states leads to state {wrong[:1]}; states count from 0.")
        require(0 <= self.start < states, f"it starts in state {self.start}; there are {states} states, from 0.")
        outputs = np.eye(states) if self.outputs is None else as_array(self.outputs, np.float64)
        require(
            outputs is not None and outputs.ndim == 2 and len(outputs) == states and outputs.size > 0,
            f"outputs must be ({states}, d_out), numbers of each state; got {self.outputs!r}.",
        )
        assert outputs is not None
        require(bool(np.all(np.isfinite(outputs))), f"outputs are finite numbers; got {printed(outputs)}.")
        object.__setattr__(self, "table", table.astype(np.int64))
        object.__setattr__(self, "outputs", outputs)

    @classmethod
    def accepting(cls, table: Any, accept: Collection[int], start: int = 0, **named: str) -> "Automaton":
        """An automaton that gives 1 in some states, and 0 in all others."""
        states = len(table)
        wrong = [state for state in accept if not 0 <= state < states]
        require(not wrong, f"state {wrong[:1]} is to be accepted; there are {states} states, from 0.")
        return cls(table, start, [[float(state in accept)] for state in range(states)], **named)

    @property
    def states(self) -> int:
        """How many states there are."""
        return len(self.table)

    @property
    def symbols(self) -> int:
        """How many symbols: the width of a token."""
        return self.table.shape[1]

    @property
    def width_out(self) -> int:
        """Width of an output."""
        return self.outputs.shape[1]

    @cached_property
    def reachable(self) -> Bool[np.ndarray, " states"]:
        """Which states some sequence of tokens leads to, the start with them."""
        found, waiting = np.zeros(self.states, bool), [self.start]
        while waiting:
            state = waiting.pop()
            if not found[state]:
                found[state] = True
                waiting += self.table[state].tolist()
        return found

    def one_hot(self, symbols: Sequence[int] | np.ndarray) -> Float[np.ndarray, "*batch time symbols"]:
        """Symbols as tokens.

        **Raises:** `InputError` for a number that is no symbol.
        """
        found = np.asarray(symbols)
        require(
            bool(np.issubdtype(found.dtype, np.integer) and np.all((found >= 0) & (found < self.symbols))),
            f"symbols are whole numbers from 0 to {self.symbols - 1}; got {printed(found)}.",
        )
        return np.eye(self.symbols)[found]

    def read(self, symbols: Int[np.ndarray, "*batch time"]) -> Int[np.ndarray, "*batch time"]:
        """The state after each symbol."""
        state = np.full(symbols.shape[:-1], self.start)
        found = np.zeros(symbols.shape, np.int64)
        for t in range(symbols.shape[-1]):
            state = self.table[state, symbols[..., t]]
            found[..., t] = state
        return found

    def interpret(self, inputs: Any) -> Float[np.ndarray, "*batch time d_out"]:
        """What it gives at each token, by looking up: the specification.

        **Arguments:** inputs: (time, symbols) or (batch, time, symbols), one-hot.

        **Raises:** `InputError` for tokens that are not one-hot.
        """
        x = np.asarray(inputs, np.float64)
        require(
            x.ndim in (2, 3) and x.shape[-1] == self.symbols,
            f"{self.name} takes tokens of {self.symbols} numbers, one for each symbol; got an array of shape {x.shape}.",
        )
        right = ((x == 0) | (x == 1)).all(axis=-1) & (x.sum(axis=-1) == 1)
        require(bool(right.all()), f"tokens of {self.name} are one-hot; got {printed(x[~right][:1])}.")
        return self.outputs[self.read(x.argmax(axis=-1))]


Automata: TypeAlias = Automaton | Sequence[Automaton]
"""An automaton, or several that read the same tokens."""


def side_by_side(automata: Automata) -> tuple[Automaton, ...]:
    """One, or several automata as a tuple of them.

    **Raises:** `InputError` where there is none, or their symbols are not as many.
    """
    found = (automata,) if isinstance(automata, Automaton) else tuple(automata)
    require(bool(found), "give an automaton, or several.")
    symbols = sorted({each.symbols for each in found})
    require(len(symbols) == 1, f"automata side by side read the same symbols; these have {symbols} of them.")
    return found


def interpret(automata: Automata, inputs: Any) -> Float[np.ndarray, "*batch time d_out"]:
    """What automata give side by side, outputs one behind the other; see `Automaton.interpret`."""
    return np.concatenate([each.interpret(inputs) for each in side_by_side(automata)], axis=-1)


def as_array(given: Any, dtype: Any = None) -> np.ndarray | None:
    """As an array; None for what is none."""
    try:
        return np.asarray(given, dtype)
    except (TypeError, ValueError):
        return None


def printed(numbers: np.ndarray) -> str:
    """The first few of some numbers."""
    return np.array2string(numbers.ravel(), threshold=8, edgeitems=3)
