"""The same network, arranged so that a reader sees the structure: blocks of units, and one scale for all.

Nothing here changes the function: units are permuted, the two factors of each product are swapped and rescaled against
each other, and each unit's scale is moved to its readers.
"""

import jax
import numpy as np
from jaxtyping import Float

from dualform.discover.decays import split_decays
from dualform.discover.units import keep_units
from dualform.mixers import GatedRNN


def arrange(rnn: GatedRNN) -> GatedRNN:
    """Units at 1 first, then those at 0, then all others; pre-readout units in the order of the memory that they read.

    In the input gates, W_x holds the factor that is nearer to the constant 1 (a query passes as (w x) * 1). In the
    output gates, W_m holds the factor that reads the units at 1, W_x the one that reads the others. Rows of the gates
    have unit norm; the scales stand in the readout.

    **Returns:** a network with the same outputs, to rounding, in float64 arrays where those are enabled.
    """
    split = split_decays(rnn)
    order = np.concatenate([split.memory, split.forget, split.between])
    rnn = keep_units(rnn, hidden=order)
    memory = np.arange(len(order)) < len(split.memory)
    a, b = (np.asarray(w, np.float64) for w in (rnn.w_m_in, rnn.w_x_in))
    u, w = (np.asarray(w, np.float64) for w in (rnn.w_m_out, rnn.w_x_out))
    readout = np.asarray(rnn.readout, np.float64)

    constant = lambda rows: rows[:, -1] ** 2 / np.maximum(np.sum(rows**2, axis=1), 1e-300)
    a, b = _swapped(a, b, constant(a) > constant(b))
    a, b, scale = _unit_rows(a, b)
    u, w = u * scale[None], w * scale[None]
    remembered = lambda rows: np.sum(rows[:, memory] ** 2, axis=1) / np.maximum(np.sum(rows**2, axis=1), 1e-300)
    u, w = _swapped(u, w, remembered(w) > remembered(u))
    u, w, scale = _unit_rows(u, w)
    readout = readout * scale[None]

    by_memory = np.argsort(np.argmax(np.abs(u), axis=1), kind="stable") if u.size else np.arange(len(u))
    with jax.enable_x64(True):
        return GatedRNN(
            w_m_in=a,
            w_x_in=b,
            w_m_out=u[by_memory],
            w_x_out=w[by_memory],
            readout=readout[:, by_memory],
            nu=rnn.nu,
            decay=rnn.given_decay,
        )


def _swapped(a, b, where):
    """Rows of a and b exchanged where told."""
    where = where[:, None]
    return np.where(where, b, a), np.where(where, a, b)


def _unit_rows(
    a: Float[np.ndarray, "rows columns"], b: Float[np.ndarray, "rows columns"]
) -> tuple[Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows columns"], Float[np.ndarray, " rows"]]:
    """Rows of unit norm whose largest entry is positive, and the product of the scales taken out of each pair."""

    def unit(rows):
        if rows.size == 0:
            return rows, np.ones(len(rows))
        largest = np.take_along_axis(rows, np.argmax(np.abs(rows), axis=1)[:, None], axis=1)
        scale = np.linalg.norm(rows, axis=1, keepdims=True) * np.where(largest < 0, -1.0, 1.0)
        scale = np.where(scale == 0, 1.0, scale)
        return rows / scale, scale[:, 0]

    a, s = unit(a)
    b, r = unit(b)
    return a, b, s * r
