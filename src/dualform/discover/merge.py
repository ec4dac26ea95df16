"""Merging of equivalent units: the same function with fewer of them, by algebra on the weights alone.

Two hidden units of one decay whose inputs are proportional hold the same number twice; more generally, units of one
decay whose inputs, as quadratic forms of (x, 1), are linearly dependent hold redundant numbers. Pre-readout units
whose kernels are dependent are likewise written in each other. Nothing is fitted: what a merge throws away is bounded by
the tolerance.

**Source:** App. B.2 of Zucchet et al. 2023, there by hand for three pre-readout units.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dualform.discover.forms import input_forms, symmetric_part
from dualform.mixers import GatedRNN
from dualform.training.second_order import Weights, network, weights_of


class Merged(NamedTuple):
    """The smaller network, and the largest misfit of a merge, relative to what is read most (hidden forms, kernels)."""

    rnn: GatedRNN
    hidden_error: float
    readout_error: float


def merge_equivalent(rnn: GatedRNN, tolerance: float = 1e-6, decay_tolerance: float = 1e-9) -> Merged:
    """Fold redundant hidden units, and redundant pre-readout units, into an independent set of each.

    Units that cancel each other are left with readers (or a readout) of 0, and go when units are pruned.

    **Arguments:**

    - tolerance: relative; a form (or kernel) is redundant where the others give it within this norm.
    - decay_tolerance: units share a decay where they differ by no more than this.

    **Returns:** a `Merged`; its network keeps the input weights of the units that stay.
    """
    weights, hidden_error = _merge_hidden(weights_of(rnn), input_forms(rnn), tolerance, decay_tolerance)
    weights, readout_error = _merge_readout(weights, tolerance)
    return Merged(network(weights), hidden_error, readout_error)


def _merge_hidden(
    weights: Weights, forms: Float[np.ndarray, "n columns columns"], tolerance: float, decay_tolerance: float
) -> tuple[Weights, float]:
    """For each decay: pivoted QR picks independent forms; the others are written in them and added to their readers."""
    flat = forms.reshape(len(forms), forms.shape[1] ** 2)
    norms = np.linalg.norm(flat, axis=1)
    readers = np.linalg.norm(np.concatenate([weights.w_m_out, weights.w_x_out]), axis=0)
    u, w, kept, worst = weights.w_m_out.copy(), weights.w_x_out.copy(), [], 0.0
    for group in _groups(weights.decay, decay_tolerance):
        group = group[norms[group] > 0]
        keep, drop, mixture, left = _independent(flat[group], readers[group], tolerance)
        keep, drop, worst = group[keep], group[drop], max(worst, left)
        u[:, keep] += u[:, drop] @ mixture.T
        w[:, keep] += w[:, drop] @ mixture.T
        kept.append(keep)
    index = np.sort(np.concatenate(kept)) if kept else np.zeros(0, int)
    decay, a, b, _, _, readout = weights
    return Weights(decay[index], a[index], b[index], u[:, index], w[:, index], readout), worst


def _merge_readout(weights: Weights, tolerance: float) -> tuple[Weights, float]:
    """Pivoted QR picks pre-readout units with independent kernels; the others are written in them, in the readout."""
    m, n = weights.w_m_out.shape
    kernels = symmetric_part(weights.w_m_out, weights.w_x_out).reshape(m, n * n)
    norms, readout = np.linalg.norm(kernels, axis=1), weights.readout.copy()
    alive = np.flatnonzero(norms > 0)
    keep, drop, mixture, worst = _independent(kernels[alive], np.linalg.norm(readout, axis=0)[alive], tolerance)
    keep, drop = alive[keep], alive[drop]
    readout[:, keep] += readout[:, drop] @ mixture.T
    index = np.sort(keep)
    decay, a, b, u, w, _ = weights
    return Weights(decay, a, b, u[index], w[index], readout[:, index]), worst


def _independent(rows: Float[np.ndarray, "rows columns"], readers: Float[np.ndarray, " rows"], tolerance: float):
    """Indices of independent rows and of the others, what gives these from those, and the largest misfit.

    It is what the readers miss, relative to the row that is read most.

    **Arguments:** readers: how much each row is read; rows that nobody reads come last in the pivoting.
    """
    if not len(rows):
        nothing = np.zeros(0, int)
        return nothing, nothing, np.zeros((0, 0)), 0.0
    pivoted: Any = scipy.linalg.qr((rows * readers[:, None]).T, mode="r", pivoting=True)
    triangle, order = pivoted
    size = np.abs(np.diag(triangle))
    rank = int(np.sum(size > tolerance * max(size[0], 1e-300)))
    keep, drop = order[:rank], order[rank:]
    mixture = np.linalg.lstsq(rows[keep].T, rows[drop].T, rcond=None)[0]
    left = np.linalg.norm(rows[keep].T @ mixture - rows[drop].T, axis=0) * readers[drop]
    return keep, drop, mixture, float(left.max(initial=0.0)) / max(size[0], 1e-300)


def _groups(decay: Float[np.ndarray, " n"], tolerance: float) -> list[np.ndarray]:
    """Indices of units that share a decay."""
    order = np.argsort(decay, kind="stable")
    cuts = np.flatnonzero(np.diff(decay[order]) > tolerance) + 1
    return np.split(order, cuts)
