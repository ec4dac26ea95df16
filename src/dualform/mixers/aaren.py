"""Attention as a recurrent network: softmax attention with a query that never changes, in constant memory."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator
from dualform.maps import AttentionMap, Frozen, Linear, Memory, Written
from dualform.maps.memory import each_token
from dualform.mixers.declared import array, optional_array
from dualform.mixers.heads import IntoHeads, into_heads, split_width
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.recurrences.softmax import LOWEST, softmax_scan
from dualform.segments import Segments


@register("aaren")
class Aaren(AbstractMixer):
    """o_t = sum_{s<=t} exp(q . k_s) v_s / sum_{s<=t} exp(q . k_s),  y_t = W_o o_t + b_o.

    For each head: k, v = W_k x / sqrt(d_k), W_v x, and q learned, the same for all tokens. The state is the largest score so
    far, m, and the two sums, u and w, divided by exp(m).

    The dual form freezes the softmax weights, which are its map.

    **Arguments:** query (head, d_k); w_k (head, d_k, d); w_v (head, d_v, d); w_o (d_out, head * d_v);
    b_o (d_out,), or None. Biases of keys and values need no place: the former is one number on all of a head's scores, which
    the softmax does not see, the latter is part of b_o.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Feng et al. 2024 (arXiv 2405.13956), Sec. 3: the query is a learned token, W_q of it is `query` here. Oracle:
    masked softmax attention with one query row for each prefix, torch's `scaled_dot_product_attention` (float64).
    """

    _: KW_ONLY
    query: Float[Array, "head d_k"] = eqx.field(converter=array)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    b_o: Float[Array, " d_out"] | None = eqx.field(default=None, converter=optional_array)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_k", "w_v", "w_o")

    @classmethod
    def make(cls, d: int, *, key: Array, heads: int = 2, dtype=None) -> "Aaren":
        """Weights of variance 1 / fan-in, a query of variance 1."""
        d_h, dtype, keys = split_width(d, heads), dtype or float, jr.split(key, 4)
        w = cls.matrices(keys[1:], dtype, head=heads, d_k=d_h, d_v=d_h, d=d, d_out=d)
        return cls(**w, query=jr.normal(keys[0], (heads, d_h), dtype))

    def init_state(self):
        """m, the lowest that there is, u = 0, (head,), and w = 0, (head, d_v)."""
        (heads, d_v), wide = self.dims("head d_v"), accumulator(self.w_v.dtype)
        return jnp.full(heads, LOWEST, wide), jnp.zeros(heads, wide), jnp.zeros((heads, d_v), wide)

    def at(self, x, state, segments):
        """The running average under the softmax of the scores, and its readout."""
        k = into_heads(x, self.w_k)
        scores = jnp.einsum("thk,hk->th", k, self.query.astype(k.dtype)) * self.dim("d_k") ** -0.5
        memory, write, read = (
            SoftmaxAverage(scores, state, segments),
            Written(IntoHeads(self.w_v), x),
            Linear(self.w_o, self.b_o),
        )
        o, state = memory.run(write.own)
        return Frozen(read(o), state, AttentionMap(read, memory, write))


class SoftmaxAverage(Memory):
    """o_t = sum_{s<=t} exp(score_s) v_s / sum_{s<=t} exp(score_s), for each head.

    **Arguments:** scores (time, head); state: m, u (head,), and w (head, d_v).
    """

    scores: Float[Array, "time head"]
    state: tuple[Float[Array, " head"], Float[Array, " head"], Float[Array, "head d_v"]]
    segments: Segments

    def run(self, v: Float[Array, "time head d_v"]) -> tuple[Float[Array, "time head d_v"], State]:
        """The averages, and m, u and w after the last token."""
        return softmax_scan(self.scores, v, self.state, **self.segments.flags)

    def weights(self) -> Float[Array, "head time source"]:
        """The softmax weights over the tokens of this call."""
        (m, u, _), (time, heads) = self.state, self.scores.shape
        alone = (m, u, jnp.zeros((heads, time), u.dtype))
        o, _ = softmax_scan(self.scores, each_token(time, heads, self.scores.dtype), alone, **self.segments.flags)
        return jnp.moveaxis(o, 1, 0)
