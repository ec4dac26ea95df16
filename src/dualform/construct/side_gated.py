"""Attention written into a side-gated RNN."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dualform.mixers import LinearAttention, SideGatedRNN
from dualform.mixers.circuits import output_maps


def side_gated(attention: LinearAttention, dtype: Any = None) -> SideGatedRNN:
    """The network y = D (h * W x): unit (i, j) of a head sums v_i k_j at lam = 1 and is read through its gate q_j.

    head * d_v * d_k units, no unit at 0, nothing appended to x, decays of 1 that take no parameter: d^2 and 4 d^3
    parameters for one square head. Exact for any weights.

    **Source:** Fig. 5 of Zucchet et al. 2023 (v2).
    """
    w_v, w_k, w_q = (np.asarray(w).astype(np.float64) for w in (attention.w_v, attention.w_k, attention.w_q))
    head, i, j = (index.ravel() for index in np.indices((len(w_v), w_v.shape[1], w_k.shape[1])))
    weights = (w_v[head, i], w_k[head, j], w_q[head, j], output_maps(attention)[head, :, i].T)
    return SideGatedRNN(*(jnp.asarray(w, dtype or float) for w in weights))
