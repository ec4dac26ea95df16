"""A mixer's map where its scalar attention maps are known: what is written, carried and read, each a map of its own."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator
from dualform.maps.causal_map import BLOCK, CausalMap, Composed
from dualform.maps.memory import Memory

Over: TypeAlias = Literal["tokens", "convolved tokens", "values"]
"""What column s of a map stands for: what is linear in token s alone; what a convolution made of it and of tokens before it; or
a nonlinear function of token s alone."""

OWN_COLUMNS = ("tokens", "values")
"""Where a column is all that one token brings; what a convolution made is of several."""

MOST_HEADS = 64
"""Up to so many maps of a mixer's own are made and shown as they are; of more (channel by channel), one aggregate is."""

MOST_READ = 16
"""Of a closed form of so many maps shares are read; one for each of many channels is no shorter than a pass for each token."""

MOST_NUMBERS = 2**27
"""Of a closed form that is made to read shares off it: half a gigabyte of float32."""


class AttentionMap(CausalMap):
    """read @ memory @ write: y = read(o) with o[t, head] = sum_s weights[head, t, s] carried[s, head].

    **Arguments:** read: pointwise, of what the memory reads; memory: with `weights`; write: of the tokens; over: what a column of
    the weights stands for.
    """

    read: CausalMap
    memory: Memory
    write: CausalMap
    over: Over = eqx.field(static=True, default="tokens")

    def __call__(self, v: Float[Array, "time d_in"]) -> Float[Array, "time d_out"]:
        """What is written, carried and read."""
        return self.read(self.memory(self.write(v)))

    def run(self, v: Float[Array, "time d_in"]) -> tuple[Float[Array, "time d_out"], State]:
        """With what is remembered."""
        return (self.read @ (self.memory @ self.write)).run(v)

    def weights(self) -> Float[Array, "head time source"]:
        """The signed scalar maps, in closed form."""
        return self.memory.weights()

    def carried(self, v: Float[Array, "time d_in"]) -> Float[Array, "source head width"]:
        """What the weights multiply: what v writes, for each head or channel."""
        return self.memory.spread(self.write.brought(v))

    def read_out(self, o: Float[Array, "time head width"], v: Float[Array, "time d_in"]) -> Float[Array, "time d_out"]:
        """The output made of what the weights read, without biases; v: whose writes they read, for their shape."""
        like = jax.eval_shape(lambda: self.memory(self.write(v)))
        return self.read.brought(o.reshape(like.shape))

    @property
    def has_closed_form(self) -> bool:
        """Whether columns are read off the weights: where these are over single tokens, and not too many."""
        if self.over not in OWN_COLUMNS:
            return False
        like = jax.eval_shape(self.memory.weights)
        return len(like) <= MOST_READ and like.size <= MOST_NUMBERS

    @property
    def direct(self) -> bool:
        """Where there is a closed form."""
        return self.has_closed_form

    def columns(self, v, sources, block=None):
        """Read off the closed form, where there is one: no recurrence runs for a token."""
        if not self.has_closed_form:
            return super().columns(v, sources, block)
        return jax.lax.map(
            self.column_of(self.weights(), v), sources, batch_size=min(block or len(sources), len(sources))
        )

    def column_of(
        self, weights: Float[Array, "head time source"], v: Float[Array, "time d_in"]
    ) -> Callable[[Array], Array]:
        """What a token brings, (time, d_out), as a function of its number, read off these weights."""
        carried = self.carried(v)
        wide = accumulator(weights.dtype, carried.dtype)
        return lambda s: self.read_out(weights[:, :, s].T.astype(wide)[:, :, None] * carried[s].astype(wide)[None], v)

    def project(self, v, r, block=BLOCK):
        """From the closed form, where there is one: matrix products alone, a head after the other."""
        if not self.has_closed_form:
            return super().project(v, r, block)
        weights, carried = self.weights(), self.carried(v)
        nothing = jnp.zeros((len(v), *carried.shape[1:]), carried.dtype)
        read, back = jax.vjp(lambda o: self.read_out(o, v), nothing)
        asked = jax.vmap(lambda each: back(each)[0])(r.astype(read.dtype))  # (head of r, time, head, width)

        def add(total, of_head):
            weight, brought, wanted = of_head
            return total + jnp.einsum("rtw,sw->rts", wanted, brought) * weight[None], None

        wide = accumulator(weights.dtype, carried.dtype)
        weights, carried, asked = (a.astype(wide) for a in (weights, carried, asked))
        total = jnp.zeros((len(r), len(v), len(v)), wide)
        return jax.lax.scan(add, total, (weights, jnp.moveaxis(carried, 1, 0), jnp.moveaxis(asked, 2, 0)))[0]


def attention_of(map: CausalMap) -> AttentionMap | None:
    """The one part of a map that has attention maps of its own, where all else in it looks at single tokens; None else."""
    if isinstance(map, AttentionMap):
        return map
    if not isinstance(map, Composed):
        return None
    parts = [part for part in (map.last, map.first) if not part.pointwise]
    return attention_of(parts[0]) if len(parts) == 1 else None
