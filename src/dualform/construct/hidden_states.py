"""Exact filters of hidden states, written into the weights of recurrent networks.

What is known of a hidden Markov model is a row of numbers that each observation multiplies by a matrix of its own, divided
by its sum: a linear recurrence up to normalisation. An LSTM holds any such recurrence: a copy of the state for each observation,
whose input gate is open where that one is read and shut elsewhere. The candidate multiplies the sum of all copies by the copy's
matrix; states are so small that no tanh bends them. A matrix that is the same at every token, as that of Kalman's filter in the
long run, is an LRU's.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dualform.errors import require
from dualform.mixers import LRU, LSTM
from dualform.models import Recurrent
from dualform.tasks.hmm import HMM, LinearSystem, MatrixProduct

SHUT = 1000.0
"""A gate's pre-activation, whose sigmoid is 0, or with the other sign 1, to the bit."""

SMALL = 2.0**-30
"""A state of 1: tanh differs from its argument by a part in 2^60."""


def filter_lstm(hidden: HMM | MatrixProduct, dtype: Any = None) -> Recurrent:
    """The filter of a chain or of products of matrices, in the weights of one LSTM and a linear readout.

    It reads the task's tokens, observations (one-hot) and the mark of the first one; it gives the belief, of a chain up to its
    scale: divide it by its sum. For a chain each matrix is divided by the largest probability that an observation can have, so
    that states never grow. They shrink with what is observed, by that over the observation's own probability at each token, and
    are exact until they underflow; where observations are as likely in all states they keep their size, at any length.

    **Arguments:** dtype: of the weights, JAX's default if not given.

    **Raises:** `InputError` for a model that is neither.

        >>> import jax.numpy as jnp
        >>> from dualform.construct import filter_lstm
        >>> from dualform.tasks.hmm import cyclic_det
        >>> model = filter_lstm(cyclic_det(3, 2, 0, float))
        >>> belief, _ = model(jnp.array([[1.0, 0, 1], [1, 0, 0], [1, 0, 0]]))
        >>> belief.argmax(axis=1).tolist()
        [1, 2, 0]
    """
    if isinstance(hidden, HMM):
        kernels = np.asarray(hidden.kernels, np.float64)
        matrices, begin = np.swapaxes(kernels, 1, 2) / kernels.sum(axis=2).max(), np.asarray(hidden.initial, np.float64)
    else:
        require(
            isinstance(hidden, MatrixProduct),
            f"an LSTM is written for an HMM or a MatrixProduct; got {type(hidden).__name__}. A linear system is an LRU: see "
            "`filter_lru`.",
        )
        matrices, begin = np.asarray(hidden.matrices, np.float64), np.asarray(hidden.begin, np.float64)
    copies, n = matrices.shape[:2]
    units, d = copies * n, copies + 1
    u, v, b = np.zeros((4, units, d)), np.zeros((4, units, units)), np.zeros((4, units))
    gates_in, forget, candidate, out = range(4)
    u[gates_in, :, :copies] = 2 * SHUT * np.repeat(np.eye(copies), n, axis=0)
    b[gates_in], b[forget], b[out] = -SHUT, -SHUT, SHUT
    v[candidate] = np.tile(matrices.reshape(units, n), (1, copies))
    u[candidate, :, copies] = SMALL * matrices.reshape(units, n) @ begin
    cast = lambda w: jnp.asarray(w, dtype or float)
    return Recurrent((LSTM(cast(u), cast(v), cast(b)),), cast(np.tile(np.eye(n), (1, copies)) / SMALL))


def filter_lru(system: LinearSystem, dtype: Any = None) -> Recurrent:
    """Kalman's filter in the weights of an LRU: b_t = F b_{t-1} + G y_t, turned into the eigenvectors of F.

    It reads the task's tokens, observations and the mark of the first one, and gives the mean of the state.

    **Arguments:** dtype: of the weights, JAX's default if not given.

    **Raises:** `InputError` where the filter's matrices change with time, or F has no eigenvectors.
    """
    found = system.kalman(64)
    change = float(np.abs(np.asarray(found.gain - found.gain[-1:])).max())
    require(
        bool(change < 1e-6),
        f"the gain of this filter changes by {change:.3g} over the first 64 tokens, and an LRU's matrix does not. Begin with the "
        "covariance that the filter ends with, as `linear_system` does.",
    )
    f, gain = (np.asarray(each[-1], np.float64) for each in (found.turn, found.gain))
    values, vectors = np.linalg.eig(f)
    require(
        bool(np.linalg.cond(vectors) < 1e8),
        "the filter's matrix has no eigenvectors of their own, so that no LRU is made of it.",
    )
    driven, n = np.linalg.solve(vectors, gain.astype(complex)), len(f)
    phase = np.mod(np.angle(values), 2 * np.pi)
    with np.errstate(divide="ignore"):  # a phase of 0 is exp(-infinity)
        theta = np.log(phase)
    cast = lambda w: jnp.asarray(w, dtype or float)
    mark = lambda w: cast(np.pad(w, ((0, 0), (0, 1))))
    lru = LRU(
        nu=cast(np.log(-np.log(np.abs(values)))),
        theta=cast(theta),
        gamma=cast(np.zeros(n)),
        b_re=mark(driven.real),
        b_im=mark(driven.imag),
        c_re=cast(vectors.real),  # pyright: ignore[reportAttributeAccessIssue] - NumPy's own
        c_im=cast(vectors.imag),  # pyright: ignore[reportAttributeAccessIssue] - NumPy's own
        skip=cast(np.zeros((n, gain.shape[1] + 1))),
    )
    return Recurrent((lru,), cast(np.eye(n)))
