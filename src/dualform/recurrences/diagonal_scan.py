"""A diagonal linear recurrence, h_t = decay_t * h_{t-1} + drive_t, with a written gradient.

`naive` is the specification: a loop that JAX differentiates by itself. `diagonal` is what mixers call. Its gradient is a
second diagonal recurrence, run backwards,

    g_t = dL/dh_t + decay_{t+1} * g_{t+1},     dL/ddrive_t = g_t,     dL/ddecay_t = g_t * h_{t-1},

so that nothing but h is kept from the forward pass. It can be differentiated again, in reverse; forward mode (`jax.jvp`,
`jax.jacfwd`, `jax.hessian`) has no written rule, and takes `form="naive"`.
"""

from functools import partial
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

from dualform.arrays import accumulator, promote
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.contained import product
from dualform.recurrences.flags import check_decay, check_flags, check_state, check_time

Form: TypeAlias = Literal["naive", "scan", "associative"]


@compiled
def naive(
    decay: Inexact[Array, "time *units"], drive: Inexact[Array, "time *units"], h0: Inexact[Array, "*units"]
) -> tuple[Inexact[Array, "time *units"], Inexact[Array, "*units"]]:
    """The specification: one step after the other, differentiated by JAX.

    **Arguments:** decay, drive (time, ...) and h0 (...), of one dtype.

    **Returns:** every h_t, (time, ...), and the last one, (...).
    """

    def step(h, inputs):
        decay_t, drive_t = inputs
        h = decay_t * h + drive_t
        return h, h

    final, h = jax.lax.scan(step, h0, (decay, drive))
    return h, final


def _check_values(decay, *rest, **options) -> None:
    del rest, options
    check_decay("decay", decay, signed=True)


@partial(compiled, before=_check_values)
def diagonal(
    decay: Inexact[Array, "..."],
    drive: Inexact[Array, "time *units"],
    h0: Inexact[Array, "*units"] | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
    form: Form | None = None,
) -> tuple[Inexact[Array, "time *units"], Inexact[Array, "*units"]]:
    """h_t = decay_t * h_{t-1} + drive_t, over the leading axis of `drive`.

    **Arguments:**

    - decay: (time, ...) or, where it does not change, (...): anything that broadcasts to `drive` or to one step of it.
    - drive: (time, ...), real or complex.
    - h0: (...), the state before the first step; zero if not given.
    - start: (time,), True where a document begins: what came before is forgotten, exactly, h0 included.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit. A `start` there is ignored.
    - reverse: run from the last step to the first. `start` then marks the first token *met* of each document.
    - form: "scan" (one step after the other, least memory traffic; the default on a CPU), "associative" (a parallel
      prefix; the default on accelerators), or "naive" (the specification).

    **Returns:** every h_t, (time, ...), in the dtype of the inputs, and the last one met, (...), in float32 or wider: sums
    are kept in float32 at the least.

    **Raises:** `InputError` where the shapes or dtypes do not fit, or there is no time step.
    """
    _check(decay, drive, h0, start, mask)
    dtype = promote(decay.dtype, drive.dtype)
    wide = accumulator(dtype)
    drive, time = drive.astype(wide), drive.shape[0]
    varies = decay.ndim == drive.ndim and decay.shape[0] == time
    if decay.ndim == drive.ndim and not varies:
        decay = decay[0]  # a time axis of one: the same decay at every step
    decay = jnp.broadcast_to(decay.astype(wide), drive.shape if varies else drive.shape[1:])
    h0 = jnp.zeros(drive.shape[1:], wide) if h0 is None else h0.astype(wide)
    decay, drive = _with_flags(decay, drive, start, mask, varies)
    chosen = choose("diagonal", ("scan", "associative", "naive"), form, time=time)
    apart = start is not None
    if chosen == "naive":
        h, final = _naive(decay, drive, h0, reverse, apart)
    else:
        h = _diagonal(chosen, reverse, apart, decay, drive, h0)
        final = h[0 if reverse else -1]
    return h.astype(dtype), final


def _check(decay, drive, h0, start, mask) -> None:
    require(drive.ndim >= 1, "drive is a single number; it needs a leading axis of time steps.")
    for name, a in (("decay", decay), ("drive", drive)):
        require(jnp.issubdtype(a.dtype, jnp.inexact), f"{name} must be real or complex floating-point; got {a.dtype}.")
    check_time(drive.shape[0])
    fits = decay.ndim <= drive.ndim and all(
        a in (1, b) for a, b in zip(decay.shape[::-1], drive.shape[::-1], strict=False)
    )
    require(
        fits,
        f"decay {decay.shape} does not broadcast to drive {drive.shape}; give (time, ...) or one step of it.",
    )
    check_state("h0", h0, drive.shape[1:])
    is_complex = lambda a: jnp.issubdtype(a.dtype, jnp.complexfloating)
    require(
        h0 is None or not is_complex(h0) or is_complex(decay) or is_complex(drive),
        "h0 is complex where decay and drive are real; its imaginary part would be lost.",
    )
    check_flags(drive.shape[0], start, mask)
    check_decay("decay", decay, signed=True)


