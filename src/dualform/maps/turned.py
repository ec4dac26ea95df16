"""Maps of what reads from the end, and of what stands beside something else."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.maps.causal_map import CausalMap, both


class Turned(CausalMap):
    """v -> map(v from its end), from its end: of a mixer that reads backwards. It is causal in the other direction."""

    map: CausalMap

    def __call__(self, v: Float[Array, "time d_in"]) -> Float[Array, "time d_out"]:
        """The map in reverse."""
        return self.map(v[::-1])[::-1]


class Beside(CausalMap):
    """v -> (left(v), right(v)), channels of the one before those of the other."""

    left: CausalMap
    right: CausalMap

    def __call__(self, v: Float[Array, "time d_in"]) -> Float[Array, "time d_out"]:
        """Both, concatenated."""
        return jnp.concatenate([self.left(v), self.right(v)], axis=1)

    def run(self, v):
        """With what both remember."""
        (left, first), (right, last) = self.left.run(v), self.right.run(v)
        return jnp.concatenate([left, right], axis=1), both(first, last)
