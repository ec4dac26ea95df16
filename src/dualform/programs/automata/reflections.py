"""Automata as reflections in a delta rule with beta up to 2: exact at any length, in any arithmetic.

I - 2 k k^T with |k| = 1 is a reflection. A state p is the vector f_p that is 1 at two entries of its own, and 0 elsewhere; with
k = (f_i - f_j) / 2, whose four entries are 1/2 and -1/2, the reflection swaps f_i and f_j and leaves all others, and nothing in
it is ever rounded. The memory holds f_start - f_p, which is 0 before the first token, as a memory is; so a swap that moves the
start also writes, S = (I - 2 k k^T) S + 2 k v, which the rule does by itself. Beside swaps, with a decay of 0, a token leads all
states to one.

Keys are silu of what the token gives them: never below -0.28, and of full length only where they are large, so that none of their
entries may be negative. Turning every second axis round, f_p to -f_p, makes them all positive where the swaps lead from one side
to the other, such as swaps with one state. Three swaps in a triangle cannot be made so: of three keys at 60 degrees, two have a
negative product.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dualform.errors import InputError
from dualform.mixers import DeltaRule
from dualform.models import Block, SequenceModel
from dualform.programs.automata.automaton import Automaton

LONG = 2.0**20
"""What a key, a query and a value are before they are scaled: 1e-6 and 1e-5, which norms add to their squares, are nothing beside
it, its silu is itself, and it has one digit."""

SHUT = 1024.0
"""What shuts a gate: the sigmoid and the softplus of -1024 are 0, the sigmoid of 1024 is 1."""


class Action(NamedTuple):
    """What a symbol does to the states.

    - kind: "keep", "swap" of two states, or "reset" to one.  states: the two, or the one.
    """

    kind: str
    states: tuple[int, ...] = ()


def action(automaton: Automaton, symbol: int) -> Action | None:
    """What a symbol does to the states that are reached; None where it is none of the three."""
    reached = np.flatnonzero(automaton.reachable)
    to = automaton.table[reached, symbol]
    moved = reached[to != reached]
    if not len(moved):
        return Action("keep")
    if (
        len(moved) == 2
        and automaton.table[moved[0], symbol] == moved[1]
        and automaton.table[moved[1], symbol] == moved[0]
    ):
        return Action("swap", (int(moved[0]), int(moved[1])))
    return Action("reset", (int(to[0]),)) if len(set(to)) == 1 else None


def actions_of(automaton: Automaton) -> list[Action]:
    """What every symbol does.

    **Raises:** `InputError` for a symbol of which a token cannot be one reflection or one reset.
    """
    found = []
    for symbol in range(automaton.symbols):
        each = action(automaton, symbol)
        if each is None:
            to = automaton.table[:, symbol]
            known = ", but several swaps: see `spelled`" if len(set(to)) == automaton.states else ""
            raise InputError(
                f"{automaton.name}: symbol {symbol} leads states 0, 1, ... to {', '.join(str(p) for p in to[:12])}. A token of "
                "a delta rule is one reflection, which swaps two states and keeps the others, or forgets all and writes one; "
                f"this is neither{known}. rnn, gru and lstm hold every automaton."
            )
        found.append(each)
    return found


def sides_of(automaton: Automaton, actions: Sequence[Action]) -> Int[np.ndarray, " states"]:
    """1 or -1 for each state, so that every swap, and every reset from the start, leads from one side to the other.

    **Raises:** `InputError` where there are none.
    """
    edges = [each.states for each in actions if each.kind == "swap"]
    edges += [(automaton.start, each.states[0]) for each in actions if each.kind == "reset"]
    beside: dict[int, set[int]] = {}
    for i, j in edges:
        if i != j:
            beside.setdefault(i, set()).add(j)
            beside.setdefault(j, set()).add(i)
    sides = np.zeros(automaton.states, int)
    for first in [automaton.start, *beside]:
        if sides[first]:
            continue
        sides[first], waiting = 1, [first]
        while waiting:
            state = waiting.pop()
            for other in beside.get(state, ()):
                if sides[other] == sides[state]:
                    raise InputError(
                        f"{automaton.name}: the swap of states {state} and {other} closes an odd circle of swaps. The keys of "
                        "this delta rule are silu of something, and hardly negative; of those round an odd circle some "
                        "key has negative entries. Spell the symbols in swaps with one state, see `spelled`."
                    )
                if not sides[other]:
                    sides[other] = -sides[state]
                    waiting.append(other)
    return np.where(sides == 0, 1, sides)


class Head(NamedTuple):
    """What a head reads, and what it is worth.

    - key (d_k, symbols), query (d_k,), value, beta, decay (symbols,): beta and decay as shut or open.
    - worth (d_out,): what is added to the output where the head reads 1.
    """

    key: Float[np.ndarray, "d_k symbols"]
    query: Float[np.ndarray, " d_k"]
    value: Float[np.ndarray, " symbols"]
    beta: Float[np.ndarray, " symbols"]
    decay: Float[np.ndarray, " symbols"]
    worth: Float[np.ndarray, " d_out"]


def heads_of(automaton: Automaton) -> list[Head]:
    """A head for each output other than the start's, and each side on which there are states that have it.

    All heads of an automaton remember the same; the query chooses some states, and reads 1 or -1 in these, 0 in all others.
    """
    actions = actions_of(automaton)
    sides = sides_of(automaton, actions)
    states, start, symbols = automaton.states, automaton.start, automaton.symbols
    d_k = axes(states)
    key, value = np.zeros((d_k, symbols)), np.zeros(symbols)
    beta, decay = np.full(symbols, -SHUT), np.zeros(symbols)
    for symbol, each in enumerate(actions):
        ends = each.states if each.kind == "swap" else (start, *each.states)
        if each.kind == "reset":
            decay[symbol] = 1
        if each.kind == "keep" or len(set(ends)) == 1:
            continue  # nothing is written
        key[[entry for end in ends for entry in entries(end, start, states)], symbol] = LONG
        beta[symbol] = SHUT
        value[symbol] = LONG if start in ends else 0
    found = []
    others = [p for p in np.flatnonzero(automaton.reachable) if p != start]
    worth = automaton.outputs - automaton.outputs[start]
    chosen: dict[tuple[bytes, int], list[int]] = {}
    for p in others:
        if np.any(worth[p]):
            chosen.setdefault((worth[p].tobytes(), int(sides[p])), []).append(int(p))
    for (_, side), members in chosen.items():
        query = np.zeros(d_k)
        query[[entries(p, start, states)[0] for p in members]] = LONG
        # The memory is the start less the state, so that a state of the start's own side reads -1.
        found.append(Head(key, query, value, beta, decay, -side * worth[members[0]]))
    return found


def axes(states: int) -> int:
    """How many entries states need, a power of 4: then the scale of a query or key of 1 or 4 entries is a power of 2."""
    if states <= 2:
        return 1
    d_k = 4
    while d_k < 2 * states:
        d_k *= 4
    return d_k


def entries(state: int, start: int, states: int) -> tuple[int, ...]:
    """Where a state's two entries are; of two states, the one entry that says which of them it is."""
    if states > 2:
        return (2 * state, 2 * state + 1)
    return () if state == start else (0,)


