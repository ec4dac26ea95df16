"""What carries values from the past to the present, with all that chooses it as data: the recurrences as maps.

o, state = memory.run(v)        v (time, n), channel by channel, or (time, head, d_v)
"""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator, promote
from dualform.maps.causal_map import CausalMap
from dualform.recurrences.convolutions import convolution
from dualform.recurrences.decay_map import decay_map
from dualform.recurrences.delta_rule import delta
from dualform.recurrences.dense_scan import dense
from dualform.recurrences.diagonal_scan import diagonal
from dualform.recurrences.outer_product import outer
from dualform.segments import Segments


class Memory(CausalMap):
    """A recurrence whose gates, keys and queries are there already: linear in v, affine where a state came before."""

    @abc.abstractmethod
    def run(self, v: Float[Array, "time *shape"]) -> tuple[Float[Array, "time *out"], State]:
        """What is read at each token, and the state after the last."""

    def __call__(self, v: Float[Array, "time *shape"]) -> Float[Array, "time *out"]:
        """What is read."""
        return self.run(v)[0]

    def weights(self) -> Float[Array, "head time source"]:
        """The scalar maps: o[t, h] = sum_s weights[h, t, s] spread(v)[s, h], but for what came before.

        **Raises:** `NotImplementedError` where a memory has none.
        """
        raise NotImplementedError(f"a {type(self).__name__} has no scalar maps.")

    def spread(self, v: Float[Array, "time *shape"]) -> Float[Array, "source head width"]:
        """v as the maps multiply it: each head's, or each channel's."""
        return v if v.ndim == 3 else v[:, :, None]


def each_token(time: int, heads: int, dtype: Any) -> Float[Array, "time head time"]:
    """Values that tell tokens apart: read as any others, they are the maps, (time, head, source)."""
    return jnp.broadcast_to(jnp.eye(time, dtype=dtype)[:, None], (time, heads, time))


class Diagonal(Memory):
    """h_t = decay_t * h_{t-1} + write_t * v_t, channel by channel, real or complex.

    **Arguments:** decay (time, n), or (n,) for one that stays; state (n,); write (time, n), or None for 1.
    """

    decay: Array
    state: Array
    segments: Segments
    write: Float[Array, "time n"] | None = None

    def run(self, v: Float[Array, "time n"]) -> tuple[Float[Array, "time n"], State]:
        """h at each token, and the last."""
        written = v if self.write is None else self.write * v.astype(self.write.dtype)
        wide = promote(self.decay.dtype, written.dtype)
        return diagonal(self.decay, written, self.state.astype(wide), **self.segments.flags)

    def weights(self) -> Float[Array, "n time source"]:
        """write_s times every later decay."""
        maps = decay_map(self.decay, **self.segments.flags)
        return maps if self.write is None else maps * self.write.T[:, None]


class Complex(Memory):
    """h_t = decay_t * h_{t-1} + write_t * v_t of complex numbers, whose real and imaginary parts are (time, 2, n).

    **Arguments:** decay (time, n), or (n,) for one that stays, complex; state (2, n); write (time, n), real, or None for 1.
    """

    decay: jaxtyping.Complex[Array, "*time n"]
    state: Float[Array, "2 n"]
    segments: Segments
    write: Float[Array, "time n"] | None = None

    def run(self, v: Float[Array, "time 2 n"]) -> tuple[Float[Array, "time 2 n"], State]:
        """h at each token, and the last."""
        wide = accumulator(self.decay.real.dtype, v.dtype)
        pair = lambda a: jax.lax.complex(a[0].astype(wide), a[1].astype(wide))
        v = v.swapaxes(0, 1) if self.write is None else self.write[None] * v.swapaxes(0, 1).astype(self.write.dtype)
        h, final = diagonal(self.decay, pair(v), pair(self.state), **self.segments.flags)
        return jnp.stack([h.real, h.imag], axis=1), jnp.stack([final.real, final.imag])


class Dense(Memory):
    """h_t = A h_{t-1} + v_t; A (n, n)."""

    transition: Float[Array, "n n"]
    state: Float[Array, " n"]
    segments: Segments

    def run(self, v: Float[Array, "time n"]) -> tuple[Float[Array, "time n"], State]:
        """h at each token, and the last."""
        return dense(self.transition, v, self.state, **self.segments.flags)


