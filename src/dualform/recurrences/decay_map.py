"""How much of what a token wrote is left later: the products of decays that every diagonal recurrence's map is made of."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dualform.arrays import TimeMask
from dualform.recurrences.diagonal_scan import diagonal
from dualform.segments import Segments


def decay_map(
    decay: Inexact[Array, "time n"], start: TimeMask | None = None, mask: TimeMask | None = None
) -> Inexact[Array, "n time time"]:
    """Entry [i, t, s] is decay[s+1, i] * ... * decay[t, i]: 1 where s = t, 0 where t cannot see s.

    The products are carried from token to token, never divided, so that decays of 0 and of 1e-30 are exact.

    **Arguments:** decay: (time, n), real or complex.  start, mask: (time,), as in a mixer's call: a start is a decay of 0, an
    absent token one of 1.

    **Returns:** (n, time, source), n * time^2 numbers.
    """
    time, n = decay.shape
    written = jnp.broadcast_to(jnp.eye(time, dtype=decay.dtype)[:, :, None], (time, time, n))
    products, _ = diagonal(decay[:, None], written, start=start, mask=mask)
    return jnp.where(Segments(start, mask).visible(time)[None], products.transpose(2, 0, 1), jnp.zeros((), decay.dtype))
