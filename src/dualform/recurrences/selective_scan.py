"""The selective state space: h_t = exp(delta_t a) h_{t-1} + delta_t b_t x_t, y_t = c_t . h_t, for each channel.

With negative eigenvalues it is 2 exp(delta_t a) - 1, from -1 to 1, that h_{t-1} is multiplied by: see `transition`.

The states of all times together would be `state` times as large as the input. Neither form holds them: `naive` is the
specification, one token after the other; "fused" is the same, and its written gradient keeps the states at the borders of
chunks alone, and computes those inside a chunk again.
"""

from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.contained import contain
from dualform.recurrences.flags import check_flags, check_state, check_time

Form: TypeAlias = Literal["fused", "naive"]

CHUNK = 16
"""Tokens between two states that are kept for the gradient."""


def transition(rates: Float[Array, "*shape"], negative: bool) -> Float[Array, "*shape"]:
    """What a state is multiplied by at rates of at most 0: exp(rates), or with negative eigenvalues 2 exp(rates) - 1.

    Where the rate is 0 it is 1 to the bit, and far below 0 it is 0, or -1.

    **Source:** Grazzi et al. 2024 (arXiv 2411.12537), Eq. 2 and Table 2.
    """
    return 2 * jnp.exp(rates) - 1 if negative else jnp.exp(rates)


@compiled
def naive(
    x: Float[Array, "time d"],
    delta: Float[Array, "time d"],
    a: Float[Array, "d n"],
    b: Float[Array, "time n"],
    c: Float[Array, "time n"],
    state: Float[Array, "d n"],
    start: Bool[Array, " time"],
    mask: Bool[Array, " time"],
    negative: bool = False,
) -> tuple[Float[Array, "time d"], Float[Array, "d n"]]:
    """The specification: one token after the other."""

    def step(h, inputs):
        x_t, delta_t, b_t, c_t, start_t, mask_t = inputs
        past = jnp.where(start_t, jnp.zeros_like(h), transition(delta_t[:, None] * a, negative) * h)
        h = jnp.where(mask_t, past + (delta_t * x_t)[:, None] * b_t[None], h)
        return h, jnp.where(mask_t, h @ c_t, jnp.zeros_like(x_t))

    state, y = jax.lax.scan(step, state, (x, delta, b, c, start, mask))
    return y, state


@compiled
def selective(
    x: Float[Array, "time d"],
    delta: Float[Array, "time d"],
    a: Float[Array, "d n"],
    b: Float[Array, "time n"],
    c: Float[Array, "time n"],
    state: Float[Array, "d n"] | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
    negative: bool = False,
    form: Form | None = None,
) -> tuple[Float[Array, "time d"], Float[Array, "d n"]]:
    """y_t = h_t c_t of h_t = exp(delta_t a) * h_{t-1} + (delta_t * x_t) b_t^T.

    Negative: (2 exp(delta_t a) - 1) * h_{t-1}, whose sign a step may change; a sum of steps does not tell that product. Both
    forms go token by token, and cost the same.

    **Arguments:**

    - x: (time, d).  delta: (time, d), the step of each channel, at least 0.
    - a: (d, n), at most 0: the rates at which states decay.
    - b, c: (time, n): how a token writes and reads, the same for all channels.
    - state: (d, n), before the first token; zero if not given.
    - start: (time,), True where a document begins: what came before is forgotten, exactly.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit, and the output is 0. A `start`
      there is ignored.
    - reverse: from the last token to the first; `start` then marks the first token *met* of each document.
    - negative: whether transitions reach from -1 to 1, and not from 0 to 1.
    - form: "fused", or "naive" with its automatic gradient; chosen by `choice.choose` if not given.

    **Returns:** y (time, d) and the state after the last token (d, n), both in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.

    **Source:** Gu and Dao 2023 (arXiv 2312.00752), Sec. 3; recomputing states for the gradient is from its Sec. 3.3.2.
    Negative: Grazzi et al. 2024 (arXiv 2411.12537), Table 2.
    """
    shapes = f"x {x.shape}, delta {delta.shape}, a {a.shape}, b {b.shape}, c {c.shape}"
    require(
        x.ndim == b.ndim == a.ndim == 2
        and x.shape == delta.shape
        and b.shape == c.shape
        and (x.shape[1], b.shape[1]) == a.shape
        and len(b) == len(x),
        f"x and delta must be (time, d), a (d, n), b and c (time, n); got {shapes}.",
    )
    time = len(x)
    check_time(time)
    check_state("state", state, a.shape)
    check_flags(time, start, mask)
    wide = accumulator(x.dtype, delta.dtype, a.dtype, b.dtype)
    turn = lambda values: values[::-1] if reverse else values
    x, delta, b, c = (turn(values).astype(wide) for values in (x, delta, b, c))
    start, mask = (None if flags is None else turn(flags) for flags in (start, mask))
    a = a.astype(wide)
    h: Any = jnp.zeros(a.shape, wide) if state is None else state.astype(wide)
    if mask is not None:
        # A step of 0 keeps the state to the bit; NaN where there is no token would reach the gradients.
        x, delta, b, c = (jnp.where(mask[:, None], values, jnp.zeros_like(values)) for values in (x, delta, b, c))
        start = None if start is None else start & mask
    kept = None
    if start is not None:
        kept = contain((x, delta, b, c), h, jnp.zeros_like(h), start, mask)
        (x, delta, b, c), h = kept.tokens, kept.state
    if choose("selective", ("fused", "naive"), form, time=time) == "naive":
        nothing = jnp.zeros(time, bool)
        flags = nothing if start is None else start, ~nothing if mask is None else mask
        y, h = naive(x, delta, a, b, c, h, *flags, negative=negative)
    else:
        keep = jnp.ones(time, wide) if start is None else 1 - start.astype(wide)
        padding = -time % CHUNK if time > CHUNK else 0
        cut = lambda values, size: jnp.pad(values, ((0, padding), *[(0, 0)] * (values.ndim - 1))).reshape(
            -1, size, *values.shape[1:]
        )
        parts = tuple(cut(values, min(CHUNK, time)) for values in (x, delta, b, c, keep))
        # Where there is nothing, keep is 0 as well as the step: the state that is left is that of the last token.
        parts = (*parts[:4], parts[4].reshape(-1).at[time:].set(1).reshape(parts[4].shape))
        found: Any = _fused(negative, *parts[:2], a.T, *parts[2:], h.T)
        y, h = found
        y, h = y.reshape(-1, y.shape[-1])[:time], jnp.transpose(h)
    if mask is not None:
        y = jnp.where(mask[:, None], y, jnp.zeros_like(y))
    if kept is not None:
        y, h = kept.mark(y, mask), kept.mark_state(h)
    return turn(y), h


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(negative, x, delta, a, b, c, keep, h) -> tuple[Array, Array]:
    """In chunks, (chunk, time, channels); states (n, d), channels last."""
    y, h, _ = _forward(negative, x, delta, a, b, c, keep, h)
    return y, h


