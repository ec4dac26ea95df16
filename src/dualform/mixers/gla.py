"""Gated linear attention: linear attention whose memory forgets, each key channel at its own rate."""

from dataclasses import KW_ONLY

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, project
from dualform.maps import Outer, Written
from dualform.mixers.declared import array
from dualform.mixers.heads import AbstractNormedHeads, IntoHeads, into_heads, split_width
from dualform.mixers.registration import register


@register("gla")
class GLA(AbstractNormedHeads):
    """S_t = diag(alpha_t) S_{t-1} + k_t v_t^T,  o_t = S_t^T q_t / sqrt(d_k),  y_t = W_o (norm * o_t / rms(o_t) * swish(W_g x_t)).

    For each head: q, k, v = W_q x, W_k x, W_v x, and alpha = sigma(A_2 A_1 x + b)^(1/16), with A_1 of low rank, a decay for
    each key channel. The norm's weight is shared by the heads.

    The dual form freezes the norm's scale, and is linear else: its map is scale_t sum_k q_tk k_sk prod_{s<u<=t} alpha_uk.

    **Arguments:** w_q, w_k (head, d_k, d); w_v, w_g (head, d_v, d); a_1 (rank, d), a_2 (head, d_k, rank), b (head, d_k);
    norm (d_v,), or (head, d_v) for a norm over all heads at once; w_o (d_out, head * d_v); epsilon: of the norm.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Yang et al. 2023 (arXiv 2312.06635), Sec. 4.3; the norm is that of its code (paper: LayerNorm). Oracle: fla's
    `GatedLinearAttention` and `naive_recurrent_gla`.
    """

    _: KW_ONLY
    w_q: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=array)
    a_1: Float[Array, "rank d"] = eqx.field(converter=array)
    a_2: Float[Array, "head d_k rank"] = eqx.field(converter=array)
    b: Float[Array, "head d_k"] = eqx.field(converter=array)
    w_g: Float[Array, "head d_v d"] = eqx.field(converter=array)
    norm: Float[Array, " d_v"] | Float[Array, "head d_v"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    weight_decayed = ("w_q", "w_k", "w_v", "a_1", "a_2", "w_g", "w_o")

    @classmethod
    def make(cls, d: int, *, key: Array, heads: int = 2, rank: int = 16, dtype=None) -> "GLA":
        """Keys of d / 2 and values of d over all heads, as published; weights of variance 1 / fan-in, b = 0."""
        d_v, dtype = split_width(d, heads), dtype or float
        d_k = max(d_v // 2, 1)
        w = cls.matrices(jr.split(key, 7), dtype, head=heads, d_k=d_k, d_v=d_v, d=d, rank=rank, d_out=d)
        return cls(**w, b=jnp.zeros((heads, d_k), dtype), norm=jnp.ones(d_v, dtype))

    def init_state(self):
        """S = 0, (head, d_k, d_v)."""
        return jnp.zeros(self.dims("head d_k d_v"), accumulator(self.w_v.dtype))

    def at(self, x, state, segments):
        """S is read by q / sqrt(d_k), written by k and v; alpha is its decay, swish(W_g x) the gate."""
        low = project(x, self.a_1)
        alpha = jnp.exp(jax.nn.log_sigmoid(into_heads(low, self.a_2) + self.b.astype(low.dtype)[None]) / 16)
        q = into_heads(x, self.w_q) * self.dim("d_k") ** -0.5
        memory = Outer(q, into_heads(x, self.w_k), state, segments, decay=alpha)
        gate = jax.nn.silu(into_heads(x, self.w_g))
        write = Written(IntoHeads(self.w_v), x)
        return self.read_normed(memory, write.own, write, gate)
