"""Tokens that are there, moved together: how what looks back k tokens passes over the ones that are not."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from dualform.arrays import TimeMask


class Compaction(NamedTuple):
    """Where each token goes when those that are there move to the front, in order.

    - present: (time,), which tokens are there.
    - place: (time,), the row of each token among those that are there; of the last one before it where it is not.
    """

    present: Bool[Array, " time"]
    place: Int[Array, " time"]

    @property
    def count(self) -> Int[Array, ""]:  # pyright: ignore[reportIncompatibleMethodOverride] - nobody counts in the tuple
        """How many tokens are there."""
        return jnp.sum(self.present.astype(jnp.int32))

    def pack(self, a: Shaped[Array, "time *rest"]) -> Shaped[Array, "time *rest"]:
        """The rows that are there, in front; zeros (False) behind. What absent rows hold, NaN included, is not read."""
        destination = jnp.where(self.present, self.place, len(self.place))
        return jnp.zeros_like(a).at[destination].set(a, mode="drop")

    def unpack(self, a: Shaped[Array, "time *rest"]) -> Shaped[Array, "time *rest"]:
        """Packed rows back in their places; zeros (False) where there is no token."""
        there = self.present.reshape(-1, *[1] * (a.ndim - 1))
        return jnp.where(there, a[self.place], jnp.zeros_like(a))


def compact(mask: TimeMask) -> Compaction:
    """The compaction of a mask over time, (time,), True where there is a token."""
    return Compaction(mask, jnp.maximum(jnp.cumsum(mask.astype(jnp.int32)) - 1, 0))
