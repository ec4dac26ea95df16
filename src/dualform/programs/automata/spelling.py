"""Permutations spelled in swaps, so that a delta rule of one reflection a token can read them letter by letter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.errors import InputError, require
from dualform.programs.automata.automaton import Automata, Automaton, side_by_side
from dualform.programs.automata.reflections import action


@dataclass(frozen=True)
class Spelling:
    """Automata over letters, and the word of each symbol; all words are of one length.

    - automata: what reads the letters: swaps of two states, resets, and the letter that keeps all.
    - words: for each symbol its letters.
    """

    automata: tuple[Automaton, ...]
    words: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Letters of a word."""
        return len(self.words[0])

    def written(self, inputs: Any) -> Float[np.ndarray, "*batch letters_time letters"]:
        """Tokens as letters, (*batch, time, symbols) -> (*batch, length * time, letters), one-hot both."""
        symbols = np.asarray(inputs).argmax(axis=-1)
        letters = np.asarray(self.words)[symbols]
        return self.automata[0].one_hot(letters.reshape(*symbols.shape[:-1], -1))

    def read(self, outputs: Any) -> Any:
        """The outputs at the last letter of each word, (*batch, length * time, d_out) -> (*batch, time, d_out)."""
        return outputs[..., self.length - 1 :: self.length, :]


def spelled(automata: Automata) -> Spelling:
    """Automata of permutations and resets over letters that are swaps with one state, the hub, or reset to a state.

    A circle h -> c_1 -> ... -> c_m -> h through the hub h is the swaps (h c_1), (h c_2), ..., (h c_m), one after the other; one
    that the hub is not on, c_1 -> ... -> c_m -> c_1, those and (h c_1) once more. The hub is the first automaton's start.

    **Raises:** `InputError` for a symbol that is neither a permutation nor leads all states to one, and for automata side by side
    whose tables differ.
    """
    automata = side_by_side(automata)
    first = automata[0]
    require(
        all(np.array_equal(each.table, first.table) for each in automata),
        "automata side by side are spelled in the same letters, so that their tables have to be the same.",
    )
    if not all(np.array_equal(each.reachable, first.reachable) for each in automata):
        raise InputError(
            "automata side by side are spelled in the same letters, so that they have to reach the same states."
        )
    spelt = [_word(first, symbol) for symbol in range(first.symbols)]
    length = max(1, *(len(word) for word in spelt))
    letters = {(): 0} | {letter: 1 + i for i, letter in enumerate(sorted({each for word in spelt for each in word}))}
    columns = [_column(letter, first) for letter in letters]
    over = [Automaton(np.stack(columns, axis=1), each.start, each.outputs, each.name, each.what) for each in automata]
    words = tuple(tuple(letters[each] for each in word) + (0,) * (length - len(word)) for word in spelt)
    return Spelling(tuple(over), words)


def _word(automaton: Automaton, symbol: int) -> Sequence[tuple[int, ...]]:
    """Swaps as (hub, other), a reset as (state,)."""
    known = action(automaton, symbol)
    if known is not None and known.kind == "reset":
        return [known.states]
    to, hub = automaton.table[:, symbol], automaton.start
    reached = np.flatnonzero(automaton.reachable).tolist()
    require(
        sorted(to[reached].tolist()) == reached,
        f"{automaton.name}: symbol {symbol} leads states {reached[:12]} to {to[reached][:12].tolist()}, which is no permutation, "
        "and not all to one state; only these are spelled in swaps and resets. rnn, gru and lstm hold every automaton.",
    )
    found, seen = [], set()
    for begin in [hub, *reached]:
        circle, state = [], begin
        while state not in seen:
            seen.add(state)
            circle.append(int(state))
            state = to[state]
        if len(circle) > 1:
            found += [(hub, other) for other in (circle[1:] if begin == hub else [*circle, circle[0]])]
    return found


def _column(letter: tuple[int, ...], automaton: Automaton) -> np.ndarray:
    """Where a letter leads each state."""
    to = np.arange(automaton.states)
    if len(letter) == 2:
        to[list(letter)] = letter[::-1]
    return np.full(automaton.states, letter[0]) if len(letter) == 1 else to
