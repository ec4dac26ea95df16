"""A map over time, affine in what it takes, with all that chooses it as data.

    map(v) -> y             (time, d_in) -> (time, d_out)
    last @ first, a + b     are maps again

What token s brings to every output is map(v_s alone) - map(0). `columns`, `rows` and `project` read that off; here they need one
pass for each column or row. A map that knows a shorter way says so in `direct` and overrides them, and tests hold it to these.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dualform.arrays import State, accumulator

BLOCK = 32
"""Source tokens worked on at once, unless told otherwise: memory grows with it."""


class CausalMap(eqx.Module):
    """An affine map from one sequence to another."""

    @abc.abstractmethod
    def __call__(self, v: Float[Array, "time *d_in"]) -> Float[Array, "time *d_out"]:
        """The map at v, in float32 or wider."""

    def run(self, v: Float[Array, "time *d_in"]) -> tuple[Float[Array, "time *d_out"], State]:
        """The map at v, and what is remembered of v after the last token: nothing, unless a part remembers."""
        return self(v), ()

    @property
    def pointwise(self) -> bool:
        """Whether each output is of its own token alone."""
        return False

    @property
    def direct(self) -> bool:
        """Whether `project` needs no pass for each source token."""
        return self.pointwise

    def __matmul__(self, first: "CausalMap") -> "CausalMap":
        """The map that takes what `first` gives."""
        return Composed(self, first)

    def __add__(self, other: "CausalMap") -> "CausalMap":
        """The sum of what both give."""
        return Summed(self, other)

    def brought(self, v: Float[Array, "time *d_in"]) -> Float[Array, "time *d_out"]:
        """What v brings, map(v) - map(0)."""
        return self(v) - self(jnp.zeros_like(v))

    def pulled_back(
        self, v: Float[Array, "time *d_in"], r: Float[Array, "head time *d_out"]
    ) -> Float[Array, "head time *d_in"]:
        """r read backwards: sum(pulled_back(r) * v) is sum(r * brought(v))."""
        y, back = jax.vjp(self, v)
        return jax.vmap(lambda each: back(each)[0])(r.astype(y.dtype))

    def columns(
        self, v: Float[Array, "time *d_in"], sources: Int[Array, " source"], block: int | None = None
    ) -> Float[Array, "source time *d_out"]:
        """What each of these tokens brings to every output: one pass each, `block` at a time, or all at once."""
        bias = self(jnp.zeros_like(v))
        alone = lambda s: self(jnp.zeros_like(v).at[s].set(v[s])) - bias
        return jax.lax.map(alone, sources, batch_size=min(block or len(sources), len(sources)))

    def rows(
        self,
        v: Float[Array, "time *d_in"],
        targets: Int[Array, " target"],
        directions: Float[Array, "target *d_out"],
    ) -> Float[Array, "target source"]:
        """directions[i] . what each token brings to the output at targets[i]: one backward pass each, all at once."""
        y, back = jax.vjp(self, v)

        def one(asked):
            target, direction = asked
            (gradient,) = back(jnp.zeros_like(y).at[target].set(direction.astype(y.dtype)))
            return jnp.sum(gradient * v, axis=1)

        return jax.lax.map(one, (targets, directions), batch_size=len(targets))

    def project(
        self, v: Float[Array, "time *d_in"], r: Float[Array, "head time *d_out"], block: int = BLOCK
    ) -> Float[Array, "head time source"]:
        """r[h, t] . what each token brings to the output at t, `block` source tokens at a time."""
        bias = self(jnp.zeros_like(v))

        def one(s):
            alone = self(jnp.zeros_like(v).at[s].set(v[s])) - bias
            return each_dot(alone, r.astype(bias.dtype))

        found = jax.lax.map(one, jnp.arange(len(v)), batch_size=min(block, len(v)))
        return jnp.moveaxis(found, 0, 2)


def each_dot(y: Float[Array, "time *shape"], r: Float[Array, "head time *shape"]) -> Float[Array, "head time"]:
    """r[h, t] . y[t]."""
    return jnp.einsum("td,htd->ht", y.reshape(len(y), -1), r.reshape(*r.shape[:2], -1))


class Composed(CausalMap):
    """v -> last(first(v)). What a pointwise part brings, or asks, is worked out once, so that the other's shortcut stays."""

    last: CausalMap
    first: CausalMap

    def __call__(self, v: Float[Array, "time *d_in"]) -> Float[Array, "time *d_out"]:
        """One after the other."""
        return self.last(self.first(v))

    def run(self, v):
        """With what both remember, the first part's first; of one that remembers nothing, the other's alone."""
        between, first = self.first.run(v)
        y, last = self.last.run(between)
        return y, both(first, last)

    @property
    def pointwise(self) -> bool:
        """Where both are."""
        return self.last.pointwise and self.first.pointwise

    @property
    def direct(self) -> bool:
        """Where one of them is pointwise and the other direct."""
        return (self.first.pointwise and self.last.direct) or (self.last.pointwise and self.first.direct)

    def columns(self, v, sources, block=None):
        """Those of the last map, of what a pointwise first one brings."""
        if self.first.pointwise:
            return self.last.columns(self.first.brought(v), sources, block)
        return super().columns(v, sources, block)

    def project(self, v, r, block=BLOCK):
        """Through the part that is not pointwise alone, where the other is."""
        if self.first.pointwise:
            return self.last.project(self.first.brought(v), r, block)
        if self.last.pointwise:
            return self.first.project(v, self.last.pulled_back(self.first(v), r), block)
        return super().project(v, r, block)


class Summed(CausalMap):
    """v -> left(v) + right(v)."""

    left: CausalMap
    right: CausalMap

    def __call__(self, v: Float[Array, "time *d_in"]) -> Float[Array, "time *d_out"]:
        """Side by side."""
        return _added(self.left(v), self.right(v))

    def run(self, v):
        """With what both remember."""
        (left, first), (right, last) = self.left.run(v), self.right.run(v)
        return _added(left, right), both(first, last)

    @property
    def pointwise(self) -> bool:
        """Where both are."""
        return self.left.pointwise and self.right.pointwise

    @property
    def direct(self) -> bool:
        """Where both are."""
        return self.left.direct and self.right.direct

    def columns(self, v, sources, block=None):
        """The sum of both parts'."""
        return _added(self.left.columns(v, sources, block), self.right.columns(v, sources, block))

    def project(self, v, r, block=BLOCK):
        """The sum of both parts'."""
        return _added(self.left.project(v, r, block), self.right.project(v, r, block))


def both(first: State, last: State) -> State:
    """Two states as one; a pair only where there are two."""
    if isinstance(first, tuple) and not first:
        return last
    return first if isinstance(last, tuple) and not last else (first, last)


def _added(a: Array, b: Array) -> Array:
    """a + b, in the wider dtype of the two."""
    wide = accumulator(a.dtype, b.dtype)
    return a.astype(wide) + b.astype(wide)


class Called(CausalMap):
    """A map that is there as a function alone: a pytree, as `jax.tree_util.Partial` of arrays is.

    One that holds traced arrays in itself, as a lambda may, is for what is asked of it within one traced program.
    """

    function: Callable[[Array], Array]

    def __call__(self, v: Float[Array, "time *d_in"]) -> Float[Array, "time *d_out"]:
        """function(v)."""
        return self.function(v)