def _forward(negative, x, delta, a, b, c, keep, h):
    def step(h, inputs):
        x_t, delta_t, b_t, c_t, keep_t = inputs
        h = keep_t * transition(delta_t[None] * a, negative) * h + b_t[:, None] * (delta_t * x_t)[None]
        return h, c_t @ h

    def chunk(h, inputs):
        after, y = jax.lax.scan(step, h, inputs)
        return after, (y, h)

    h, (y, borders) = jax.lax.scan(chunk, h, (x, delta, b, c, keep))
    return y, h, borders


def _fused_forward(negative, x, delta, a, b, c, keep, h):
    y, h, borders = _forward(negative, x, delta, a, b, c, keep, h)
    return (y, h), (x, delta, a, b, c, keep, borders)


def _fused_backward(negative, residuals, cotangents):
    x, delta, a, b, c, keep, borders = residuals
    g_y, g_h = cotangents

    def again(h, inputs):
        x_t, delta_t, b_t, keep_t = inputs
        decay = keep_t * transition(delta_t[None] * a, negative)
        after = decay * h + b_t[:, None] * (delta_t * x_t)[None]
        return after, (h, decay, after)

    def back(carry, inputs):
        g, g_a = carry
        x_t, delta_t, b_t, c_t, keep_t, g_y_t, (before, decay, after) = inputs
        g = g + c_t[:, None] * g_y_t[None]
        g_c, g_b, g_drive = after @ g_y_t, g @ (delta_t * x_t), b_t @ g
        # By the rate it grows as itself, and 2 exp(rate) - 1 as itself and 1.
        g_rate = g * (decay + keep_t if negative else decay) * before
        g = g * decay
        g_delta = jnp.sum(g_rate * a, axis=0) + g_drive * x_t
        return (g, g_a + g_rate * delta_t[None]), (g_drive * delta_t, g_delta, g_b, g_c)

    def chunk(carry, inputs):
        x, delta, b, c, keep, border, g_y = inputs
        _, inside = jax.lax.scan(again, border, (x, delta, b, keep))
        return jax.lax.scan(back, carry, (x, delta, b, c, keep, g_y, inside), reverse=True)

    (g_h, g_a), (g_x, g_delta, g_b, g_c) = jax.lax.scan(
        chunk, (g_h, jnp.zeros_like(a)), (x, delta, b, c, keep, borders, g_y), reverse=True
    )
    return g_x, g_delta, g_a, g_b, g_c, jnp.zeros_like(keep), g_h


_fused.defvjp(_fused_forward, _fused_backward)
