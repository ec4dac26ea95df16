"""Table 4 of Zucchet et al. 2023: the LSTM's weights, as printed and as they are really used.

The printed table ignores every nonlinearity but the forget gate's sigmoid. Run so, in float64, its left half is a linear
attention to rounding. What it leaves open or gets wrong is said in `REMARKS`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.random as jr
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from dualform.construct.certificate import difference
from dualform.construct.gated_weights import checked_target, exact_outputs, gated_weights
from dualform.construct.into_lstm import key_values, lstm
from dualform.construct.scale import random_tokens, stack_error
from dualform.mixers import LSTM, GatedRNN, LinearAttention

REMARKS = (
    "W~_V, W~_K and W~_Q are rows repeated as in Fig. 1: unit (i, j) reads v_i, k_j and q_j, d^2 units for a square head. "
    "The table has no decoder: the sum over j of the units (i, j), and w_o where there is one.",
    "On the right, o has U = V = 0 and b = +infinity, and 'the activation functions in c, g and o are linear': a linear o "
    "would then be infinite, and so every output. Its sigmoid must stay, which makes it 1 (or a linear o needs b = 1).",
    "tanh(c_t) must be linear too, though the caption does not name it. It sees the sum over all tokens, so how small U_c "
    "must be depends on the length of the sequence.",
    "On the right, layer 1 has d + 1 columns and reads (x, 1), as the gated RNN does; without the 1, the last column is the "
    "bias of c and g, which the table prints as 0. Layer 2 reads the cells alone, without a 1.",
    "A sigmoid is linear only about a bias and after a twin unit is subtracted: with real activations every gated product "
    "takes two units on the right and, the input gate and the output gate being both linearised, four on the left.",
)


class Gate(NamedTuple):
    """One row of the table: sigma, or the identity, of U x_t + V h_{t-1} + b."""

    u: Float[np.ndarray, "n d"]
    v: Float[np.ndarray, "n n"]
    b: Float[np.ndarray, " n"]


class Cell(NamedTuple):
    """One layer of the table, in the paper's names: forget gate, candidate, candidate's gate (torch's i), output gate."""

    f: Gate
    c: Gate
    g: Gate
    o: Gate


@dataclass(frozen=True)
class Table4:
    """The configuration of an LSTM that is a target.

    - target: "linear attention" (the table's left half) or "gated RNN" (its right half).
    - printed: the cells as printed; decoder: (d_out, n), which is not printed.
    - error_as_printed: of the idealised LSTM with exactly these weights; infinite where it gives no finite number.
    - error: the same with the output gates of the right half at 1, see `REMARKS`; the left half needs no repair.
    - used: the cells of `construct.lstm`, real sigmoids and tanh.  used_error: its float64 error.
    """

    target: str
    printed: tuple[Cell, ...]
    decoder: Float[np.ndarray, "d_out n"]
    error_as_printed: float
    error: float
    used: tuple[Cell, ...]
    used_error: float
    remarks: tuple[str, ...] = REMARKS


def table4(target: LinearAttention | GatedRNN | Any, scale: float | None = None, *, key: Array | None = None) -> Table4:
    """Table 4 for one target: as printed, run with ideal activations, and as used, run with real ones.

    **Arguments:** target: a `LinearAttention` for the left half, a `GatedRNN` for the right; scale: as of
    `construct.lstm`; key: of the tokens of the errors.

    **Raises:** `InputError` for another target or scale.
    """
    checked_target(target)
    key = jr.key(1) if key is None else key
    attention = isinstance(target, LinearAttention)
    printed, decoder = _attention_cell(target) if attention else _gated_rnn_cells(target)
    x = random_tokens(target.d_in, key)
    expected = exact_outputs(target, x)
    read = x if attention else np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
    errors = []
    for cells in (printed, tuple(_open(cell) for cell in printed)):
        y = read
        for cell in cells:
            y = ideal_lstm(cell, y)
        errors.append(difference(y @ decoder.T if np.isfinite(y).all() else np.full_like(expected, np.inf), expected))
    with jax.enable_x64(True):
        stack = lstm(target, scale=scale, dtype="float64")
    return Table4(
        "linear attention" if attention else "gated RNN",
        printed,
        decoder,
        errors[0],
        errors[1],
        configuration(stack.layers),
        stack_error(lambda dtype: stack, target, "float64", key=key),
    )


def configuration(layers: tuple[Any, ...]) -> tuple[Cell, ...]:
    """The weights of LSTM layers in the form and the names of Table 4, in float64."""
    cells = []
    for layer in layers:
        assert isinstance(layer, LSTM)
        wide = lambda w: np.asarray(w).astype(np.float64)
        g, f, c, o = (Gate(wide(u), wide(v), wide(b)) for u, v, b in zip(layer.u, layer.v, layer.b, strict=True))
        cells.append(Cell(f, c, g, o))
    return tuple(cells)


def ideal_lstm(cell: Cell, x: Float[np.ndarray, "sequence time d"]) -> Float[np.ndarray, "sequence time n"]:
    """The LSTM whose only nonlinearities are the forget gate's sigmoid and the products: c = f c + g c~, h = o c."""
    h = c = np.zeros((len(x), len(cell.f.b)))
    outputs = []
    with np.errstate(invalid="ignore"):  # an infinite gate times a cell of 0; the caller looks for what is not finite
        for t in range(x.shape[1]):
            f, candidate, gate, o = (x[:, t] @ w.u.T + h @ w.v.T + w.b[None] for w in cell)
            c = scipy.special.expit(f) * c + gate * candidate
            h = o * c
            outputs.append(h)
    return np.stack(outputs, axis=1)


def _attention_cell(attention: LinearAttention) -> tuple[tuple[Cell, ...], np.ndarray]:
    w = key_values(attention)
    forget = _gate(np.zeros_like(w.keys), np.inf)
    return (Cell(forget, _gate(w.keys), _gate(w.values), _gate(w.queries)),), w.readout


def _gated_rnn_cells(rnn: GatedRNN) -> tuple[tuple[Cell, ...], np.ndarray]:
    w = gated_weights(rnn)
    none, none_out = np.zeros_like(w.w_m_in), np.zeros_like(w.w_m_out)
    remember = _gate(none, 0.0)._replace(b=scipy.special.logit(w.decay))
    first = Cell(remember, _gate(w.w_m_in), _gate(w.w_x_in), _gate(none, np.inf))
    second = Cell(_gate(none_out, -np.inf), _gate(w.w_m_out), _gate(w.w_x_out), _gate(none_out, np.inf))
    return (first, second), w.readout


def _gate(u: np.ndarray, b: float = 0.0) -> Gate:
    return Gate(u, np.zeros((len(u), len(u))), np.full(len(u), b))


def _open(cell: Cell) -> Cell:
    """The cell with an output gate of 1 where it is printed as infinite."""
    return cell._replace(o=cell.o._replace(b=np.where(np.isinf(cell.o.b), 1.0, cell.o.b)))
