"""Mixers that each break one law on purpose, in a way that has happened to somebody."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr

from dualform.arrays import project
from dualform.mixers import AbstractMixer, SideGatedRNN


class Around(AbstractMixer):
    """The inner mixer, unbroken; the others each change one thing."""

    inner: AbstractMixer
    linear_given_gates: ClassVar[bool] = True

    @property
    def d_in(self) -> int:
        return self.inner.d_in

    def init_state(self) -> Any:
        return self.inner.init_state()

    def context(self, x, state, start, mask):
        return self.inner.context(x, state, start, mask)

    def value(self, x):
        return self.inner.value(x)

    def mix(self, context, value, state, start, mask):
        return self.inner.mix(context, value, state, start, mask)

    def weights(self, x, state, start, mask):
        return self.inner.weights(x, state, start, mask)

    @property
    def over(self):
        return self.inner.over

    def carried(self, context, value, start, mask):
        return self.inner.carried(context, value, start, mask)

    def read_out(self, context, o):
        return self.inner.read_out(context, o)


class StaleCarry(Around):
    """Returns the state from before the last token."""

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        return y, super().forward(x[:-1], state, None, None)[1] if len(x) > 1 else final


class ReadsBeforeUpdate(Around):
    """Reads the state one token late when it runs in parallel, as the paper's Eq. 2 is printed."""

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        return (jnp.concatenate([jnp.zeros_like(y[:1]), y[:-1]]) if len(x) > 1 else y), final


class SeesTheFuture(Around):
    """Centres its outputs over time."""

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        return y - y.mean(axis=0, keepdims=True), final


class DropsBias(Around):
    """Its output has a bias that its dual form does not know."""

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        return y + 0.1, final


class ForgetsTheStateInMix(Around):
    """Its dual form starts from nothing, whatever the state."""

    def mix(self, context, value, state, start, mask):
        return super().mix(context, value, self.init_state(), start, mask)

    def forward(self, x, state, start, mask):
        return self.inner.forward(x, state, start, mask)


class NotAffine(Around):
    """Its `mix` is quadratic in what it carries."""

    def mix(self, context, value, state, start, mask):
        y, final = super().mix(context, value, state, start, mask)
        return y + y * y, final


class AcausalWeights(Around):
    """Its closed-form map, of an inner mixer that has one, forgets the triangle."""

    def weights(self, x, state, start, mask):
        return jnp.ones_like(self.inner.weights(x, state, start, mask))  # pyright: ignore - it has one


class IgnoresMask(Around):
    """Decays where there is no token."""

    def forward(self, x, state, start, mask):
        return super().forward(x, state, start, None)


class MovesTheState(Around):
    """Multiplies the state by one plus a rounding error where there is no token."""

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        moved = 1.0 if mask is None else 1.0 + 4e-16 * jnp.sum(~mask).astype(float)
        return y, jax.tree_util.tree_map(lambda s: s * moved, final)


class IgnoresStart(Around):
    """Reads on across the border between documents."""

    def forward(self, x, state, start, mask):
        return super().forward(x, state, None, mask)


class LeaksThroughStart(Around):
    """Its reset is a large negative log decay, not a zero: 1e-6 of the past comes through."""

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        through, _ = super().forward(x, state, None, mask)
        return y + 1e-6 * (through - y), final


class GradientThroughStart(Around):
    """Its values are right, but the gradient crosses the border between documents."""

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        through, _ = super().forward(x, state, None, mask)
        return y + through - jax.lax.stop_gradient(through), final


class StartsAtAbsentTokens(Around):
    """Lets a document begin at a token that is not there: the state is forgotten."""

    def checked(self, x, state, start, mask):
        return *super().checked(x, state, start, mask)[:2], start, mask

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        if start is None or mask is None:
            return y, final
        return y, jnp.where(jnp.any(start & ~mask), jnp.zeros_like(final), final)


class NormOfZero(Around):
    """Divides by a norm whose gradient at 0 is NaN: absent tokens, which are zeros, poison the weights' gradients."""

    def value(self, x):
        assert isinstance(self.inner, SideGatedRNN)
        projected = project(x, self.inner.w_m_in)
        return super().value(x) / (1 + jnp.sqrt(jnp.sum(projected**2, axis=-1, keepdims=True)))


class SumsInTheDtypeOfWeights(Around):
    """Keeps a running sum in the dtype of its weights: in bfloat16 it stops growing."""

    def forward(self, x, state, start, mask):
        assert isinstance(self.inner, SideGatedRNN)
        value, dtype = self.value(x), self.inner.readout.dtype

        def add(h, v):
            h = h + v
            return h, h

        final, h = jax.lax.scan(add, state.astype(dtype), value.astype(dtype))
        context = self.context(x, state, start, mask)
        return project(h.astype(context.dtype) * context, self.inner.readout), final.astype(context.dtype)


class DividesByDecays(Around):
    """Computes h as a ratio of cumulative products, which underflow."""

    def forward(self, x, state, start, mask):
        assert isinstance(self.inner, SideGatedRNN)
        products = jnp.cumprod(jnp.broadcast_to(self.inner.decay[None], (len(x), len(self.inner.decay))), axis=0)
        h = products * jnp.cumsum(self.value(x) / products, axis=0)
        return project(h * self.context(x, state, start, mask), self.inner.readout), h[-1]


class CutsTheGradientOfTheState(Around):
    """Takes the carried state as a constant: its values are right, training across calls is not."""

    def forward(self, x, state, start, mask):
        return super().forward(x, jax.lax.stop_gradient(state), start, mask)


class Drifts(Around):
    """Adds up its own rounding: each token moves what comes after by 1e-9 more."""

    def forward(self, x, state, start, mask):
        y, final = super().forward(x, state, start, mask)
        low = 1e-9 if x.dtype == jnp.float32 else 0.0
        return y * (1 + low * jnp.arange(len(y), dtype=y.dtype))[:, None], final


class MixesTheBatch(Around):
    """Has a batching rule that gives every sequence the first one's answer."""

    def forward(self, x, state, start, mask):
        @jax.custom_batching.custom_vmap
        def scale(y):
            return y

        @scale.def_vmap
        def rule(axis_size, in_batched, y):
            return jnp.broadcast_to(y[:1], y.shape), True

        y, final = super().forward(x, state, start, mask)
        return scale(y), final


class StateOfKeys(Around):
    """Keeps a typed random key in its state, which no file of plain arrays can hold."""

    def init_state(self) -> Any:
        return jr.key(0), self.inner.init_state()

    def context(self, x, state, start, mask):
        return self.inner.context(x, state[1], start, mask)

    def mix(self, context, value, state, start, mask):
        y, final = self.inner.mix(context, value, state[1], start, mask)
        return y, (state[0], final)
