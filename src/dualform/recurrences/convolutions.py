"""A causal depthwise convolution over the last few tokens, with those before the first as its state."""

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
    x: Float[Array, "time d"],
    kernel: Float[Array, "width d"],
    tail: Float[Array, "width-1 d"],
    start: Bool[Array, " time"],
    mask: Bool[Array, " time"],
) -> tuple[Float[Array, "time d"], Float[Array, "width-1 d"]]:
    """The specification: one token after the other, the last `width - 1` kept."""

    def step(tail, inputs):
        x_t, start_t, mask_t = inputs
        seen = jnp.concatenate([jnp.where(start_t, jnp.zeros_like(tail), tail), x_t[None]])
        y_t = jnp.sum(seen * kernel, axis=0)
        return jnp.where(mask_t, seen[1:], tail), jnp.where(mask_t, y_t, jnp.zeros_like(y_t))

    tail, y = jax.lax.scan(step, tail, (x, start & mask, mask))
    return y, tail


@compiled
def convolution(
    x: Float[Array, "time d"],
    kernel: Float[Array, "width d"],
    tail: Float[Array, "width-1 d"] | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Array, "time d"], Float[Array, "width-1 d"]]:
    """y_t = sum_j kernel[width - 1 - j] * x_{t-j}, j = 0 ... width - 1, channel by channel: linear, without bias.

    **Arguments:**

    - x: (time, d).  kernel: (width, d); its last row meets the token itself.
    - tail: (width - 1, d), the tokens before the first, the oldest first; zeros if not given.
    - start: (time,), True where a document begins: it does not see what came before.
    - mask: (time,), False where there is no token: it is passed over, and y is 0 there. A `start` there is ignored.
    - reverse: from the last token to the first; `start` then marks the first token *met* of each document.

    **Returns:** y (time, d), and the last width - 1 tokens of the last document, both in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.
    """
    require(
        x.ndim == kernel.ndim == 2 and x.shape[1] == kernel.shape[1] and len(kernel) >= 1,
        f"x must be (time, d) and kernel (width, d), width at least 1; got x {x.shape}, kernel {kernel.shape}.",
    )
    (time, d), width = x.shape, len(kernel)
    check_time(time)
    check_state("tail", tail, (width - 1, d))
    check_flags(time, start, mask)
    choose("convolution", ("shifted",), None, time=time)
    wide = accumulator(x.dtype, kernel.dtype)
    x, kernel = x.astype(wide), kernel.astype(wide)
    tail = jnp.zeros((width - 1, d), wide) if tail is None else tail.astype(wide)
    if reverse:
        flip = lambda flags: None if flags is None else flags[::-1]
        y, tail = convolution(x[::-1], kernel, tail, start=flip(start), mask=flip(mask))
        return y[::-1], tail
    if mask is not None:
        moved = compact(mask)
        x, start = moved.pack(x), None if start is None else moved.pack(start & mask)
        y, extended = _convolve(x, kernel, tail, start)
        tail = _last(extended, moved.count, start, width)
        return moved.unpack(y), tail
    y, extended = _convolve(x, kernel, tail, start)
    return y, _last(extended, time, start, width)


def _convolve(x, kernel, tail, start):
    """y, and the tokens with the tail before them."""
    extended = jnp.concatenate([tail, x])
    if start is None:
        return _summed(extended, kernel, start), extended
    # What is not finite would reach the kernel's gradient from the documents that do not use it.
    sound = jnp.isfinite(extended)
    y = _summed(jnp.where(sound, extended, jnp.zeros_like(extended)), kernel, start)
    spoiled = _summed((~sound).astype(y.dtype), jnp.ones_like(kernel), start) > 0
    return jnp.where(spoiled, jnp.full_like(y, jnp.nan), y), extended


def _summed(extended, kernel, start):
    """y alone, of the tokens with the tail before them."""
    width = len(kernel)
    time = len(extended) - width + 1
    y = extended[width - 1 :] * kernel[-1][None]
    for back in range(1, width):
        before = extended[width - 1 - back : width - 1 - back + time]
        if start is not None:
            document = _documents(start, width)
            same = document[width - 1 :] == document[width - 1 - back : width - 1 - back + time]
            before = jnp.where(same[:, None], before, jnp.zeros_like(before))
        y = y + before * kernel[width - 1 - back][None]
    return y


def _documents(start, width):
    """The number of each token's document, the tail's own being 0."""
    return jnp.concatenate([jnp.zeros(width - 1, jnp.int32), jnp.cumsum(start.astype(jnp.int32))])


def _last(extended, count, start, width):
    """The last width - 1 of the first `count` tokens and the tail, zeros where they are of an earlier document."""
    tail = jax.lax.dynamic_slice_in_dim(extended, count, width - 1)
    if start is None:
        return tail
    document = _documents(start, width)
    same = jax.lax.dynamic_slice_in_dim(document, count, width - 1) == document[-1]
    return jnp.where(same[:, None], tail, jnp.zeros_like(tail))
