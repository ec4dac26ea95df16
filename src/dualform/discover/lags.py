"""The whole function of a gated RNN in closed form, over any number of tokens, with no sample drawn.

The output of a gated RNN is a sum over pairs of lags (k, l) of tensors over the forms of z = (x, 1),

    y_t = sum_kl B_kl(x_{t-k}, x_{t-l}),   B_kl = sum_ij K_ij lam_i^k lam_j^l F_i F_j.

Attention has the pairs of the past with the present alone, the same at every lag. Decays that differ have powers that
are linearly independent, so units at other decays than 0 and 1 show here unless they cancel each other exactly.

Every pair of lags weighs alike here. An error that adds up over the tokens (products of two past tokens, read from
inputs whose second moment is not 0) grows faster in a run than in this norm: `verdict` measures a run beside it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.discover.forms import (
    as_function,
    circuit_block,
    embed_attention_block,
    form_coordinates,
    input_forms,
    output_kernels,
    symmetric_part,
)
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN
from dualform.mixers.circuits import circuits
from dualform.training.second_order import Weights, network, weights_of


class LagTensors(NamedTuple):
    """The function over a number of tokens, in the coordinates of `form_basis(d + 1)`.

    - past_present: the mean over all lags of what a past token and the present one give.
    - spread: the norm, over all lags, of what differs from that mean.
    - past_past: the norm, over all pairs of lags, of what two past tokens give.
    - present: what the present token gives with itself.
    - lags: how many there are, tokens - 1.
    """

    past_present: Float[np.ndarray, "d_out forms forms"]
    spread: float
    past_past: float
    present: Float[np.ndarray, "d_out forms forms"]
    lags: int

    def size(self) -> float:
        """The norm of the function over all pairs of lags."""
        present = np.sum(as_function(self.present) ** 2)
        return float(np.sqrt(self.lags * np.sum(self.past_present**2) + self.spread**2 + self.past_past**2 + present))


class LengthError(NamedTuple):
    """A number of tokens, and ||rnn - attention|| / ||attention|| over all pairs of lags within it."""

    tokens: int
    error: float


def decays(rnn: GatedRNN | SideGatedRNN) -> Float[np.ndarray, " n"]:
    """The decays in float64, computed from nu in float64 where they are trained."""
    if rnn.nu is None:
        return np.asarray(rnn.decay).astype(np.float64)
    return np.exp(-np.exp(np.asarray(rnn.nu).astype(np.float64)))


def lag_tensors(rnn: GatedRNN | SideGatedRNN, tokens: int) -> LagTensors:
    """The function of `rnn` over all pairs of lags within `tokens` tokens, at least 2.

    The lags are never stacked: powers of n decays span n dimensions at the most, whatever their number.
    """
    powers = decays(rnn)[None] ** np.arange(1, tokens)[:, None]
    left, right, present = _factors(rnn)
    mean = powers.mean(0)
    apart = np.linalg.qr(powers - mean, mode="r")
    by_direction = np.einsum("pn,na,onb->poab", apart, left, right, optimize=True)
    return LagTensors(
        past_present=np.einsum("n,na,onb->oab", mean, left, right, optimize=True),
        spread=float(np.linalg.norm(by_direction)),
        past_past=_past_past(rnn, left, powers) if isinstance(rnn, GatedRNN) else 0.0,
        present=present,
        lags=tokens - 1,
    )


def _factors(rnn: GatedRNN | SideGatedRNN):
    """Of each unit: the form that it takes in, and what the outputs make of it beside the present token's forms.

    Also what the present token gives with itself: half of that sum for a quadratic readout, which sees each pair twice.
    """
    if isinstance(rnn, GatedRNN):
        coordinates = form_coordinates(input_forms(rnn))
        read = output_kernels(rnn) @ coordinates
        return coordinates, 2 * read, np.einsum("na,onb->oab", coordinates, read, optimize=True)
    names = ("w_m_in", "w_x_in", "w_side", "readout")
    left, right, side, readout = (np.asarray(getattr(rnn, name)).astype(np.float64) for name in names)
    widen = lambda w: np.pad(w, ((0, 0), (0, 1)))
    unit = np.zeros_like(widen(side))
    unit[:, -1] = 1
    coordinates = form_coordinates(symmetric_part(widen(left), widen(right)))
    read = readout[:, :, None] * form_coordinates(symmetric_part(widen(side), unit))[None]
    return coordinates, read, np.einsum("na,onb->oab", coordinates, read, optimize=True)


def _past_past(rnn: GatedRNN, coordinates: Float[np.ndarray, "n forms"], powers: Float[np.ndarray, "lag n"]) -> float:
    """The norm of sum_ij K_ij lam_i^k lam_j^l F_i F_j over all lags k, l >= 1, by two orthogonal reductions."""
    lags = np.asarray(np.linalg.qr(powers, mode="r"))
    remembered = lags[:, None, :] * coordinates.T[None]
    root = np.asarray(np.linalg.qr(remembered.reshape(-1, len(coordinates)), mode="r"))
    return float(np.linalg.norm(root @ output_kernels(rnn) @ root.T))


def attention_tensor(attention: LinearAttention) -> Float[np.ndarray, "d_out forms forms"]:
    """What attention makes of a past token and the present one, the same at every lag, 0 included."""
    return embed_attention_block(circuit_block(*circuits(attention)))


def errors_by_length(rnn: GatedRNN | SideGatedRNN, attention: LinearAttention, horizon: int) -> tuple[LengthError, ...]:
    """How far the network's function is from one attention's, over 2, 4, 8, ... and `horizon` tokens.

    Short lengths see what a long one drowns (a token's product with itself counts once, however many follow), long ones
    see decays. Nothing is fitted, and no input is sampled: it holds on all of R^d.

    **Arguments:** horizon, in tokens, at least 2.

    **Returns:** relative errors, the shortest length first; absolute ones where the attention gives 0.
    """
    expected = attention_tensor(attention)

    def error(found: LagTensors) -> float:
        present, past_present = found.present - expected, found.past_present - expected
        return found._replace(present=present, past_present=past_present).size() / _size(expected, found.lags)

    return tuple(LengthError(tokens, error(lag_tensors(rnn, tokens))) for tokens in _lengths(horizon))


def change_of_function(before: GatedRNN, after: GatedRNN, attention: LinearAttention, horizon: int) -> float:
    """||before - after|| / ||attention|| over all pairs of lags, the largest over 2, 4, 8, ... and `horizon` tokens."""
    apart, expected = difference(before, after), attention_tensor(attention)
    changes = (lag_tensors(apart, tokens).size() / _size(expected, tokens - 1) for tokens in _lengths(horizon))
    return max(changes)


def difference(first: GatedRNN, second: GatedRNN) -> GatedRNN:
    """The network whose output is that of `first` less that of `second`: the units of both, side by side."""
    a, b = weights_of(first), weights_of(second)
    side_by_side = lambda u, w: np.block([[u, np.zeros((len(u), w.shape[1]))], [np.zeros((len(w), u.shape[1])), w]])
    return network(
        Weights(
            np.concatenate([a.decay, b.decay]),
            np.concatenate([a.w_m_in, b.w_m_in]),
            np.concatenate([a.w_x_in, b.w_x_in]),
            side_by_side(a.w_m_out, b.w_m_out),
            side_by_side(a.w_x_out, b.w_x_out),
            np.concatenate([a.readout, -b.readout], axis=1),
        )
    )


def _lengths(horizon: int) -> list[int]:
    return [2**i for i in range(1, horizon.bit_length()) if 2**i < horizon] + [horizon]


def _size(attention: Float[np.ndarray, "d_out forms forms"], lags: int) -> float:
    """The norm of an attention's function over all pairs of lags; 1 where it gives 0."""
    return LagTensors(attention, 0.0, 0.0, attention, lags).size() or 1.0
