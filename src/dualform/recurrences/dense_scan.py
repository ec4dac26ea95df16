"""A dense linear recurrence, h_t = A h_{t-1} + drive_t: one step after the other, since nothing parallel is cheaper."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.cells import cell
from dualform.recurrences.contained import all_finite
from dualform.recurrences.flags import check_flags, check_state, check_time


@compiled
def dense(
    transition: Float[Array, "n n"],
    drive: Float[Array, "time n"],
    h0: Float[Array, " n"] | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
) -> tuple[Float[Array, "time n"], Float[Array, " n"]]:
    """h_t = A h_{t-1} + drive_t.

    **Arguments:** transition A (n, n); drive (time, n); h0 (n,), zero if not given; start (time,), True where a document
    begins and the past is forgotten; mask (time,), False where there is no token and the state stays as it is.

    **Returns:** every h_t (time, n) and the last (n,), in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no time step.
    """
    require(drive.ndim == 2, f"drive has shape {drive.shape}; it must be (time, n).")
    time, n = drive.shape
    check_time(time)
    require(transition.shape == (n, n), f"transition has shape {transition.shape}; drive {drive.shape} needs {(n, n)}.")
    check_state("h0", h0, (n,))
    check_flags(time, start, mask)
    wide = accumulator(transition.dtype, drive.dtype)
    h0 = jnp.zeros(n, wide) if h0 is None else h0.astype(wide)
    drive = drive if mask is None else jnp.where(mask[:, None], drive, jnp.zeros_like(drive))
    start = jnp.zeros(time, bool) if start is None else start
    mask = jnp.ones(time, bool) if mask is None else mask

    def step(product, h, inputs):
        drive_t, start_t, mask_t = inputs
        past = jnp.where(start_t, jnp.zeros_like(h), h)
        # What is not finite passes over to all units, but not to the gradient of the transition.
        sound = all_finite((past, drive_t), 0)
        past, drive_t = (jnp.where(sound, a, jnp.zeros_like(a)) for a in (past, drive_t))
        after = jnp.where(sound, product(0, past) + drive_t, jnp.full_like(h, jnp.nan))
        h = jnp.where(mask_t, after, h)
        return h, h

    return cell(step, (drive.astype(wide), start, mask), h0, weights=(transition,))
