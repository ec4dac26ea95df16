"""What freezing a nonlinearity needs: a function's slope through 0, and the last token that was there."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def tanh_slope(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """tanh(x) / x, 1 at 0: times x, it is tanh(x)."""
    small = jnp.abs(x) < 1e-4  # tanh(x) / x = 1 - x^2 / 3 there, to 1e-17; its gradient is finite at 0
    safe = jnp.where(small, jnp.ones_like(x), x)
    return jnp.where(small, 1 - x * x / 3, jnp.tanh(safe) / safe)


def last_present(
    h: Float[Array, "time n"], before: Float[Array, " n"], mask: Bool[Array, " time"] | None
) -> Float[Array, " n"]:
    """The row of the last token that is there; `before` where there is none."""
    if mask is None:
        return h[-1]
    last = len(mask) - 1 - jnp.argmax(mask[::-1])
    return jnp.where(jnp.any(mask), h[last], before)
