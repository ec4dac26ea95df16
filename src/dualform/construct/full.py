"""The full construction: one unit for each key-value, one for each query."""

import numpy as np

from dualform.construct.wiring import Wiring
from dualform.mixers import LinearAttention
from dualform.mixers.circuits import output_maps


def full(attention: LinearAttention) -> Wiring:
    """Attention as it is written: units at 1 sum v_i k_j, units at 0 pass q_j, each product reads one of both.

    head * d_v * d_k + head * d_k hidden units and head * d_v * d_k pre-readout units: d^2 + d and d^2 for one square
    head. Exact for any weights, singular ones included: nothing is inverted.

    **Source:** Sec. 2.2 of Zucchet et al. 2023.
    """
    w_v, w_k, w_q = (np.asarray(w).astype(np.float64) for w in (attention.w_v, attention.w_k, attention.w_q))
    heads, d_v, d = w_v.shape
    d_k = w_k.shape[1]
    head, i, j = (index.ravel() for index in np.indices((heads, d_v, d_k)))
    return Wiring(
        left=w_v[head, i],
        right=w_k[head, j],
        query=w_q.reshape(heads * d_k, d),
        read_memory=np.eye(len(head)),
        read_query=np.eye(heads * d_k)[head * d_k + j],
        readout=output_maps(attention)[head, :, i].T,
    )
