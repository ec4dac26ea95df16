"""Maps that look at one token at a time: matrices, and the scales that frozen norms and nonlinearities are."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator, affine
from dualform.maps.causal_map import BLOCK, CausalMap, each_dot


def masked(map: CausalMap, mask: Bool[Array, " time"] | None) -> CausalMap:
    """The map with zeros where there is no token, in what it takes and in what it gives."""
    return map if mask is None else Masked(mask) @ map @ Masked(mask)


def present(x: Float[Array, "time *d"], mask: Bool[Array, " time"] | None) -> Float[Array, "time *d"]:
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
        own = each_dot(brought, r.astype(brought.dtype))
        return own[:, :, None] * jnp.eye(len(v), dtype=own.dtype)[None]


class Identity(AbstractPointwise):
    """v -> v."""

    def __call__(self, v: Float[Array, "time *d"]) -> Float[Array, "time *d"]:
        """v."""
        return v


class Masked(AbstractPointwise):
    """v -> v, 0 where there is no token; mask: (time,), or None for all of them."""

    mask: Bool[Array, " time"] | None

    def __call__(self, v: Float[Array, "time *d"]) -> Float[Array, "time *d"]:
        """v where there are tokens."""
        return present(v, self.mask)


class Flat(AbstractPointwise):
    """v -> v with heads side by side, (time, head * d_v)."""

    def __call__(self, v: Float[Array, "time *shape"]) -> Float[Array, "time d"]:
        """All of a token's numbers in one row."""
        return v.reshape(len(v), -1)


class Linear(AbstractPointwise):
    """v -> v_t W^T + b, in float32 or wider; W (d_out, d_in), b (d_out,) or None; heads are joined first."""

    w: Float[Array, "d_out d_in"]
    b: Float[Array, " d_out"] | None = None

    def __call__(self, v: Float[Array, "time *shape"]) -> Float[Array, "time d_out"]:
        """Each token by itself."""
        return affine(v.reshape(len(v), -1), self.w, self.b)


class Scale(AbstractPointwise):
    """v -> by * v + shift: gates, a norm's scale, a nonlinearity's ratio; by of v's shape, or 1 long where it is shared.

    shift: broadcast to the product, or None.
    """

    by: Float[Array, "..."]
    shift: Float[Array, "..."] | None = None

    def __call__(self, v: Float[Array, "time *shape"]) -> Float[Array, "time *shape"]:
        """Each number by its own factor."""
        wide = accumulator(v.dtype, self.by.dtype)
        y = v.astype(wide) * self.by.astype(wide)
        return y if self.shift is None else y + self.shift.astype(wide)


class Divided(AbstractPointwise):
    """v -> v / by; by of v's shape, or 1 long where it is shared."""

    by: Float[Array, "..."]

    def __call__(self, v: Float[Array, "time *shape"]) -> Float[Array, "time *shape"]:
        """Each number by its own divisor."""
        return v.astype(accumulator(v.dtype, self.by.dtype)) / self.by


class Held(AbstractPointwise):
    """v -> y, whatever v is: what takes nothing of it; y (time, ...)."""

    y: Float[Array, "time *shape"]

    def __call__(self, v: Float[Array, "time *d"]) -> Float[Array, "time *shape"]:
        """y."""
        return self.y


class Centred(AbstractPointwise):
    """v -> v less the mean of its channels, in the dtype `wide` or wider."""

    wide: str = eqx.field(static=True)

    def __call__(self, v: Float[Array, "time d"]) -> Float[Array, "time d"]:
        """Each token less its mean."""
        v = v.astype(accumulator(v.dtype, self.wide))
        return v - jnp.mean(v, axis=-1, keepdims=True)


class Pointwise(AbstractPointwise):
    """v -> function(v), affine, each token by itself; function: a pytree, as a module's method or `jax.tree_util.Partial` is."""

    function: Callable[[Array], Array]

    def __call__(self, v: Float[Array, "time *shape"]) -> Float[Array, "time *out"]:
        """function(v)."""
        return self.function(v)


class Along(AbstractPointwise):
    """v -> write_t (x_t . v_t) / (x_t . x_t): what a token writes that is no linear function of it follows its own direction.

    So at v = x it is the write, and without the token it is 0. What a token that is 0 writes is written whatever v is.

    **Arguments:** write (time, ...); x (time, d): the tokens at which it was made.
    """

    write: Float[Array, "time *shape"]
    x: Float[Array, "time d"]

    def __call__(self, v: Float[Array, "time d"]) -> Float[Array, "time *shape"]:
        """The write, as far as v goes along x."""
        wide = accumulator(self.x.dtype)
        x, v = self.x.astype(wide), v.astype(wide)
        # Divided by its largest entry first: the square of a small token would be 0.
        size = jnp.max(jnp.abs(x), axis=1, keepdims=True)
        unit = x / jnp.where(size == 0, jnp.ones_like(size), size)
        power = jnp.sum(unit * unit, axis=1) * size[:, 0]
        one = jnp.ones_like(power)
        part = jnp.where(power == 0, one, jnp.sum(unit * v, axis=1) / jnp.where(power == 0, one, power))
        return self.write * part.astype(self.write.dtype).reshape(-1, *[1] * (self.write.ndim - 1))


class Written(AbstractPointwise):
    """v -> J v + (f(x) - J x) along x: a function of each token frozen at x, J its slope there.

    A linear function is itself. What the slope leaves of another, a bias too, follows the token along its own direction: see
    `Along`. f is differentiated forwards.

    **Arguments:** function: a pytree, as a module's method is, (time, d) -> (time, ...); x (time, d).
    """

    function: Callable[[Array], Array]
    x: Float[Array, "time d"]

    @property
    def own(self) -> Float[Array, "time *shape"]:
        """f(x) itself: what a call carries."""
        return self.function(self.x)

    def __call__(self, v: Float[Array, "time d"]) -> Float[Array, "time *shape"]:
        """What these tokens write; at x, f(x)."""
        x = self.x.astype(accumulator(self.x.dtype))
        value, moved = jax.jvp(self.function, (x,), (x,))
        _, along = jax.jvp(self.function, (x,), (v.astype(x.dtype),))
        return along + Along(value - moved, self.x)(v)
