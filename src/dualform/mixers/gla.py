"""Gated linear attention: linear attention whose memory forgets, each key channel at its own rate."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, project
from dualform.maps import Outer, Written
from dualform.mixers.heads import (
    AbstractNormedHeads,
    IntoHeads,
    check_heads,
    check_norm,
    check_shape,
    into_heads,
    random_heads,
    split_width,
)
from dualform.mixers.registry import register


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

    w_q: Float[Array, "head d_k d"] = eqx.field(converter=jnp.asarray)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=jnp.asarray)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=jnp.asarray)
    a_1: Float[Array, "rank d"] = eqx.field(converter=jnp.asarray)
    a_2: Float[Array, "head d_k rank"] = eqx.field(converter=jnp.asarray)
    b: Float[Array, "head d_k"] = eqx.field(converter=jnp.asarray)
    w_g: Float[Array, "head d_v d"] = eqx.field(converter=jnp.asarray)
    norm: Float[Array, "*heads d_v"] = eqx.field(converter=jnp.asarray)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=jnp.asarray)
    epsilon: float = eqx.field(default=1e-5, static=True)
    weight_decayed = ("w_q", "w_k", "w_v", "a_1", "a_2", "w_g", "w_o")

    def __check_init__(self):
        check_heads(self.w_q, self.w_k, self.w_v, self.w_o)
        heads, d_k, d = self.w_q.shape
        rank = len(self.a_1)
        check_shape("a_1", self.a_1, (rank, d))
        check_shape("a_2", self.a_2, (heads, d_k, rank))
        check_shape("b", self.b, (heads, d_k))
        check_shape("w_g", self.w_g, self.w_v.shape)
        check_norm(self.norm, self.w_v)

    @classmethod
    def make(cls, d: int, *, key: Array, heads: int = 2, rank: int = 16, dtype=None) -> "GLA":
        """Keys of d / 2 and values of d over all heads, as published; weights of variance 1 / fan-in, b = 0."""
        d_v, dtype = split_width(d, heads), dtype or float
        d_k = max(d_v // 2, 1)
        keys = jr.split(key, 7)
        return cls(
            random_heads(keys[0], heads, d_k, d, dtype),
            random_heads(keys[1], heads, d_k, d, dtype),
            random_heads(keys[2], heads, d_v, d, dtype),
            jr.normal(keys[3], (rank, d), dtype) / d**0.5,
            random_heads(keys[4], heads, d_k, rank, dtype),
            jnp.zeros((heads, d_k), dtype),
            random_heads(keys[5], heads, d_v, d, dtype),
            jnp.ones(d_v, dtype),
            jr.normal(keys[6], (d, d), dtype) / d**0.5,
        )

    def init_state(self):
        """S = 0, (head, d_k, d_v)."""
        return jnp.zeros((*self.w_q.shape[:2], self.w_v.shape[1]), accumulator(self.w_v.dtype))

    def at(self, x, state, segments):
        """S is read by q / sqrt(d_k), written by k and v; alpha is its decay, swish(W_g x) the gate."""
        low = project(x, self.a_1)
        alpha = jnp.exp(jax.nn.log_sigmoid(into_heads(low, self.a_2) + self.b.astype(low.dtype)[None]) / 16)
        q = into_heads(x, self.w_q) * self.w_q.shape[1] ** -0.5
        memory = Outer(q, into_heads(x, self.w_k), state, segments, decay=alpha)
        gate = jax.nn.silu(into_heads(x, self.w_g))
        write = Written(IntoHeads(self.w_v), x)
        return self.read_normed(memory, write.own, write, gate)
