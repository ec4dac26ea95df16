"""A linear state in the basis of its eigenvectors, which is what a diagonal recurrence can hold."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex

from dualform.errors import require
from dualform.programs.graph import Block
from dualform.programs.path import Placed

WORST = 1e6
"""The condition number of a basis from which on it counts as none."""


class Spectrum(NamedTuple):
    """s_t = A s_{t-1} + v_t as s = Re(leave h), h_t = decay * h_{t-1} + enter v_t; of a complex pair one number is kept."""

    decay: Complex[np.ndarray, " n"]
    enter: Complex[np.ndarray, "n rows"]
    leave: Complex[np.ndarray, "rows n"]


def spectrum(block: Placed) -> Spectrum:
    """The eigenvalues of a block's matrix, and the ways into and out of the basis of its eigenvectors.

    **Raises:** `InputError`, with file and line, where there is no such basis, or the state grows.
    """
    step = block.step
    assert isinstance(step, Block)
    a = np.zeros((step.size, step.size))
    for i, row in enumerate(step.matrix):
        for j, entry in row.items():
            a[i, j] = float(entry)
    if np.count_nonzero(a - np.diag(np.diag(a))) == 0:
        values, basis = np.diag(a).astype(complex), np.eye(len(a), dtype=complex)
    else:
        values, basis = np.linalg.eig(a)
        values, basis = values.astype(complex), basis.astype(complex)
    require(
        bool(np.linalg.cond(basis) < WORST),
        f"{step.place}: {step.name}'s matrix has no basis of eigenvectors, as that of a shift has none; a diagonal recurrence "
        "cannot hold it. Delay bits by digits (delay(x, form='digits')), or compile to rnn, gru or lstm.",
    )
    require(
        bool(np.all(np.abs(values) <= 1 + 1e-12)),
        f"{step.place}: {step.name} grows by {np.max(np.abs(values)):.4g} at each token; decays here are at most 1.",
    )
    values = values / np.maximum(np.abs(values), 1)
    turning = np.imag(values)
    kept = turning >= 0
    twice = np.where(turning[kept] > 0, 2.0, 1.0)
    return Spectrum(values[kept], np.linalg.inv(basis)[kept], basis[:, kept] * twice[None])
