"""Any automaton as a recurrent network whose units are full on or full off: RNN, GRU and LSTM, exact at any length.

A unit for each state s and symbol a is 1 where the state was s and a is read, and -1 elsewhere:

    h_t[s, a] = tanh(K ([s_{t-1} = s] + x_t[a] - 3/2))
    [s_{t-1} = s] = the sum of (h_{t-1}[r, b] + 1) / 2 over all r, b that lead to s

What tanh is given is K / 2 or more, or -K / 2 or less; at K = 64 it rounds to 1 and -1, so that what was a little off is exact
again: no error outlives a token. The network starts at h = 0, where no unit is on or off; one more unit, which is 1 from the
first token on, says that it has begun, and before that the state is the start.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform.mixers import GRU, LSTM, AbstractMixer, TanhRNN
from dualform.models import Block, SequenceModel
from dualform.programs.automata.automaton import Automaton

STEEP = 64
"""K: tanh(32) is 1 in every dtype, and 64 has one digit."""

SHUT = 1024
"""What shuts a gate, and opens one: the sigmoid of -1024 is 0 and that of 1024 is 1, in every dtype."""


class Units(NamedTuple):
    """The weights of the units, of a tanh whose outputs are -1 and 1.

    - u (n, symbols), v (n, n), b (n,): what tanh is given.  readout (d_out, n), bias (d_out,).
    """

    u: Float[np.ndarray, "n symbols"]
    v: Float[np.ndarray, "n n"]
    b: Float[np.ndarray, " n"]
    readout: Float[np.ndarray, "d_out n"]
    bias: Float[np.ndarray, " d_out"]


def units_of(automaton: Automaton) -> Units:
    """A unit for each reachable state and symbol, and one that says that it has begun."""
    pairs = [(s, a) for s in np.flatnonzero(automaton.reachable) for a in range(automaton.symbols)]
    n, begun = len(pairs) + 1, len(pairs)
    leads = np.array([automaton.table[s, a] for s, a in pairs])
    u, v, b = np.zeros((n, automaton.symbols)), np.zeros((n, n)), np.zeros(n)
    for i, (s, a) in enumerate(pairs):
        start, entering = float(s == automaton.start), leads == s
        u[i, a] = STEEP
        v[i, :begun][entering] = STEEP / 2
        v[i, begun] = STEEP * (entering.sum() / 2 - start)
        b[i] = STEEP * (start - 1.5)
    b[begun] = STEEP
    outputs = automaton.outputs[leads]
    readout = np.concatenate([outputs, np.zeros((1, automaton.width_out))]).T / 2
    return Units(u, v, b, readout, outputs.sum(axis=0) / 2)


def joined(parts: list[Units]) -> Units:
    """Units of several automata, which do not touch each other."""
    block = lambda name: _diagonal([getattr(part, name) for part in parts])
    stack = lambda name: np.concatenate([getattr(part, name) for part in parts])
    return Units(stack("u"), block("v"), stack("b"), block("readout"), stack("bias"))


def rnn(u: Any, v: Any, b: Any, cast: Callable) -> tuple[TanhRNN, float]:
    """The equation as it stands; and what a unit gives that is on."""
    return TanhRNN(cast(u), cast(v), cast(b)), 1.0


def gru(u: Any, v: Any, b: Any, cast: Callable) -> tuple[GRU, float]:
    """A GRU that keeps nothing, z = 0, and resets nothing, r = 1, so that h = tanh(U x + V h + b)."""
    none, gate = np.zeros_like, lambda value: np.full_like(b, value)
    return GRU(
        u=cast([none(u), none(u), u]),
        v=cast([none(v), none(v), v]),
        b=cast([gate(SHUT), gate(-SHUT), b]),
        b_h=cast(none(b)),
    ), 1.0


def lstm(u: Any, v: Any, b: Any, cast: Callable) -> tuple[LSTM, float]:
    """An LSTM that forgets, f = 0, and lets all in and out, i = o = 1: h = tanh(tanh(...)), which is on at tanh(1)."""
    on, none, gate = float(np.tanh(1)), np.zeros_like, lambda value: np.full_like(b, value)
    return LSTM(
        u=cast([none(u), none(u), u, none(u)]),
        v=cast([none(v), none(v), v / on, none(v)]),
        b=cast([gate(SHUT), gate(-SHUT), b, gate(SHUT)]),
    ), on


CELLS: Mapping[str, Callable[..., tuple[AbstractMixer, float]]] = MappingProxyType(
    {"rnn": rnn, "gru": gru, "lstm": lstm}
)
"""The cells that hold every automaton."""


def saturated(automata: tuple[Automaton, ...], cell: str, dtype: Any) -> SequenceModel:
    """Automata as one residual block of a cell; its first lanes carry the token, its others the units."""
    cast = lambda w: jnp.asarray(np.asarray(w, np.float64), dtype)
    units, symbols = joined([units_of(each) for each in automata]), automata[0].symbols
    n = len(units.b)
    u, v = np.zeros((symbols + n, symbols + n)), np.zeros((symbols + n, symbols + n))
    u[symbols:, :symbols], v[symbols:, symbols:] = units.u, units.v
    mixer, on = CELLS[cell](u, v, np.concatenate([np.zeros(symbols), units.b]), cast)
    embedding, readout = np.eye(symbols + n, symbols), np.zeros((len(units.bias), symbols + n))
    readout[:, symbols:] = units.readout / on
    return SequenceModel(cast(embedding), None, (Block(None, mixer),), cast(readout), cast(units.bias))


def _diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    found = np.zeros(np.sum([block.shape for block in blocks], axis=0))
    at = [0, 0]
    for block in blocks:
        found[at[0] : at[0] + block.shape[0], at[1] : at[1] + block.shape[1]] = block
        at = [at[0] + block.shape[0], at[1] + block.shape[1]]
    return found
