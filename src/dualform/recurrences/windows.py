"""The last few tokens before each one, side by side: what a map of a whole window reads."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.compaction import compact
from dualform.recurrences.flags import check_flags, check_state, check_time


@compiled
def naive(
    x: Float[Array, "time d"], tail: Float[Array, "width d"], start: Bool[Array, " time"], mask: Bool[Array, " time"]
) -> tuple[Float[Array, "time width d"], Float[Array, "width d"]]:
    """The specification: one token after the other, the last `width` kept."""

    def step(tail, inputs):
        x_t, start_t, mask_t = inputs
        before = jnp.where(start_t, jnp.zeros_like(tail), tail)
        after = jnp.concatenate([before, x_t[None]])[1:]
        return jnp.where(mask_t, after, tail), jnp.where(mask_t, before, jnp.zeros_like(before))

    tail, before = jax.lax.scan(step, tail, (x, start & mask, mask))
    return before, tail


@compiled
def window(
    x: Float[Array, "time d"],
    width: int,
    tail: Float[Array, "width d"] | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
) -> tuple[Float[Array, "time width d"], Float[Array, "width d"]]:
    """The `width` tokens before each one, x_{t-width} ... x_{t-1}; zeros where there is none.

    **Arguments:**

    - x: (time, d).  width: how many tokens to look back on.
    - tail: (width, d), the tokens before the first, the oldest first; zeros if not given.
    - start: (time,), True where a document begins: it does not see what came before.
    - mask: (time,), False where there is no token: it is passed over, and sees zeros. A `start` there is ignored.

    **Returns:** (time, width, d), the oldest first, and the last `width` tokens of the last document, both in float32 or
    wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.
    """
    require(x.ndim == 2 and width >= 1, f"x must be (time, d) and width at least 1; got x {x.shape} and {width}.")
    time, d = x.shape
    check_time(time)
    check_state("tail", tail, (width, d))
    check_flags(time, start, mask)
    choose("window", ("shifted",), None, time=time)
    wide = accumulator(x.dtype)
    x = x.astype(wide)
    tail = jnp.zeros((width, d), wide) if tail is None else tail.astype(wide)
    if mask is None:
        before = _windows(x, tail, start)
        return before[:-1], before[-1]
    moved = compact(mask)
    before = _windows(moved.pack(x), tail, None if start is None else moved.pack(start & mask))
    return moved.unpack(before[:-1]), before[moved.count]


def _windows(x, tail, start):
    """What each token sees, and what one more, after the last, would: that is the next tail."""
    (width, _), time = tail.shape, len(x)
    spread = lambda a: jnp.stack([a[back : back + time + 1] for back in range(width)], axis=1)
    before = spread(jnp.concatenate([tail, x]))
    if start is None:
        return before
    document = jnp.cumsum(start.astype(jnp.int32))
    own = jnp.concatenate([document, document[-1:]])
    same = spread(jnp.concatenate([jnp.zeros(width, jnp.int32), document])) == own[:, None]
    return jnp.where(same[:, :, None], before, jnp.zeros_like(before))