def delta(automata: tuple[Automaton, ...], dtype: Any) -> SequenceModel:
    """Automata as one residual block of a `DeltaRule` with beta up to 2; its first lanes carry the token, its others the heads.

    **Raises:** `InputError` for symbols that are no swap of two states, no reset, and keep not all; and where keys would have to
    be negative.
    """
    cast = lambda w: jnp.asarray(np.asarray(w, np.float64), dtype)
    parts = [heads_of(each) for each in automata]
    symbols, heads = automata[0].symbols, [head for part in parts for head in part]
    bias = np.concatenate([each.outputs[each.start] for each in automata])
    if not heads:  # the outputs are the start's in all states: a head that reads nothing
        zero = np.zeros(symbols)
        heads = [Head(np.zeros((1, symbols)), np.zeros(1), zero, zero - SHUT, zero, np.zeros(automata[0].width_out))]
        parts = [heads, *parts[1:]]
    d_k, n, d = max(len(head.key) for head in heads), len(heads), symbols + len(heads)
    wide = lambda rows: np.pad(rows, ((0, d_k - len(rows)), (0, n)))
    kernel = lambda columns: cast(np.concatenate([np.zeros((1, columns)), np.ones((1, columns))]))
    of_token = lambda rows: cast(np.pad(np.stack(rows), ((0, 0), (0, n))))
    forgets = any(head.decay.any() for head in heads)
    w_o = np.zeros((d, n))
    w_o[symbols:] = np.eye(n)
    mixer = DeltaRule(
        w_q=cast([wide(np.repeat(head.query[:, None], symbols, axis=1)) for head in heads]),
        w_k=cast([wide(head.key) for head in heads]),
        w_v=of_token([head.value for head in heads])[:, None],
        c_q=kernel(n * d_k),
        c_k=kernel(n * d_k),
        c_v=kernel(n),
        w_b=of_token([head.beta for head in heads]),
        norm=cast(np.ones(1)),
        w_o=cast(w_o),
        w_a=of_token([2 * SHUT * head.decay for head in heads]) if forgets else None,
        a_log=cast(np.zeros(n)) if forgets else None,
        a_bias=cast(np.full(n, -SHUT)) if forgets else None,
        negative=True,
    )
    readout, row, column = np.zeros((len(bias), d)), 0, symbols
    for automaton, part in zip(automata, parts, strict=True):
        for head in part:
            readout[row : row + automaton.width_out, column] = head.worth
            column += 1
        row += automaton.width_out
    return SequenceModel(cast(np.eye(d, symbols)), None, (Block(None, mixer),), cast(readout), cast(bias))