class Outer(Memory):
    """S_t = diag(decay_t) S_{t-1} diag(value_decay_t) + k_t v_t^T,  o_t = S_t^T q_t, for each head.

    **Arguments:** q, k (time, head, d_k); state (head, d_k, d_v); decay: (time, head, d_k), (time, head) or None; value_decay:
    (time, head, d_v) or None.
    """

    q: Float[Array, "time head d_k"]
    k: Float[Array, "time head d_k"]
    state: Float[Array, "head d_k d_v"]
    segments: Segments
    decay: Array | None = None
    value_decay: Array | None = None

    def run(self, v: Float[Array, "time head d_v"]) -> tuple[Float[Array, "time head d_v"], State]:
        """S_t^T q_t, and S after the last token."""
        return self._read(v, self.state)

    def weights(self) -> Float[Array, "head time source"]:
        """q_t . k_s under the decays between them."""
        if self.decay is None:
            scores = jnp.einsum("thk,shk->hts", self.q, self.k)
            return jnp.where(self.segments.visible(len(self.q))[None], scores, jnp.zeros_like(scores))
        o, _ = self._read(each_token(len(self.q), self.q.shape[1], self.q.dtype), None)
        return jnp.moveaxis(o, 1, 0)

    def _read(self, v, state):
        return outer(self.q, self.k, v, state, decay=self.decay, value_decay=self.value_decay, **self.segments.flags)


class Delta(Memory):
    """S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T,  o_t = S_t^T q_t, for each head.

    **Arguments:** q, k (time, head, d_k); b (time, head); state (head, d_k, d_v); decay a: (time, head), or None for 1.
    """

    q: Float[Array, "time head d_k"]
    k: Float[Array, "time head d_k"]
    b: Float[Array, "time head"]
    state: Float[Array, "head d_k d_v"]
    segments: Segments
    decay: Float[Array, "time head"] | None = None

    def run(self, v: Float[Array, "time head d_v"]) -> tuple[Float[Array, "time head d_v"], State]:
        """S_t^T q_t, and S after the last token."""
        return delta(self.q, self.k, v, self.b, self.state, decay=self.decay, **self.segments.flags)

    def weights(self) -> Float[Array, "head time source"]:
        """What each head reads of each token's value."""
        tokens = each_token(len(self.q), self.q.shape[1], self.q.dtype)
        o, _ = delta(self.q, self.k, tokens, self.b, None, decay=self.decay, **self.segments.flags)
        return jnp.moveaxis(o, 1, 0)


class Convolution(Memory):
    """o_t = sum_j kernel[width - 1 - j] * v_{t-j}, channel by channel, over the tokens that are there.

    **Arguments:** kernel (width, n); tail (width - 1, n): the last tokens before; time: tokens.
    """

    kernel: Float[Array, "width n"]
    tail: Float[Array, "before n"]
    segments: Segments
    time: int

    def run(self, v: Float[Array, "time *shape"]) -> tuple[Float[Array, "time *shape"], State]:
        """The sums, of v's shape, and the last tokens; heads are channels side by side."""
        o, tail = convolution(v.reshape(len(v), -1), self.kernel, self.tail, **self.segments.flags)
        return o.reshape(v.shape), tail

    def weights(self) -> Float[Array, "n time source"]:
        """The kernel's entry for how many tokens lie between."""
        time, width, mask = self.time, len(self.kernel), self.segments.mask
        count = jnp.cumsum(jnp.ones(time, jnp.int32) if mask is None else mask.astype(jnp.int32))
        back = count[:, None] - count[None]
        seen = self.segments.visible(time) & (back < width)
        entries = self.kernel[jnp.clip(width - 1 - back, 0, width - 1)]
        return jnp.where(seen[None], entries.transpose(2, 0, 1), jnp.zeros((), entries.dtype))


def by_channel(alone: Memory, like: Float[Array, "time n"]) -> Float[Array, "n time source"]:
    """The scalar maps of a memory that keeps channels apart, found by a pass for each token; alone: with nothing before it."""
    of_token = lambda token: alone(jnp.broadcast_to(token[:, None], like.shape))
    return jax.vmap(of_token, out_axes=2)(jnp.eye(len(like), dtype=like.dtype)).transpose(1, 0, 2)


class Rescaled(Memory):
    """What another memory reads, times a number of each token and head or channel.

    **Arguments:** by: (time, head or 1, 1) of a memory of heads, (time, n) of one of channels.
    """

    memory: Memory
    by: Float[Array, "time heads *one"]

    def run(self, v: Float[Array, "time *shape"]) -> tuple[Float[Array, "time *shape"], State]:
        """The rescaled reading, and the other's state."""
        o, state = self.memory.run(v)
        return self.by * o, state

    def weights(self) -> Float[Array, "head time source"]:
        """The other's, rescaled row by row."""
        return self.by.reshape(*self.by.shape[:2]).T[:, :, None] * self.memory.weights()

    def spread(self, v: Float[Array, "time *shape"]) -> Float[Array, "source head width"]:
        """As the other's."""
        return self.memory.spread(v)
