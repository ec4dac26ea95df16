"""The stages of a model that are neither blocks, mixers nor norms: what stands before, between and behind them.

A model is, from the activations of its tokens to its outputs, a chain of named stages (`model.stages()`), each (time, d_in)
-> (time, d_out). Every stage says itself how it is frozen: `frozen(x, state, start, mask)` gives its output, the state after the
last token, the map that it is once all that chooses it is frozen at x, and what was frozen (`maps.Frozen`).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, accumulator, affine
from dualform.errors import require
from dualform.maps import LINEAR, NONLINEAR, Called, CausalMap, Frozen, Linear, Scale, present
from dualform.maps.frozen import Kind
from dualform.mixers import AbstractMixer
from dualform.mixers.affine import check_affine
from dualform.mixers.declared import optional_array
from dualform.mixers.freezing import tanh_slope
from dualform.models.block import check_state
from dualform.models.tokenwise import AbstractTokenwise
from dualform.recurrences.diagonal import diagonal


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

    def __call__(self, x: Float[Array, "time d_in"]) -> Float[Array, "time d_out"]:
        """Each token by itself, in float32 or wider."""
        y = affine(x, self.w, self.b)
        return y if self.softcap is None else self.softcap * jnp.tanh(y / self.softcap)

    @property
    def kind(self) -> Kind:
        """Without a softcap nothing is frozen."""
        return LINEAR if self.softcap is None else NONLINEAR

    def map_at(self, x: Float[Array, "time d_in"]) -> CausalMap:
        """Itself; a softcap keeps its ratio tanh(v / c) / (v / c)."""
        linear = Linear(self.w, self.b)
        return linear if self.softcap is None else Scale(tanh_slope(linear(x) / self.softcap)) @ linear


class Alone(eqx.Module):
    """A single mixer as a model of one stage."""

    mixer: AbstractMixer

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.mixer.d_in

    def init_state(self) -> State:
        """The mixer's own, as the one of one stage."""
        return (self.mixer.init_state(),)

    def __call__(
        self,
        x: Float[Array, "time d_in"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time d_out"], State]:
        """The mixer's own call."""
        y, after = self.mixer(x, None if state is None else state[0], start=start, mask=mask)
        return y, (after,)

    def stages(self) -> tuple[tuple[str, Any], ...]:
        """The mixer."""
        return (("mixer", self.mixer),)


class Pool(eqx.Module):
    """y_t = the mean of the document's tokens so far, or its last token so far: what a `SequenceModel` reads at each token.

    **Arguments:** width: d; pool: "mean" or "last"; dtype: of the weights around it. Its state is the sum (or the last) of the
    tokens, in float32 or wider, and how many there were.
    """

    width: int = eqx.field(static=True)
    pool: str = eqx.field(default="mean", static=True)
    dtype: Any = eqx.field(default=float, static=True)

    def __check_init__(self):
        require(self.pool in ("mean", "last"), f"there is no pool {self.pool!r}; there are mean and last.")

    def init_state(self) -> State:
        """Nothing read: 0, (d,), and 0."""
        return jnp.zeros(self.width, accumulator(jnp.dtype(self.dtype))), jnp.zeros((), jnp.int32)

    def __call__(
        self, x: Float[Array, "time d"], state: State | None = None, *, start: Any = None, mask: Any = None
    ) -> tuple[Float[Array, "time d"], State]:
        """The pooled tokens so far, (time, d), in the dtype of the state, 0 where there is no token; and the state."""
        y, state, *_ = self.frozen(x, state, start, mask)
        return y, state

    def frozen(
        self, x: Float[Array, "time d"], state: State | None = None, start: Any = None, mask: Any = None
    ) -> Frozen:
        """See the module; nothing is frozen."""
        total, seen = self.init_state() if state is None else state
        wide = total.dtype
        keep = jnp.ones((1,), wide) if self.pool == "mean" else jnp.zeros((1,), wide)
        run = lambda drive, before, keep: diagonal(keep, drive, before, start=start, mask=mask)
        ones = jnp.ones((len(x), 1), wide)
        count, last = run(ones, seen.astype(wide)[None], jnp.ones((1,), wide))
        count = jnp.maximum(count, jnp.ones_like(count)) if self.pool == "mean" else jnp.ones_like(count)
        summed = lambda other: run(present(other.astype(wide), mask), total, keep)
        mean = lambda other: present(summed(other)[0] / count, mask)
        return Frozen(mean(x), (summed(x)[1], last[0].astype(seen.dtype)), Called(mean), LINEAR)


def stage_states(model: Any, state: State | None = None) -> tuple[State | None, ...]:
    """The state of each of a model's stages, of the model's own; None for a stage that remembers nothing.

    **Arguments:** state: as `model.init_state()` gives it, which is taken if none is given.

    **Raises:** `InputError` for a state of another structure.
    """
    if state is not None:
        check_state(model, state, "model")
    given: Any = model.init_state() if state is None else state
    stages = [stage for _, stage in model.stages()]
    if any(isinstance(stage, Pool) for stage in stages):
        states, pooled = given
        given = (*states, pooled)
    left = iter(given)
    return tuple(next(left) if hasattr(stage, "init_state") else None for stage in stages)


def joined_states(model: Any, states: Sequence[State]) -> State:
    """The state of a model, as its call returns it, of those of its stages: the inverse of `stage_states`."""
    own = tuple(state for (_, stage), state in zip(model.stages(), states, strict=True) if hasattr(stage, "init_state"))
    return (own[:-1], own[-1]) if any(isinstance(stage, Pool) for _, stage in model.stages()) else own
