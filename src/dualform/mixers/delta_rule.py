"""The delta rule: a memory of keys and values in which each key's old value is replaced; plain, and with a decay."""

import math
from dataclasses import KW_ONLY

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, project
from dualform.errors import require
from dualform.maps import Convolution, Delta, Scale, Written
from dualform.mixers.declared import array, optional_array
from dualform.mixers.fresh import fan_in
from dualform.mixers.heads import AbstractNormedHeads, IntoHeads, into_heads, split_width
from dualform.mixers.registration import register
from dualform.norms import rms_factor


@register("delta_rule")
@register("gated_delta_rule", gated=True)
class DeltaRule(AbstractNormedHeads):
    """S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T,  o_t = S_t^T q_t,  y_t = W_o (norm * o_t / rms(o_t) * gate_t).

    For each head: q, k, v = silu(conv(W x)), with causal convolutions over four tokens, channel by channel; then q and k are
    scaled to length 1, and q by 1 / sqrt(d_k); b = sigma(w_b . x). Plain: a = 1 and no gate. Gated: a = exp(-exp(a_log)
    softplus(w_a . x + a_bias)), gate = swish(W_g x). Negative: b = 2 sigma(w_b . x), so that what a key holds can change its
    sign: the eigenvalues of I - b k k^T lie in [-1, 1], and not in [0, 1].

    The dual form freezes the norm's scale and the sigmoid in silu(c) = c sigma(c); what it keeps is exact, while the map of
    gated linear attention (decays and keys, without what later keys erase) is not that of this mixer.

    **Arguments:** w_q, w_k (head, d_k, d); w_v (head, d_v, d); c_q, c_k (width, head * d_k), c_v (width, head * d_v), kernels;
    w_b (head, d); norm (d_v,); w_o (d_out, head * d_v). Together, or none of them: w_a (head, d), a_log, a_bias (head,). And
    w_g (head, d_v, d), optional; epsilon: of the norm; negative: whether b reaches 2.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Yang et al. 2024 (arXiv 2406.06484), plain; 2025 (arXiv 2412.06464), gated. Oracle: fla's
    `DeltaNet` on `delta_rule_recurrence`, and `GatedDeltaNet` on `naive_recurrent_gated_delta_rule`. Negative: Grazzi et al.
    2024 (arXiv 2411.12537).
    """

    _: KW_ONLY
    w_q: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=array)
    c_q: Float[Array, "width head*d_k"] = eqx.field(converter=array)
    c_k: Float[Array, "width head*d_k"] = eqx.field(converter=array)
    c_v: Float[Array, "width head*d_v"] = eqx.field(converter=array)
    w_b: Float[Array, "head d"] = eqx.field(converter=array)
    norm: Float[Array, " d_v"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    w_a: Float[Array, "head d"] | None = eqx.field(default=None, converter=optional_array)
    a_log: Float[Array, " head"] | None = eqx.field(default=None, converter=optional_array)
    a_bias: Float[Array, " head"] | None = eqx.field(default=None, converter=optional_array)
    w_g: Float[Array, "head d_v d"] | None = eqx.field(default=None, converter=optional_array)
    negative: bool = eqx.field(default=False, static=True)
    weight_decayed = ("w_q", "w_k", "w_v", "c_q", "c_k", "c_v", "w_b", "w_o", "w_a", "w_g")

    def __check_init__(self):
        given = [a is not None for a in (self.w_a, self.a_log, self.a_bias)]
        require(all(given) or not any(given), "w_a, a_log and a_bias make the decay; give all three, or none of them.")

    @classmethod
    def make(
        cls,
        d: int,
        *,
        key: Array,
        heads: int = 2,
        width: int = 4,
        gated: bool = False,
        negative: bool = False,
        dtype=None,
    ) -> "DeltaRule":
        """Weights of variance 1 / fan-in; gated: exp(a_log) uniform in [1, 16], steps log-uniform in [1e-3, 0.1]."""
        d_h, dtype, keys = split_width(d, heads), dtype or float, jr.split(key, 12)
        kernel = lambda key: jr.normal(key, (width, d), dtype) / width**0.5
        heads_of = lambda key: fan_in(key, heads, d_h, d, dtype=dtype)
        decay = {}
        if gated:
            steps = jnp.exp(jr.uniform(keys[9], (heads,), dtype, math.log(1e-3), math.log(0.1)))
            decay["a_log"] = jnp.log(jr.uniform(keys[8], (heads,), dtype, 1, 16))
            decay["a_bias"] = steps + jnp.log(-jnp.expm1(-steps))  # the inverse of softplus
            decay["w_a"] = fan_in(keys[10], heads, d, dtype=dtype)
        return cls(
            w_q=heads_of(keys[0]),
            w_k=heads_of(keys[1]),
            w_v=heads_of(keys[2]),
            c_q=kernel(keys[3]),
            c_k=kernel(keys[4]),
            c_v=kernel(keys[5]),
            w_b=fan_in(keys[6], heads, d, dtype=dtype),
            norm=jnp.ones(d_h, dtype),
            w_o=fan_in(keys[7], d, d, dtype=dtype),
            w_g=heads_of(keys[11]) if gated else None,
            negative=negative,
            **decay,
        )

    def init_state(self):
        """S = 0, (head, d_k, d_v), and the last tokens that the convolutions of q, k and v still see, zeros."""
        wide, before = accumulator(self.w_v.dtype), len(self.c_q) - 1
        tails = (jnp.zeros((before, kernel.shape[1]), wide) for kernel in (self.c_q, self.c_k, self.c_v))
        return jnp.zeros(self.dims("head d_k d_v"), wide), *tails

    def at(self, x, state, segments):
        """S is read by q and corrected by k, b and the convolved values; a is its decay."""
        remembered, tail_q, tail_k, tail_v = state
        d_k, wide = self.w_q.shape[1], accumulator(x.dtype, self.w_v.dtype)
        convolved = lambda w, kernel, tail: Convolution(kernel, tail, segments, len(x)).run(into_heads(x, w))
        (q, tail_q), (k, tail_k) = convolved(self.w_q, self.c_q, tail_q), convolved(self.w_k, self.c_k, tail_k)
        unit = lambda a: a * rms_factor(a, 1e-6 / d_k) * d_k**-0.5
        q, k = unit(jax.nn.silu(q)) * d_k**-0.5, unit(jax.nn.silu(k))
        b = jax.nn.sigmoid(project(x, self.w_b).astype(wide)) * (2 if self.negative else 1)
        memory = Delta(q, k, b, remembered, segments, decay=self.decay(x, wide))

        values, convolution = Written(IntoHeads(self.w_v), x), Convolution(self.c_v, tail_v, segments, len(x))
        c, tail_v = convolution.run(values.own)
        silu = Scale(jax.nn.sigmoid(c))  # times c
        gate = None if self.w_g is None else jax.nn.silu(into_heads(x, self.w_g))
        found = self.read_normed(memory, silu(c), silu @ convolution @ values, gate, "convolved tokens")
        return found._replace(state=(found.state, tail_q, tail_k, tail_v))

    def decay(self, x, wide):
        """a, (time, head), or None where nothing is forgotten."""
        if self.w_a is None or self.a_log is None or self.a_bias is None:
            return None
        steps = jax.nn.softplus(project(x, self.w_a).astype(wide) + self.a_bias.astype(wide)[None])
        return jnp.exp(-jnp.exp(self.a_log.astype(wide))[None] * steps)
