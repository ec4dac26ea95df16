"""Rotary position embedding, and the positions of tokens within their documents."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import TimeMask
from dualform.errors import require


def positions(
    time: int, before: Int[Array, ""], start: TimeMask | None, mask: TimeMask | None
) -> tuple[Int[Array, " time"], Int[Array, ""]]:
    """The place of each token in its document, from 0, counting those that are there; and that of the next one.

    **Arguments:** before: how many tokens of the first document came before.
    """
    present = jnp.ones(time, jnp.int32) if mask is None else mask.astype(jnp.int32)
    count = jnp.cumsum(present) - 1
    if start is None:
        return count + before, before + count[-1] + 1
    start = start if mask is None else start & mask
    first = jax.lax.cummax(jnp.where(start, count, -before))
    return count - first, count[-1] + 1 - first[-1]


def goes_on(time: int, start: TimeMask | None) -> Bool[Array, " time"]:
    """Whether each token is of the document that was there before the call; starts where no token is are left out already."""
    return jnp.ones(time, bool) if start is None else jnp.cumsum(start.astype(jnp.int32)) == 0


def rotate(
    x: Float[Array, "time head d"],
    positions: Int[Array, " time"],
    base: float = 10000.0,
    *,
    width: int | None = None,
    interleaved: bool = False,
) -> Float[Array, "time head d"]:
    """Each pair of channels i turned by positions * base^(-2 i / width): dot products then depend on distances alone.

    **Arguments:** width: how many of the first channels are turned, an even number; all if not given. interleaved: pairs are
    (0, 1), (2, 3), ...; else (0, width / 2), (1, width / 2 + 1), ...

    **Raises:** `InputError` for an odd width, or one beyond d.

    **Source:** Su et al. 2021 (arXiv 2104.09864).
    """
    width = x.shape[-1] if width is None else width
    require(
        width % 2 == 0 and width <= x.shape[-1],
        f"{width} of {x.shape[-1]} channels cannot be turned: they go in pairs.",
    )
    turned, rest = x[..., :width], x[..., width:]
    angle = angles(positions, base ** (np.arange(width // 2) * (-2 / width)), x.dtype)[:, None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    if interleaved:
        a, b = turned[..., ::2], turned[..., 1::2]
        turned = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(turned.shape)
    else:
        a, b = jnp.split(turned, 2, axis=-1)
        turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return jnp.concatenate([turned, rest], axis=-1)


def angles(positions: Int[Array, " time"], frequency: Float[np.ndarray, " n"], dtype: Any) -> Float[Array, "time n"]:
    """positions * frequency in radians, less whole turns, to the last digits of `dtype` however far the position.

    A float32 product is off by 0.004 at 65,536 radians. Here the turns of one position are a binary fraction of 64 digits:
    with the upper 32, whole turns overflow out of an integer product.
    """
    turns = np.asarray(frequency, np.longdouble) / (2 * np.longdouble("3.14159265358979323846"))
    upper = np.floor((turns % 1) * 2.0**32)
    lower = (turns % 1) * 2.0**32 - upper
    p = positions.astype(jnp.uint32)[:, None]
    fraction = (p * jnp.asarray(upper.astype(np.uint32))[None]).astype(jnp.int32).astype(dtype)
    rest = p.astype(dtype) * jnp.asarray(lower.astype(np.float64), dtype)[None]
    return (fraction + rest) * (2 * np.pi * 2.0**-32)
