"""Gated slot attention: softmax attention over a fixed number of slots, each of which forgets what it does not write."""

from dataclasses import KW_ONLY

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.maps import AttentionMap, Frozen, Linear, Outer, Scale, Written
from dualform.mixers.declared import array
from dualform.mixers.heads import AbstractNormedHeads, fresh_norm, into_heads, split_width
from dualform.mixers.registration import register


@register("gsa")
class GSA(AbstractNormedHeads):
    """K_t = diag(alpha_t) K_{t-1} + s_t k_t^T,  V_t = diag(alpha_t) V_{t-1} + s_t v_t^T,  o_t = V_t^T softmax(K_t q_t).

    For each head: q, k, v = swish(W_q x), swish(W_k x), swish(W_v x), alpha = sigma(W_f x)^(1/8), a decay for each slot, and
    s = 1 - alpha. Then y_t = W_o (norm * swish(o_t) / rms(swish(o_t))).

    The slots that a token reads (the softmax) choose the map; o is linear in the values:
    o_t = sum_s (sum_m softmax(K_t q_t)_m s_sm prod_{s<u<=t} alpha_um) v_s. The dual form freezes the last swish and norm.

    **Arguments:** w_q, w_k (head, d_k, d); w_v (head, d_v, d); w_f (head, slots, d); norm (d_v,), or (head, d_v) for a
    norm over all heads at once; w_o (d_out, head * d_v); normaliser: 8, what the logarithm of sigma(W_f x) is divided by;
    epsilon: of the norm.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Zhang et al. 2024 (arXiv 2409.07146), Eq. 9 and Fig. 2, whose norm is over all heads. Oracle: fla's
    `GatedSlotAttention` of one head, `naive_recurrent_gsa`, and fla's models.
    """

    _: KW_ONLY
    w_q: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=array)
    w_f: Float[Array, "head slots d"] = eqx.field(converter=array)
    norm: Float[Array, " d_v"] | Float[Array, "head d_v"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    normaliser: float = eqx.field(default=8.0, static=True)
    weight_decayed = ("w_q", "w_k", "w_v", "w_f", "w_o")

    def __check_init__(self):
        require(self.normaliser > 0, f"normaliser is {self.normaliser}; it must be above 0.")

    @classmethod
    def make(
        cls, d: int, *, key: Array, heads: int = 2, slots: int | None = None, norm_over_all: bool = False, dtype=None
    ) -> "GSA":
        """As many slots as a head has channels, if no other number is given; weights of variance 1 / fan-in."""
        d_h, dtype = split_width(d, heads), dtype or float
        slots = slots or max(d_h, 2)
        w = cls.matrices(jr.split(key, 5), dtype, head=heads, d_k=d_h, d_v=d_h, slots=slots, d=d, d_out=d)
        return cls(**w, norm=fresh_norm(heads, d_h, norm_over_all, dtype))

    def init_state(self):
        """K^T = 0, (head, d_k, slots), and V = 0, (head, slots, d_v)."""
        heads, d_k, slots, d_v = self.dims("head d_k slots d_v")
        wide = accumulator(self.w_v.dtype)
        return jnp.zeros((heads, d_k, slots), wide), jnp.zeros((heads, slots, d_v), wide)

    def at(self, x, state, segments):
        """K is read by q and written by s and k; its softmax reads V, which is written by s and v; both decay by alpha."""
        keys, values = state
        logits = into_heads(x, self.w_f)
        log_alpha = jax.nn.log_sigmoid(logits) / self.normaliser
        alpha, s = jnp.exp(log_alpha), -jnp.expm1(log_alpha)
        q, k = (jax.nn.silu(into_heads(x, w)) for w in (self.w_q, self.w_k))
        scores, keys = Outer(q, k, keys, segments, value_decay=alpha).run(s)
        memory, write = Outer(jax.nn.softmax(scores, axis=-1), s, values, segments, decay=alpha), Written(self.value, x)
        o, values = memory.run(write.own)
        swish = Scale(jax.nn.sigmoid(o) * self.factor(jax.nn.silu(o)))  # times o, it is swish(o) normed
        read = Linear(self.w_o) @ Scale(self.norm_weight) @ swish
        return Frozen(read(o), (keys, values), AttentionMap(read, memory, write, "values"))

    def value(self, x):
        """v, (time, head, d_v)."""
        return jax.nn.silu(into_heads(x, self.w_v))
