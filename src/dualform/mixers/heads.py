"""What mixers with several heads share: tokens projected into heads, and heads normed, gated and joined."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator, affine, project
from dualform.errors import require
from dualform.mixers.mixer import AbstractMixer
from dualform.norms import rms_factor


def into_heads(
    x: Float[Array, "time d"], w: Float[Array, "head rows d"], b: Float[Array, "head rows"] | None = None
) -> Float[Array, "time head rows"]:
    """W x + b for each head, in float32 or wider; without b where it is None."""
    y = affine(x, w.reshape(-1, w.shape[2]), None if b is None else b.reshape(-1))
    return y.reshape(len(x), *w.shape[:2]).astype(accumulator(x.dtype, w.dtype))


def random_heads(key: Array, heads: int, rows: int, d: int, dtype=None) -> Float[Array, "head rows d"]:
    """Projections of variance 1 / d."""
    return jr.normal(key, (heads, rows, d), dtype or float) / d**0.5


def split_width(d: int, heads: int) -> int:
    """The width of each of `heads` heads of a width of d.

    **Raises:** `InputError` where they do not divide it.
    """
    require(heads >= 1 and d % heads == 0, f"{heads} heads do not divide a width of {d}.")
    return d // heads


def check_heads(w_q: Array, w_k: Array, w_v: Array, w_o: Array) -> None:
    """Raise `InputError` unless the projections into heads, and the one that joins them, fit together."""
    shapes = f"w_q {w_q.shape}, w_k {w_k.shape}, w_v {w_v.shape}"
    require(
        w_q.ndim == w_k.ndim == w_v.ndim == 3
        and w_q.shape == w_k.shape
        and w_v.shape[::2] == w_q.shape[::2]
        and 0 not in (*w_q.shape, *w_v.shape),
        f"w_q and w_k must be (head, d_k, d) and w_v (head, d_v, d), none of them 0; got {shapes}.",
    )
    columns = w_v.shape[0] * w_v.shape[1]
    require(
        w_o.ndim == 2 and w_o.shape[1] == columns,
        f"w_o has shape {w_o.shape}; it must be (d_out, {columns}): {w_v.shape[0]} heads of {w_v.shape[1]}.",
    )


def check_shape(name: str, a: Array, shape: tuple[int, ...]) -> None:
    """Raise `InputError` unless `a`, called `name`, has the shape that the other weights ask for."""
    require(a.shape == shape, f"{name} has shape {a.shape}; the other weights need {shape}.")


def check_norm(norm: Array, w_v: Array) -> None:
    """Raise `InputError` unless the norm's weight is (d_v,), for each head by itself, or (head, d_v), for all at once."""
    shapes = (w_v.shape[1:2], w_v.shape[:2])
    require(norm.shape in shapes, f"norm has shape {norm.shape}; the other weights need {shapes[0]}, or {shapes[1]}.")


def fresh_norm(heads: int, d_v: int, over_all: bool, dtype) -> Float[Array, "*heads d_v"]:
    """A norm's weight of ones: of each head by itself, or of all heads at once."""
    return jnp.ones((heads, d_v) if over_all else d_v, dtype)


class AbstractNormedHeads(AbstractMixer):
    """y_t = W_o (norm * o_t / rms(o_t) * gate_t): heads that read a memory, are normed and gated, and joined.

    The norm's weight is (d_v,), shared by the heads, where each is normed by itself; (head, d_v) where the norm goes over all
    channels of all heads at once.

    A mixer writes `choose`, what chooses the map and the gate; and `read`, the memory's recurrence, linear in the values. It
    has a field `epsilon`, the norm's. The dual form freezes the norm's scale.
    """

    w_v: eqx.AbstractVar[Float[Array, "head d_v d"]]
    w_o: eqx.AbstractVar[Float[Array, "d_out head*d_v"]]
    norm: eqx.AbstractVar[Float[Array, "*heads d_v"]]
    linear_given_gates: ClassVar[bool] = False

    @abc.abstractmethod
    def choose(self, x, state: State, start, mask) -> tuple[Any, Float[Array, "time head d_v"] | None]:
        """All that chooses what is read, and the gate, (time, head, d_v), or None."""

    @abc.abstractmethod
    def read(self, chosen: Any, value, state: State | None, start, mask) -> tuple[Float[Array, "time head d_v"], State]:
        """o, (time, head, d_v), and the state; where `state` is None nothing is remembered, and values may be of any width."""

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_v.shape[2]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.w_o)

    def scale(self, o: Float[Array, "time head d_v"]) -> Float[Array, "time heads channels"]:
        """1 / rms of each head, (time, head, 1), or of all, (time, 1, 1)."""
        return self.factor(o)

    def factor(self, o: Float[Array, "time head d_v"]) -> Float[Array, "time heads 1"]:
        """1 / rms of o, of each head or of all."""
        # A field of each class, behind its arrays: declared here, it would have to come before them.
        epsilon: float = self.epsilon  # pyright: ignore[reportAttributeAccessIssue] - of those who mix it in
        return rms_factor(o if self.norm.ndim == 1 else o.reshape(len(o), 1, -1), epsilon)

    def joined(self, o, scale, gate) -> Float[Array, "time d_out"]:
        """Heads normed with this scale, gated and joined."""
        norm = self.norm[None] if self.norm.ndim == 2 else self.norm[None, None]
        o = o * scale * norm.astype(o.dtype)
        o = o if gate is None else o * gate
        return project(o.reshape(len(o), -1), self.w_o)

    def context(self, x, state, start, mask):
        """What chooses, the gate, and the norm's scale."""
        chosen, gate = self.choose(x, state, start, mask)
        o, _ = self.read(chosen, self.value(x), state, start, mask)
        return chosen, gate, self.scale(o)

    def value(self, x):
        """v, (time, head, d_v)."""
        return into_heads(x, self.w_v)

    def mix(self, context, value, state, start, mask):
        """What is read, with the frozen scale, gated and joined."""
        chosen, gate, scale = context
        o, state = self.read(chosen, value, state, start, mask)
        return self.joined(o, scale, gate), state

    def forward(self, x, state, start, mask):
        """The recurrence once."""
        chosen, gate = self.choose(x, state, start, mask)
        o, state = self.read(chosen, self.value(x), state, start, mask)
        return self.joined(o, self.scale(o), gate), state

    def read_out(self, context, o):
        """The heads, which the maps have scaled, gated and joined."""
        _, gate, scale = context
        return self.joined(o, jnp.ones_like(scale), gate)

    def weights(self, x, state, start, mask):
        """What each head reads of each token's value, times the norm's scale: before the norm's weight, the gate and W_o."""
        chosen, _, scale = self.context(x, state, start, mask)
        read, _ = self.read(chosen, each_token(len(x), len(self.w_v), scale.dtype), None, start, mask)
        return jnp.moveaxis(scale * read, 1, 0)


def each_token(time: int, heads: int, dtype) -> Float[Array, "time head time"]:
    """Values that tell tokens apart: read as any others, they are the attention map, (time, head, source)."""
    return jnp.broadcast_to(jnp.eye(time, dtype=dtype)[:, None], (time, heads, time))
