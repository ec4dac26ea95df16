"""What is not finite stays in its document: past a `start` there is no trace of it, in outputs, states and gradients.

A product with 0 does not forget NaN or infinity. So tokens and states that hold one are replaced by nothing before they are
summed with others, and what comes after them in their document is NaN.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Inexact, PyTree

from dualform.arrays import TimeMask


class Contained(NamedTuple):
    """Finite numbers, and where they stand for others.

    - tokens: the parts of each token, 0 where one of them is not finite.  state: nothing, where it was not finite.
    - spoiled: (time,), True from a token that is not finite to the end of its document.
    """

    tokens: tuple[Array, ...]
    state: Any
    spoiled: Bool[Array, " time"]

    def mark(self, y: Array, mask: TimeMask | None) -> Array:
        """y, (time, ...), with NaN for the spoiled tokens that are there."""
        spoiled = self.spoiled if mask is None else self.spoiled & mask
        return jnp.where(rows(spoiled, y), jnp.full((), jnp.nan, y.dtype), y)

    def mark_state(self, state: Any) -> Any:
        """The state after the last token, NaN where that one is spoiled."""
        return jtu.tree_map(lambda a: jnp.where(self.spoiled[-1], jnp.full((), jnp.nan, a.dtype), a), state)


def contain(
    tokens: tuple[Array, ...], state: PyTree[Array], nothing: PyTree[Array], start: TimeMask, mask: TimeMask | None
) -> Contained:
    """Tokens, each (time, ...), and the state before them, without what is not finite.

    **Arguments:** nothing: the state that remembers nothing.  start: (time,), False where there is no token.  mask: as in a
    recurrence; what absent tokens hold spoils nothing.
    """
    sound = all_finite(tokens, 1)
    sound = sound if mask is None else sound | ~mask
    whole = all_finite(jtu.tree_leaves(state), 0)
    number = jnp.arange(1, len(sound) + 1, dtype=jnp.int32)
    last_start = jax.lax.cummax(jnp.where(start, number, 0))
    last_unsound = jax.lax.cummax(jnp.where(sound, -1, number))
    spoiled = jnp.maximum(last_unsound, jnp.where(whole, -1, 0)) >= last_start
    clean = tuple(jnp.where(rows(sound, a), a, jnp.zeros_like(a)) for a in tokens)
    return Contained(clean, jtu.tree_map(lambda a, none: jnp.where(whole, a, none), state, nothing), spoiled)


def all_finite(parts, axes: int) -> Bool[Array, "*first"]:
    """True where all numbers are finite, over all axes but the first `axes`."""
    sound = [jnp.all(jnp.isfinite(a), axis=tuple(range(axes, a.ndim))) for a in parts]
    return jnp.all(jnp.stack(sound), axis=0)


def rows(flags: Bool[Array, " time"], a: Array) -> Bool[Array, "time ..."]:
    """Flags over time in as many axes as `a`."""
    return flags.reshape(-1, *[1] * (a.ndim - 1))


def product(a: Inexact[Array, "*shape"], b: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """a * b, and 0 where a is exactly 0, whatever b holds."""
    return jnp.where(a == 0, jnp.zeros((), jnp.result_type(a, b)), a * b)
