"""A mixer's map: its context frozen, and the values of other tokens passed through `mix`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, accumulator
from dualform.compiled import compiled
from dualform.maps import CausalMap, present
from dualform.maps.causal_map import BLOCK

if TYPE_CHECKING:
    from dualform.mixers.mixer import AbstractMixer

MOST_HEADS = 64
"""Up to so many maps of a mixer's own are made and shown as they are; of more (channel by channel), one aggregate is."""

MOST_READ = 16
"""Of a closed form of so many maps shares are read; one for each of many channels is no shorter than a pass for each token."""

MOST_NUMBERS = 2**27
"""Of a closed form that is made to read shares off it: half a gigabyte of float32."""

OWN_COLUMNS = ("tokens", "values")
"""Where a column of a closed form is all that one token brings; what a convolution made is of several."""


class MixerMap(CausalMap):
    """x' -> mix(context, v(x')), with the context frozen at x, and v(x) the values themselves.

    A value that is not linear in its token follows it by its slope J_s at x_s; what J_s x_s leaves of the value follows the
    token along its own direction, v_s(x') = J_s x'_s + (v_s - J_s x_s) (x_s . x'_s) / (x_s . x_s). So what a token brings
    is all of its value, as in `dual_form`, and a linear value is itself. The value of a token that is 0 is bias.

    `mix` is never differentiated forwards: its recurrences have no such rule.

    **Arguments:** x, state, start, mask: as `AbstractMixer.checked` gives them; context: of that call; rest: v_s - J_s x_s; unit:
    x_s over its largest entry; power: x_s . unit_s.
    """

    mixer: "AbstractMixer"
    context: Any
    x: Float[Array, "time d_in"]
    state: State
    start: Bool[Array, " time"] | None
    mask: Bool[Array, " time"] | None
    rest: Any
    unit: Float[Array, "time d_in"]
    power: Float[Array, " time"]

    @classmethod
    def of(cls, mixer: "AbstractMixer", x: Any, state: Any, start: Any, mask: Any) -> "MixerMap":
        """The map of a call with these arguments."""
        x, state, start, mask = mixer.checked(x, state, start, mask)
        wide = x.astype(accumulator(x.dtype))
        value, moved = jax.jvp(mixer.value, (wide,), (wide,))
        # Divided by its largest entry first: the square of a small token would be 0.
        size = jnp.max(jnp.abs(wide), axis=1, keepdims=True)
        unit = wide / jnp.where(size == 0, jnp.ones_like(size), size)
        rest, power = jtu.tree_map(jnp.subtract, value, moved), jnp.sum(unit * unit, axis=1) * size[:, 0]
        return cls(mixer, _context(mixer, x, state, start, mask), x, state, start, mask, rest, unit, power)

    def __call__(self, v: Float[Array, "time d_in"]) -> Float[Array, "time d_out"]:
        """The outputs alone."""
        return present(self.run(v)[0], self.mask)

    def run(self, v: Float[Array, "time d_in"]) -> tuple[Float[Array, "time d_out"], State]:
        """The outputs and the last state."""
        return _mixed(self.mixer, self.context, self.values(v), self.state, self.start, self.mask)

    def values(self, v: Float[Array, "time d_in"]) -> Any:
        """What these tokens bring as values, affine in them."""
        v = present(v, self.mask).astype(self.unit.dtype)
        _, along = jax.jvp(self.mixer.value, (self.x.astype(v.dtype),), (v,))
        one = jnp.ones_like(self.power)
        part = jnp.sum(self.unit * v, axis=1) / jnp.where(self.power == 0, one, self.power)
        part = jnp.where(self.power == 0, one, part)
        own = lambda rest, a: a + rest * part.astype(rest.dtype).reshape(-1, *[1] * (rest.ndim - 1))
        return jtu.tree_map(own, self.rest, along)

    @property
    def has_closed_form(self) -> bool:
        """Whether columns are read off the mixer's own weights: where these are over single tokens, and not too many."""
        if self.mixer.over not in OWN_COLUMNS:
            return False
        like = jax.eval_shape(self.mixer.weights, self.x, self.state, self.start, self.mask)
        return like is not None and len(like) <= MOST_READ and like.size <= MOST_NUMBERS

    @property
    def direct(self) -> bool:
        """Where there is a closed form."""
        return self.has_closed_form

    def columns(self, v, sources):
        """Read off the closed form, where there is one: no recurrence runs for a token."""
        if not self.has_closed_form:
            return super().columns(v, sources)
        weights, carried = self._closed_form(v)
        return jax.lax.map(self.column_of(weights, carried), sources, batch_size=len(sources))

    def column_of(self, weights, carried) -> Callable[[Array], Array]:
        """What a token brings, (time, d_out), as a function of its number, read off a closed form."""
        wide = accumulator(weights.dtype, carried.dtype)
        return lambda s: self._read_out(weights[:, :, s].T.astype(wide)[:, :, None] * carried[s].astype(wide)[None])

    def project(self, v, r, block=BLOCK):
        """From the closed form, where there is one: matrix products alone, a head after the other."""
        if not self.has_closed_form:
            return super().project(v, r, block)
        weights, carried = self._closed_form(v)
        read, back = jax.vjp(self._read_out, jnp.zeros((len(v), *carried.shape[1:]), carried.dtype))
        asked = jax.vmap(lambda each: back(each)[0])(r.astype(read.dtype))  # (head of r, time, head, width)

        def add(total, of_head):
            weight, brought, wanted = of_head
            return total + jnp.einsum("rtw,sw->rts", wanted, brought) * weight[None], None

        wide = accumulator(weights.dtype, carried.dtype)
        weights, carried, asked = (a.astype(wide) for a in (weights, carried, asked))
        total = jnp.zeros((len(r), len(v), len(v)), wide)
        return jax.lax.scan(add, total, (weights, jnp.moveaxis(carried, 1, 0), jnp.moveaxis(asked, 2, 0)))[0]

    def _closed_form(self, v) -> tuple[Float[Array, "head time source"], Float[Array, "source head width"]]:
        """The mixer's weights, and what they are to multiply: that of v."""
        weights = self.mixer.weights(self.x, self.state, self.start, self.mask)
        assert weights is not None
        brought = jtu.tree_map(jnp.subtract, self.values(v), self.values(jnp.zeros_like(v)))
        return weights, self.mixer.carried(self.context, brought, self.start, self.mask)

    def _read_out(self, o: Float[Array, "time head width"]) -> Float[Array, "time d_out"]:
        """What the maps read, joined, 0 where there is no token."""
        return present(self.mixer.read_out(self.context, o), self.mask)


@compiled
def _context(mixer: "AbstractMixer", x, state, start, mask) -> Any:
    return mixer.context(x, state, start, mask)


@compiled
def _mixed(mixer: "AbstractMixer", context, value, state, start, mask) -> tuple[Array, State]:
    return mixer.mix(context, value, state, start, mask)
