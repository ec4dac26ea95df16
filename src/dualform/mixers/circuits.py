"""The circuits of a linear attention: all that its outputs depend on, whatever the sizes of its heads.

y_t = sum_h V_h (sum_{s<=t} x_s x_s^T) C_h x_t, with V_h = W_O,h W_V,h (output-value) and C_h = W_K,h^T W_Q,h
(key-query).
"""

import numpy as np
from jaxtyping import Float

from dualform.mixers.linear_attention import LinearAttention


def output_maps(attention: LinearAttention) -> Float[np.ndarray, "head d_out d_v"]:
    """A_h: what each head's values become in the output, in float64; slices of `w_o`, or of the identity."""
    heads, d_v, _ = attention.w_v.shape
    joined = np.eye(heads * d_v) if attention.w_o is None else np.asarray(attention.w_o).astype(np.float64)
    return np.stack(np.split(joined, heads, axis=1))


def circuits(attention: LinearAttention) -> tuple[Float[np.ndarray, "head d_out d"], Float[np.ndarray, "head d d"]]:
    """The output-value circuits V_h and the key-query circuits C_h of every head, in float64.

    **Source:** the words are those of Elhage et al. 2021, *A mathematical framework for transformer circuits*.
    """
    w_v, w_k, w_q = (np.asarray(w).astype(np.float64) for w in (attention.w_v, attention.w_k, attention.w_q))
    return output_maps(attention) @ w_v, w_k.swapaxes(1, 2) @ w_q
