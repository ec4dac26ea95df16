"""The compact construction: a symmetric state, held once."""

import numpy as np
from jaxtyping import Float

from dualform.construct.wiring import Wiring, symmetric_product


def compact(output_value: Float[np.ndarray, "d_out d"], key_query: Float[np.ndarray, "d d"]) -> Wiring:
    """One head as V (M z), M = sum_s x_s x_s^T and z = C x_t: d (d + 1) / 2 + d hidden, d (d + 1) / 2 pre-readout units.

    The paper takes the key matrix W_V and the query matrix W_V^-T W_K^T W_Q, so that the state is W_V M W_V^T. Any
    invertible change of that state's basis is free; this one takes the identity, so W_V is never inverted and the error
    does not grow with its condition number. V is folded into the readout.

    **Source:** App. A of Zucchet et al. 2023; the change of basis is ours.
    """
    d = len(key_query)
    product = symmetric_product(d)
    unit = np.eye(d)
    return Wiring(
        left=unit[product.rows],
        right=unit[product.columns],
        query=key_query,
        read_memory=product.read_memory,
        read_query=product.read_query,
        readout=output_value @ product.collect,
    )
