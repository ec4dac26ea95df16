"""Multi-scale retention: linear attention in which each head forgets at a constant rate of its own."""

from dataclasses import KW_ONLY

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.maps import Outer, Written
from dualform.mixers.constant import Constant
from dualform.mixers.declared import array
from dualform.mixers.heads import AbstractNormedHeads, IntoHeads, into_heads, split_width
from dualform.mixers.ranges import check_decays
from dualform.mixers.registration import register
from dualform.mixers.rotary import positions, rotate


@register("retnet")
class RetNet(AbstractNormedHeads):
    """S_t = gamma S_{t-1} + k_t v_t^T,  o_t = S_t^T q_t,  y_t = W_o (norm * o_t / rms(o_t) * swish(W_g x_t)).

    For each head: q, k = W_q x / sqrt(d_k), W_k x, each turned by the token's place in its document (rotary), v = W_v x, and
    gamma a constant.

    **Arguments:** w_q, w_k (head, d_k, d), d_k even; w_v, w_g (head, d_v, d); gamma (head,), in [0, 1], a
    `Constant`; norm (d_v,); w_o (d_out,
    head * d_v); base: of the rotary angles; epsilon: of the norm.

    **Raises:** `InputError` where the shapes do not fit, or gamma is out of range.

    **Source:** Sun et al. 2023 (arXiv 2307.08621), Eq. 8. The paper's group norm is that of its code, an RMS norm of each head.
    Oracle: fla's `MultiScaleRetention` on `naive_retention`, and `naive_recurrent_simple_gla`.
    """

    _: KW_ONLY
    w_q: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=array)
    w_g: Float[Array, "head d_v d"] = eqx.field(converter=array)
    gamma: Float[Constant, " head"] = eqx.field(converter=Constant.of)
    norm: Float[Array, " d_v"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    base: float = eqx.field(default=10000.0, static=True)
    weight_decayed = ("w_q", "w_k", "w_v", "w_g", "w_o")

    def __check_init__(self):
        d_k = self.dim("d_k")
        require(d_k % 2 == 0, f"keys have {d_k} channels; they are turned in pairs, so they must be even in number.")
        check_decays("gamma", self.gamma.value)

    @classmethod
    def make(cls, d: int, *, key: Array, heads: int = 2, dtype=None) -> "RetNet":
        """gamma = 1 - 2^(-5 - h), variance 1 / fan-in (published: Xavier), keys as wide as values, or one wider."""
        d_v, dtype = split_width(d, heads), dtype or float
        w = cls.matrices(jr.split(key, 5), dtype, head=heads, d_k=d_v + d_v % 2, d_v=d_v, d=d, d_out=d)
        return cls(**w, gamma=retention(heads, dtype), norm=jnp.ones(d_v, dtype))

    def init_state(self):
        """S = 0, (head, d_k, d_v), and the next token's place in its document, 0."""
        return jnp.zeros(self.dims("head d_k d_v"), accumulator(self.w_v.dtype)), jnp.zeros((), jnp.int32)

    def at(self, x, state, segments):
        """S is read by q / sqrt(d_k) and written by k, both turned; swish(W_g x) is the gate."""
        remembered, place = state
        places, following = positions(len(x), place, **segments.flags)
        q = rotate(into_heads(x, self.w_q), places, self.base) * self.dim("d_k") ** -0.5
        k = rotate(into_heads(x, self.w_k), places, self.base)
        decay = jnp.broadcast_to(self.gamma.astype(q.dtype)[None], q.shape[:2])
        memory, write = Outer(q, k, remembered, segments, decay=decay), Written(IntoHeads(self.w_v), x)
        found = self.read_normed(memory, write.own, write, jax.nn.silu(into_heads(x, self.w_g)))
        return found._replace(state=(found.state, following))


def retention(heads: int, dtype) -> Float[Array, " head"]:
    """gamma = 1 - 2^(-5 - h) of each head, in float32 or wider: from the fifth head on bfloat16 would make 1 of it."""
    return (1 - 2.0 ** (-5 - jnp.arange(heads, dtype=float))).astype(accumulator(dtype))
