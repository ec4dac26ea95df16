"""The stages of a model that are neither blocks, mixers nor norms: what stands before, between and behind them."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dualform.arrays import State, accumulator
from dualform.errors import require
from dualform.layer import Layer
from dualform.maps import LINEAR, NONLINEAR, CausalMap, Diagonal, Divided, Frozen, Linear, Scale
from dualform.maps.frozen import Kind
from dualform.mixers import AbstractMixer
from dualform.mixers.declared import optional_array
from dualform.mixers.freezing import tanh_slope
from dualform.models.affine import check_affine
from dualform.models.model import AbstractModel, Stages
from dualform.models.tokenwise import AbstractTokenwise
from dualform.segments import Segments


class Affine(AbstractTokenwise):
    """y_t = W x_t + b; with a softcap c, y_t = c tanh((W x_t + b) / c).

    The softcap is frozen at its ratio tanh(v / c) / (v / c).

    **Arguments:** w (d_out, d_in); b (d_out,), or None; softcap: above 0, or None.

    **Raises:** `InputError` where the shapes do not fit.
    """

    w: Float[Array, "d_out d_in"] = eqx.field(converter=jnp.asarray)
    b: Float[Array, " d_out"] | None = eqx.field(default=None, converter=optional_array)
    softcap: float | None = eqx.field(default=None, static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("w",)

    def __check_init__(self):
        require(self.w.ndim == 2, f"w has shape {self.w.shape}; it must be (d_out, d_in).")
        check_affine("stage", self.w, self.b, *self.w.shape)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w.shape[1]

    @property
    def d_out(self) -> int:
        """Width of an output."""
        return len(self.w)

    @property
    def kind(self) -> Kind:
        """Without a softcap nothing is frozen."""
        return LINEAR if self.softcap is None else NONLINEAR

    def at(self, x, state, segments):
        """Itself; a softcap keeps its ratio tanh(v / c) / (v / c)."""
        linear = Linear(self.w, self.b)
        y = linear(x)
        if self.softcap is None:
            return Frozen(y, state, linear)
        slope = Scale(tanh_slope(y / self.softcap))
        return Frozen(self.softcap * jnp.tanh(y / self.softcap), state, slope @ linear)


class Readout(Affine):
    """An `Affine` whose outputs stay in float32 or wider, as logits do."""

    @property
    def wide(self) -> bool:
        """True."""
        return True


class ReLU(AbstractTokenwise):
    """y_t = max(x_t, 0). Frozen, the open set stays.

    **Arguments:** width: d.
    """

    width: int = eqx.field(static=True)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.width

    def at(self, x, state, segments):
        """The open set."""
        return Frozen(jnp.maximum(x, jnp.zeros_like(x)), state, Scale((x > 0).astype(x.dtype)))


class Alone(AbstractModel):
    """A single mixer as a model of one stage."""

    mixer: AbstractMixer

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.mixer.d_in

    def stages(self) -> Stages:
        """The mixer."""
        return (("mixer", self.mixer),)


class Pool(Layer):
    """y_t = the mean of the document's tokens so far, or its last token so far: what a `SequenceModel` reads at each token.

    **Arguments:** width: d; pool: "mean" or "last"; dtype: of the weights around it. Its state is the sum (or the last) of the
    tokens, in float32 or wider, and how many there were.
    """

    width: int = eqx.field(static=True)
    pool: str = eqx.field(default="mean", static=True)
    dtype: Any = eqx.field(default=float, static=True)

    def __check_init__(self):
        require(self.pool in ("mean", "last"), f"there is no pool {self.pool!r}; there are mean and last.")

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.width

    def init_state(self) -> State:
        """Nothing read: 0, (d,), and 0."""
        return jnp.zeros(self.width, accumulator(jnp.dtype(self.dtype))), jnp.zeros((), jnp.int32)

    def at(self, x, state, segments):
        """Sums that are divided by how many tokens there were; nothing is frozen."""
        whole = self.map_at(len(x), state, segments)
        y, after = whole.run(x)
        return Frozen(y, (after, self._counts(len(x), state[1], segments)[-1]), whole)

    def map_at(self, time: int, state: State, segments: Segments) -> CausalMap:
        """The map that it is, whatever it reads."""
        total, seen = state
        keep = (jnp.ones if self.pool == "mean" else jnp.zeros)((1,), total.dtype)
        one = jnp.ones((), total.dtype)
        count = jnp.maximum(self._counts(time, seen, segments).astype(total.dtype), one) if self.pool == "mean" else one
        return Divided(count.reshape(-1, 1)) @ Diagonal(keep, total, segments)

    def _counts(self, time: int, seen: Int[Array, ""], segments: Segments) -> Int[Array, " time"]:
        """How many tokens of the document there were, each counted in."""
        here = jnp.ones(time, bool) if segments.mask is None else segments.mask
        read = jnp.cumsum(here, dtype=jnp.int32)
        begun = jnp.zeros(time, bool) if segments.start is None else segments.start & here
        before = jax.lax.cummax(jnp.where(begun, read - 1, -seen))
        return read - before

    def last(self, x: Float[Array, "time d"], state: State, segments: Segments) -> tuple[Float[Array, " d"], State]:
        """The last of its outputs, by one sum, and the state."""
        (total, count), start, mask = state, segments.start, segments.mask
        here = jnp.ones(len(x), bool) if mask is None else mask
        begun = jnp.zeros(len(x), bool) if start is None else start & here
        document = jnp.cumsum(begun.astype(jnp.int32))
        own = here & (document == document[-1])
        fresh = document[-1] > 0
        total = jnp.where(fresh, jnp.zeros_like(total), total)
        count = jnp.where(fresh, jnp.zeros_like(count), count) + jnp.sum(own, dtype=jnp.int32)
        x = x.astype(total.dtype)
        if self.pool == "mean":
            total = total + jnp.sum(jnp.where(own[:, None], x, jnp.zeros_like(x)), axis=0)
            return total / jnp.maximum(count, 1).astype(total.dtype), (total, count)
        place = len(x) - 1 - jnp.argmax(own[::-1])
        total = jnp.where(jnp.any(own), x[place], total)
        return total, (total, count)
