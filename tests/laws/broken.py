"""Mixers that each break one law on purpose, in a way that has happened to somebody."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr

from dualform.arrays import project
from dualform.maps import AttentionMap, CausalMap, Frozen, Memory
from dualform.mixers import AbstractMixer, SideGatedRNN
from dualform.segments import Segments


class Around(AbstractMixer):
    """The inner mixer, unbroken; the others each change one thing."""

    inner: AbstractMixer
    linear_given_gates: ClassVar[bool] = True

    @property
    def d_in(self) -> int:
        return self.inner.d_in

    def init_state(self) -> Any:
        return self.inner.init_state()

    def at(self, x, state, segments) -> Frozen:
        return self.inner.at(x, state, segments)


class StaleCarry(Around):
    """Returns the state from before the last token."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        return Frozen(y, super().at(x[:-1], state, Segments()).state if len(x) > 1 else final, map)


class ReadsBeforeUpdate(Around):
    """Reads the state one token late when it runs in parallel, as the paper's Eq. 2 is printed."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        return Frozen(jnp.concatenate([jnp.zeros_like(y[:1]), y[:-1]]) if len(x) > 1 else y, final, map)


class SeesTheFuture(Around):
    """Centres its outputs over time."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        return Frozen(y - y.mean(axis=0, keepdims=True), final, map)


class DropsBias(Around):
    """Its output has a bias that its dual form does not know."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        return Frozen(y + 0.1, final, map)


class ForgetsTheStateInItsMap(Around):
    """Its map starts from nothing, whatever the state."""

    def at(self, x, state, segments):
        return super().at(x, state, segments)._replace(map=super().at(x, self.init_state(), segments).map)


class Squared(CausalMap):
    """v -> map(v) + map(v)^2."""

    map: CausalMap

    def __call__(self, v):
        y = self.map(v)
        return y + y * y


class NotAffine(Around):
    """Its map is quadratic in what it carries, and it gives what the map gives."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        return Frozen(y + y * y, final, Squared(map))


class AcausalMemory(Memory):
    """Gives scalar maps that forget the triangle."""

    memory: Memory

    def run(self, v):
        return self.memory.run(v)

    def weights(self):
        return jnp.ones_like(self.memory.weights())

    def spread(self, v):
        return self.memory.spread(v)


class AcausalWeights(Around):
    """Its closed-form map, of an inner mixer that has one, forgets the triangle."""

    def at(self, x, state, segments):
        frozen = super().at(x, state, segments)
        assert isinstance(frozen.map, AttentionMap)
        return frozen._replace(map=dataclasses.replace(frozen.map, memory=AcausalMemory(frozen.map.memory)))


class IgnoresMask(Around):
    """Decays where there is no token."""

    def at(self, x, state, segments):
        return super().at(x, state, Segments(segments.start))


class MovesTheState(Around):
    """Multiplies the state by one plus a rounding error where there is no token."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        moved = 1.0 if segments.mask is None else 1.0 + 4e-16 * jnp.sum(~segments.mask).astype(float)
        return Frozen(y, jax.tree_util.tree_map(lambda s: s * moved, final), map)


class IgnoresStart(Around):
    """Reads on across the border between documents."""

    def at(self, x, state, segments):
        return super().at(x, state, Segments(None, segments.mask))


class LeaksThroughStart(Around):
    """Its reset is a large negative log decay, not a zero: 1e-6 of the past comes through."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        through = super().at(x, state, Segments(None, segments.mask)).y
        return Frozen(y + 1e-6 * (through - y), final, map)


class GradientThroughStart(Around):
    """Its values are right, but the gradient crosses the border between documents."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        through = super().at(x, state, Segments(None, segments.mask)).y
        return Frozen(y + through - jax.lax.stop_gradient(through), final, map)


class StartsAtAbsentTokens(Around):
    """Lets a document begin at a token that is not there: the state is forgotten."""

    def checked(self, x, state, start, mask):
        return *super().checked(x, state, start, mask)[:2], Segments(start, mask)

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        start, mask = segments.start, segments.mask
        if start is None or mask is None:
            return Frozen(y, final, map)
        return Frozen(y, jnp.where(jnp.any(start & ~mask), jnp.zeros_like(final), final), map)


class NormOfZero(Around):
    """Divides by a norm whose gradient at 0 is NaN: absent tokens, which are zeros, poison the weights' gradients."""

    def at(self, x, state, segments):
        assert isinstance(self.inner, SideGatedRNN)
        y, final, map, *_ = super().at(x, state, segments)
        projected = project(x, self.inner.w_m_in)
        return Frozen(y / (1 + jnp.sqrt(jnp.sum(projected**2, axis=-1, keepdims=True))), final, map)


class SumsInTheDtypeOfWeights(Around):
    """Keeps a running sum in the dtype of its weights: in bfloat16 it stops growing."""

    def at(self, x, state, segments):
        assert isinstance(self.inner, SideGatedRNN)
        map, value, dtype = super().at(x, state, segments).map, self.inner.value(x), self.inner.readout.dtype

        def add(h, v):
            h = h + v
            return h, h

        final, h = jax.lax.scan(add, state.astype(dtype), value.astype(dtype))
        gate = project(x, self.inner.w_side)
        return Frozen(project(h.astype(gate.dtype) * gate, self.inner.readout), final.astype(gate.dtype), map)


class DividesByDecays(Around):
    """Computes h as a ratio of cumulative products, which underflow."""

    def at(self, x, state, segments):
        assert isinstance(self.inner, SideGatedRNN)
        map = super().at(x, state, segments).map
        products = jnp.cumprod(jnp.broadcast_to(self.inner.decay[None], (len(x), len(self.inner.decay))), axis=0)
        h = products * jnp.cumsum(self.inner.value(x) / products, axis=0)
        return Frozen(project(h * project(x, self.inner.w_side), self.inner.readout), h[-1], map)


class CutsTheGradientOfTheState(Around):
    """Takes the carried state as a constant: its values are right, training across calls is not."""

    def at(self, x, state, segments):
        return super().at(x, jax.lax.stop_gradient(state), segments)


class Drifts(Around):
    """Adds up its own rounding: each token moves what comes after by 1e-9 more."""

    def at(self, x, state, segments):
        y, final, map, *_ = super().at(x, state, segments)
        low = 1e-9 if x.dtype == jnp.float32 else 0.0
        return Frozen(y * (1 + low * jnp.arange(len(y), dtype=y.dtype))[:, None], final, map)


class MixesTheBatch(Around):
    """Has a batching rule that gives every sequence the first one's answer."""

    def at(self, x, state, segments):
        @jax.custom_batching.custom_vmap
        def scale(y):
            return y

        @scale.def_vmap
        def rule(axis_size, in_batched, y):
            return jnp.broadcast_to(y[:1], y.shape), True

        y, final, map, *_ = super().at(x, state, segments)
        return Frozen(scale(y), final, map)


class StateOfKeys(Around):
    """Keeps a typed random key in its state, which no file of plain arrays can hold."""

    def init_state(self) -> Any:
        return jr.key(0), self.inner.init_state()

    def at(self, x, state, segments):
        y, final, map, *_ = self.inner.at(x, state[1], segments)
        return Frozen(y, (state[0], final), map)
