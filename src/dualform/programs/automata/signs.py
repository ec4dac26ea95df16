"""Automata of two states as the sign of a state: Mamba with transitions from -1 to 1.

The state u is 0 at the start and 1 in the other one. A token keeps it, u = u; turns it round, u = -u + 1; or sets it, u = 0 u + 0
or 0 u + 1. With (2 exp(delta A) - 1) as the factor and A = -1 that is delta = 0, delta = 1024, and delta = log 2, where exp is
1/2.

A recurrence whose matrix is diagonal, whatever the token makes of its entries, multiplies each state by numbers: what two tokens
do does not depend on their order but by what they write. Two states are what one such layer tells apart exactly; permutations of
three need two matrices that do not commute.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dualform.errors import require
from dualform.mixers import Mamba
from dualform.models import Block, SequenceModel
from dualform.programs.automata.automaton import Automaton

LARGE = 1024.0
"""What softplus gives back as it is, and exp of its negative as 0."""


def mamba(automata: tuple[Automaton, ...], dtype: Any) -> SequenceModel:
    """Automata of two states as one residual block of a `Mamba` with transitions from -1 to 1.

    A channel for each symbol, which is `LARGE` where it is read, so that its silu is itself; and one for each automaton, whose
    only state is u, times `LARGE`. The first lanes carry the token, the others the states.

    **Raises:** `InputError` for more than two states.
    """
    for each in automata:
        require(
            int(each.reachable.sum()) <= 2,
            f"{each.name} has {int(each.reachable.sum())} states. The transitions of Mamba are numbers, one for each state and "
            "token, and numbers commute, so that one layer holds automata of two states. Compile it to rnn, gru, lstm or delta.",
        )
    cast = lambda w: jnp.asarray(np.asarray(w, np.float64), dtype)
    symbols, n = automata[0].symbols, len(automata)
    channels = d = symbols + n
    moves = [_moves(each) for each in automata]
    w_u, w_z, w_2 = np.zeros((channels, d)), np.zeros((channels, d)), np.zeros((channels, symbols))
    w_u[:symbols, :symbols] = LARGE * np.eye(symbols)
    w_u[symbols:, :symbols] = LARGE * np.stack([written for _, written in moves])
    w_z[symbols:, :symbols] = LARGE
    w_2[symbols:] = np.stack([steps for steps, _ in moves])
    # One of the symbols' channels is LARGE, whichever: their sum is a constant.
    constant = np.pad(np.ones((1, symbols)), ((0, 0), (0, n))) / LARGE
    w_o = np.zeros((d, channels))
    w_o[symbols:, symbols:] = np.eye(n) / LARGE**2
    mixer = Mamba(
        w_u=cast(w_u),
        w_z=cast(w_z),
        kernel=cast(np.ones((1, channels))),
        bias=cast(np.zeros(channels)),
        w_b=cast(constant / LARGE),
        w_c=cast(constant),
        w_1=cast(np.eye(symbols, channels) / LARGE),
        w_2=cast(w_2),
        b_delta=cast(np.full(channels, -LARGE)),
        a_log=cast(np.zeros((channels, 1))),
        skip=cast(np.zeros(channels)),
        w_o=cast(w_o),
        negative=True,
    )
    bias = np.concatenate([each.outputs[each.start] for each in automata])
    readout, row = np.zeros((len(bias), d)), 0
    for i, each in enumerate(automata):
        readout[row : row + each.width_out, symbols + i] = each.outputs[_other(each)] - each.outputs[each.start]
        row += each.width_out
    return SequenceModel(cast(np.eye(d, symbols)), None, (Block(None, mixer),), cast(readout), cast(bias))


def _other(automaton: Automaton) -> int:
    """The state that is not the start; the start, where there is none."""
    return next((int(p) for p in np.flatnonzero(automaton.reachable) if p != automaton.start), automaton.start)


def _moves(automaton: Automaton) -> tuple[np.ndarray, np.ndarray]:
    """For each symbol what softplus makes a step of, less -`LARGE`, and what is written, in units of `LARGE`."""
    start, other, steps, written = automaton.start, _other(automaton), [], []
    for first, second in zip(automaton.table[start], automaton.table[other], strict=True):
        if first == second:  # softplus(0) is log 2
            steps.append(LARGE)
            written.append(float(first == other != start) * LARGE / np.log(2))
        else:
            steps.append(2 * LARGE if first == other else 0.0)
            written.append(float(first == other))
    return np.array(steps), np.array(written)
