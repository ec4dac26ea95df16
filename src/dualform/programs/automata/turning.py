"""Automata whose states go on by themselves, whatever is read, as programs: what a linear recurrence holds of automata.

The matrix of a linear state is the same at every token. One-hot states that every symbol leads on in the same way are such a
state, s_t = A s_{t-1} with A the table; a cycle of n places is a rotation, and its eigenvalues lie on the unit circle. What one
symbol does and another one does not is a matrix that depends on the token, and no linear state.
"""

from fractions import Fraction

import numpy as np

from dualform.errors import require
from dualform.programs.automata.automaton import Automaton, side_by_side
from dualform.programs.program import Program
from dualform.programs.values import Input, Linear, Register, Value, concat


def as_program(automata: Automaton | tuple[Automaton, ...]) -> Program:
    """Automata that go on in the same way whatever is read, as a program.

    **Raises:** `InputError` where a symbol leads elsewhere than another one.
    """
    automata = side_by_side(automata)
    x = Input(automata[0].symbols)
    outputs = [_states(each) for each in automata]
    name = " and ".join(dict.fromkeys(each.name for each in automata))

    def draw(random: np.random.Generator, time: int) -> np.ndarray:
        return automata[0].one_hot(random.integers(0, automata[0].symbols, time))

    return Program(
        concat(*outputs) + 0 * x[0],
        name,
        " ".join(each.what for each in automata),
        draw,
        lambda x: np.concatenate([each.interpret(x) for each in automata], axis=-1),
    )


def _states(automaton: Automaton) -> Value:
    table, reached = automaton.table, np.flatnonzero(automaton.reachable)
    other = [symbol for symbol in range(automaton.symbols) if np.any(table[reached, symbol] != table[reached, 0])]
    require(
        not other,
        f"{automaton.name}: symbol {''.join(map(str, other[:1]))} leads elsewhere than symbol 0. The state of a linear "
        "recurrence is multiplied by one matrix, the same at every token, so that it holds automata whose states go on by "
        "themselves. Compile it to rnn, gru, lstm, delta or mamba, whose tokens choose what is done to the state.",
    )
    places = {int(p): i for i, p in enumerate(reached)}
    state = Register(len(reached), [int(p == automaton.start) for p in reached], name=automaton.name)
    came: list[dict[int, Fraction]] = [{} for _ in reached]
    for p in reached:
        came[places[int(table[p, 0])]][places[int(p)]] = Fraction(1)
    return Linear(state.becomes(Linear(state, came)), automaton.outputs[reached].T.tolist())