def _with_flags(decay, drive, start, mask, varies):
    """Write the flags into the numbers: a start is a decay of 0, an absent token a decay of 1 and a drive of 0."""
    if start is None and mask is None:
        return decay, drive
    if not varies:
        decay = jnp.broadcast_to(decay, drive.shape)
    column = lambda flags: flags.reshape(-1, *[1] * (drive.ndim - 1))
    if start is not None:
        decay = jnp.where(column(start), jnp.zeros_like(decay), decay)
    if mask is not None:
        decay = jnp.where(column(mask), decay, jnp.ones_like(decay))
        drive = jnp.where(column(mask), drive, -jnp.zeros_like(drive))  # h + (-0) is h to the bit, also where h is -0
    return decay, drive


def _naive(decay, drive, h0, reverse, apart):
    decay = jnp.broadcast_to(decay, drive.shape)
    run = _naive_apart if apart else naive
    if not reverse:
        return run(decay, drive, h0)
    h, final = run(decay[::-1], drive[::-1], h0)
    return h[::-1], final


def _naive_apart(decay, drive, h0):
    """`naive` where a decay of 0 forgets NaN and infinity, too, and no gradient passes through them."""

    def step(h, inputs):
        decay_t, drive_t = inputs
        h = jnp.where(decay_t == 0, jnp.zeros_like(h), h)
        sound = jnp.isfinite(h) & jnp.isfinite(decay_t) & jnp.isfinite(drive_t)
        clean = lambda a: jnp.where(sound, a, jnp.zeros_like(a))
        unsound = jax.lax.stop_gradient(decay_t * h + drive_t)
        h = jnp.where(sound, clean(decay_t) * clean(h) + clean(drive_t), unsound)
        return h, h

    final, h = jax.lax.scan(step, h0, (decay, drive))
    return h, final


def _forward(form, reverse, apart, decay, drive, h0) -> Array:
    """Every h_t; decay has the shape of drive, or of one step of it where it does not change.

    apart: a decay of 0 forgets NaN and infinity, too.
    """
    varies, times = decay.ndim == drive.ndim, product if apart else jnp.multiply
    if form == "associative":
        decay = jnp.broadcast_to(decay, drive.shape)
        first = -1 if reverse else 0
        drive = drive.at[first].add(times(decay[first], h0))

        def join(left, right):
            return times(right[0], left[0]), times(right[0], left[1]) + right[1]

        return jax.lax.associative_scan(join, (decay, drive), reverse=reverse)[1]

    def step(h, inputs):
        decay_t, drive_t = inputs if varies else (decay, inputs)
        h = times(decay_t, h) + drive_t
        return h, h

    return jax.lax.scan(step, h0, (decay, drive) if varies else drive, reverse=reverse)[1]


_diagonal = jax.custom_vjp(_forward, nondiff_argnums=(0, 1, 2))


def _diagonal_fwd(form, reverse, apart, decay, drive, h0):
    h = _forward(form, reverse, apart, decay, drive, h0)
    return h, (decay, h0, h)


def _diagonal_bwd(form, reverse, apart, saved, dh):
    decay, h0, h = saved
    zero = jnp.zeros_like(h0)
    times = product if apart else jnp.multiply
    if apart:  # nothing comes back through what is not finite
        decay = jnp.where(jnp.isfinite(decay), decay, jnp.zeros_like(decay))
    if form == "scan" and decay.ndim < h.ndim:
        return _constant_bwd(reverse, decay, h0, h, dh)
    if form == "scan":

        def step(carried, inputs):
            decay_t, dh_t = inputs
            g = dh_t + carried
            return decay_t * g, g

        h0_bar, drive_bar = jax.lax.scan(step, zero, (decay, dh), reverse=not reverse)
    else:
        decays, last = jnp.broadcast_to(decay, h.shape), jnp.zeros_like(h[:1])
        following = jnp.concatenate([last, decays[:-1]] if reverse else [decays[1:], last])
        drive_bar = _forward(form, not reverse, apart, following, dh, zero)
        h0_bar = decays[-1 if reverse else 0] * drive_bar[-1 if reverse else 0]
    if reverse:
        decay_bar = jnp.concatenate([times(drive_bar[:-1], h[1:]), times(drive_bar[-1:], h0[None])])
    else:
        decay_bar = jnp.concatenate([times(drive_bar[:1], h0[None]), times(drive_bar[1:], h[:-1])])
    return decay_bar if decay.ndim == h.ndim else decay_bar.sum(axis=0), drive_bar, h0_bar


def _constant_bwd(reverse, decay, h0, h, dh):
    """The gradient where the decay does not change: its own part is summed on the way, so that h is read only once."""

    def step(carried, inputs):
        g, decay_bar = carried
        h_t, dh_t = inputs
        decay_bar = decay_bar + g * h_t
        g = dh_t + decay * g
        return (g, decay_bar), g

    zero = jnp.zeros_like(h0)
    (g, decay_bar), drive_bar = jax.lax.scan(step, (zero, zero), (h, dh), reverse=not reverse)
    return decay_bar + g * h0, drive_bar, decay * g


_diagonal.defvjp(_diagonal_fwd, _diagonal_bwd)
