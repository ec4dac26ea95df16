"""What mixers with several heads share: tokens projected into heads, and heads normed, gated and joined."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import accumulator, affine
from dualform.errors import require
from dualform.maps import AttentionMap, CausalMap, Frozen, Linear, Memory, Rescaled, Scale
from dualform.maps.attention_map import Over
from dualform.mixers.mixer import AbstractMixer
from dualform.norms import rms_factor


def into_heads(
    x: Float[Array, "time d"], w: Float[Array, "head rows d"], b: Float[Array, "head rows"] | None = None
) -> Float[Array, "time head rows"]:
    """W x + b for each head, in float32 or wider; without b where it is None."""
    y = affine(x, w.reshape(-1, w.shape[2]), None if b is None else b.reshape(-1))
    return y.reshape(len(x), *w.shape[:2]).astype(accumulator(x.dtype, w.dtype))


def split_width(d: int, heads: int) -> int:
    """The width of each of `heads` heads of a width of d.

    **Raises:** `InputError` where they do not divide it.
    """
    require(heads >= 1 and d % heads == 0, f"{heads} heads do not divide a width of {d}.")
    return d // heads


def fresh_norm(heads: int, d_v: int, over_all: bool, dtype) -> Float[Array, "*heads d_v"]:
    """A norm's weight of ones: of each head by itself, or of all heads at once."""
    return jnp.ones((heads, d_v) if over_all else d_v, dtype)


class IntoHeads(eqx.Module):
    """W x + b for each head, as a function of x: w (head, rows, d), b (head, rows) or None."""

    w: Float[Array, "head rows d"]
    b: Float[Array, "head rows"] | None = None

    def __call__(self, x: Float[Array, "time d"]) -> Float[Array, "time head rows"]:
        """As `into_heads`."""
        return into_heads(x, self.w, self.b)


class AbstractNormedHeads(AbstractMixer):
    """y_t = W_o (norm * o_t / rms(o_t) * gate_t): heads that read a memory, are normed and gated, and joined.

    The norm's weight is (d_v,), shared by the heads, where each is normed by itself; (head, d_v) where the norm goes over all
    channels of all heads at once; epsilon is the norm's. The dual form freezes the norm's scale.
    """

    _: KW_ONLY
    epsilon: float = eqx.field(default=1e-5, static=True)
    w_v: eqx.AbstractVar[Float[Array, "head d_v d"]]
    w_o: eqx.AbstractVar[Float[Array, "d_out head*d_v"]]
    norm: eqx.AbstractVar[Float[Array, " d_v"] | Float[Array, "head d_v"]]
    linear_given_gates: ClassVar[bool] = False

    def read_normed(
        self,
        memory: Memory,
        v: Float[Array, "time head d_v"],
        write: CausalMap,
        gate: Float[Array, "time head d_v"] | None = None,
        over: Over = "tokens",
    ) -> Frozen:
        """v, which `write` makes of the tokens, read from the memory, normed, gated and joined.

        The memory's scalar maps are those of the heads as they are normed: times the norm's scale.
        """
        o, state = memory.run(v)
        scaled = Rescaled(memory, self.factor(o))
        read = Linear(self.w_o) @ gated(self.norm_weight, gate)
        return Frozen(read(scaled.by * o), state, AttentionMap(read, scaled, write, over))

    @property
    def norm_weight(self) -> Float[Array, "1 heads d_v"]:
        """The norm's weight, to multiply (time, head, d_v)."""
        return self.norm[None] if self.norm.ndim == 2 else self.norm[None, None]

    def factor(self, o: Float[Array, "time head d_v"]) -> Float[Array, "time heads 1"]:
        """1 / rms of o, of each head, (time, head, 1), or of all, (time, 1, 1)."""
        return rms_factor(o if self.norm.ndim == 1 else o.reshape(len(o), 1, -1), self.epsilon)


def gated(norm: Float[Array, "1 heads d_v"], gate: Float[Array, "time head d_v"] | None) -> CausalMap:
    """v -> norm * v * gate."""
    return Scale(norm) if gate is None else Scale(gate) @ Scale(norm)
