"""Maps that look at one token at a time: matrices, and the scales that frozen norms and nonlinearities are."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator, affine
from dualform.maps.causal_map import BLOCK, CausalMap


def present(x: Float[Array, "time d"], mask: Bool[Array, " time"] | None) -> Float[Array, "time d"]:
    """x with zeros where there is no token, whatever it holds there."""
    return x if mask is None else jnp.where(mask[:, None], x, jnp.zeros_like(x))


class AbstractPointwise(CausalMap):
    """A map whose outputs are each of its own token alone."""

    @property
    def pointwise(self) -> bool:
        """True."""
        return True

    def project(self, v, r, block=BLOCK):
        """On the diagonal."""
        del block
        brought = self.brought(v)
        own = jnp.einsum("td,htd->ht", brought, r.astype(brought.dtype))
        return own[:, :, None] * jnp.eye(len(v), dtype=own.dtype)[None]


class Identity(AbstractPointwise):
    """v -> v."""

    def __call__(self, v: Float[Array, "time d"]) -> Float[Array, "time d"]:
        """v."""
        return v


class Masked(AbstractPointwise):
    """v -> v, 0 where there is no token; mask: (time,), or None for all of them."""

    mask: Bool[Array, " time"] | None

    def __call__(self, v: Float[Array, "time d"]) -> Float[Array, "time d"]:
        """v where there are tokens."""
        return present(v, self.mask)


class Linear(AbstractPointwise):
    """v -> v_t W^T + b, in float32 or wider; W (d_out, d_in), b (d_out,) or None."""

    w: Float[Array, "d_out d_in"]
    b: Float[Array, " d_out"] | None = None

    def __call__(self, v: Float[Array, "time d_in"]) -> Float[Array, "time d_out"]:
        """Each token by itself."""
        return affine(v, self.w, self.b)


class Scale(AbstractPointwise):
    """v -> by * v + shift: gates, a norm's scale, a nonlinearity's ratio; by (time, d), shift broadcast to it, or None."""

    by: Float[Array, "time d"]
    shift: Float[Array, "..."] | None = None

    def __call__(self, v: Float[Array, "time d"]) -> Float[Array, "time d"]:
        """Each number by its own factor."""
        wide = accumulator(v.dtype, self.by.dtype)
        y = v.astype(wide) * self.by.astype(wide)
        return y if self.shift is None else y + self.shift.astype(wide)


class Centred(AbstractPointwise):
    """v -> v less the mean of its channels, in the dtype `wide` or wider."""

    wide: str = eqx.field(static=True)

    def __call__(self, v: Float[Array, "time d"]) -> Float[Array, "time d"]:
        """Each token less its mean."""
        v = v.astype(accumulator(v.dtype, self.wide))
        return v - jnp.mean(v, axis=-1, keepdims=True)
