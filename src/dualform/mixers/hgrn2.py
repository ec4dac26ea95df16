"""HGRN2: a gated linear recurrence whose state is expanded by outer products, and whose key is what the gate lets go."""

from dataclasses import KW_ONLY

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.maps import Outer, Written
from dualform.mixers.constant import Constant
from dualform.mixers.declared import array
from dualform.mixers.heads import AbstractNormedHeads, IntoHeads, fresh_norm, into_heads, split_width
from dualform.mixers.ranges import check_decays
from dualform.mixers.registration import register


@register("hgrn2")
class HGRN2(AbstractNormedHeads):
    """S_t = diag(f_t) S_{t-1} + (1 - f_t) i_t^T,  o_t = S_t^T q_t,  y_t = W_o (norm * o_t / rms(o_t)).

    For each head: f = gamma + (1 - gamma) sigma(W_f x), the forget gate, never below its layer's bound gamma; i = W_v x, the
    input; q = swish(W_q x), the output gate. It is GLA with k = 1 - f.

    **Arguments:** w_q, w_f (head, d_k, d); w_v (head, d_v, d); gamma (head, d_k), in [0, 1), a `Constant`: what learns it is a
    model's `bounds`, by `hgrn_lower_bounds`; norm (d_v,), or (head, d_v) for a norm over all heads at once; w_o (d_out, head
    * d_v); epsilon: of the norm.

    **Raises:** `InputError` where the shapes do not fit, or gamma is out of range.

    **Source:** Qin et al. 2024 (arXiv 2404.07904), Eq. 5. Its q is sigma(W_q x) in the paper and swish in its code, and the
    norm a LayerNorm over all heads; its code scales q by 1 / sqrt(d_k). Here swish and no scale, which with an epsilon of d_k
    times the code's comes to the same; the paper's norm over all heads is there, without its mean and bias.
    Oracle: fla's `HGRN2Attention` of one head, without that scale, `naive_recurrent_gla` with k = 1 - f, and fla's models.
    """

    _: KW_ONLY
    w_q: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_f: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=array)
    gamma: Float[Constant, "head d_k"] = eqx.field(converter=Constant.of)
    norm: Float[Array, " d_v"] | Float[Array, "head d_v"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    weight_decayed = ("w_q", "w_f", "w_v", "w_o")

    def __check_init__(self):
        check_decays("gamma", self.gamma.value, below_one=True)

    @classmethod
    def make(
        cls, d: int, *, key: Array, heads: int = 2, gamma: float = 0.25, norm_over_all: bool = False, dtype=None
    ) -> "HGRN2":
        """As many key as value channels, weights of variance 1 / fan-in, one bound for all channels."""
        width, dtype = split_width(d, heads), dtype or float
        w = cls.matrices(jr.split(key, 4), dtype, head=heads, d_k=width, d_v=width, d=d, d_out=d)
        bound, norm = jnp.full((heads, width), gamma, dtype), fresh_norm(heads, width, norm_over_all, dtype)
        return cls(**w, gamma=bound, norm=norm)

    def init_state(self):
        """S = 0, (head, d_k, d_v)."""
        return jnp.zeros(self.dims("head d_k d_v"), accumulator(self.w_v.dtype))

    def at(self, x, state, segments):
        """S is read by silu(W_q x), written by 1 - f and v, and decays by f; there is no other gate."""
        logits = into_heads(x, self.w_f)
        free = 1 - self.gamma.astype(logits.dtype)[None]
        # 1 - f from sigma(-logits), not by subtraction: a key of 1e-9 stays one.
        k, f = free * jax.nn.sigmoid(-logits), 1 - free + free * jax.nn.sigmoid(logits)
        memory = Outer(jax.nn.silu(into_heads(x, self.w_q)), k, state, segments, decay=f)
        write = Written(IntoHeads(self.w_v), x)
        return self.read_normed(memory, write.own, write)
