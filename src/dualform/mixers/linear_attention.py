"""Linear self-attention, the teacher of *Gated recurrent neural networks discover attention*."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.maps import AttentionMap, Flat, Frozen, Linear, Outer, Written
from dualform.mixers.heads import IntoHeads, into_heads
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registry import register


@register("linear_attention")
class LinearAttention(AbstractMixer):
    """y_t = (sum_{s<=t} v_s k_s^T) q_t, with v = W_V x, k = W_K x, q = W_Q x, for each head; no scale, no normaliser.

    Heads are concatenated, or joined by `w_o`. Its attention map is q_t . k_s, exactly.

    **Arguments:**

    - w_v: (d_v, d) or (head, d_v, d).
    - w_k, w_q: (d_k, d) or (head, d_k, d).
    - w_o: (d_out, head * d_v), optional.

    **Raises:** `InputError` where the shapes do not fit together.

    **Source:** Eq. 1 of Zucchet et al. 2023 (arXiv 2309.01775). Oracle: the double sum over (t, s), in closed form, and
    fla's `naive_recurrent_linear_attn`.

        >>> import jax.numpy as jnp
        >>> from dualform.mixers import LinearAttention
        >>> attention = LinearAttention(jnp.eye(2), jnp.eye(2), jnp.eye(2))
        >>> y, state = attention(jnp.ones((3, 2)))
        >>> y[:, 0].tolist()
        [2.0, 4.0, 6.0]
    """

    w_v: Float[Array, "head d_v d"]
    w_k: Float[Array, "head d_k d"]
    w_q: Float[Array, "head d_k d"]
    w_o: Float[Array, "d_out head*d_v"] | None
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_v", "w_k", "w_q", "w_o")

    def __init__(self, w_v, w_k, w_q, w_o=None):
        weights = {"w_v": w_v, "w_k": w_k, "w_q": w_q}
        for name, w in weights.items():
            require(
                jnp.ndim(w) in (2, 3) and 0 not in jnp.shape(w),
                f"{name} has shape {jnp.shape(w)}; it must be (rows, d) or (head, rows, d), none of them 0.",
            )
        self.w_v, self.w_k, self.w_q = (
            jnp.asarray(w)[None] if jnp.ndim(w) == 2 else jnp.asarray(w) for w in weights.values()
        )
        shapes = f"w_v {self.w_v.shape}, w_k {self.w_k.shape}, w_q {self.w_q.shape} (head, rows, d)"
        require(self.w_k.shape == self.w_q.shape, f"w_k and w_q must have one shape; got {shapes}.")
        require(
            self.w_v.shape[0] == self.w_k.shape[0] and self.w_v.shape[2] == self.w_k.shape[2],
            f"w_v must have as many heads and columns as w_k; got {shapes}.",
        )
        heads, d_v, _ = self.w_v.shape
        self.w_o = None if w_o is None else jnp.asarray(w_o)
        require(
            self.w_o is None or (self.w_o.ndim == 2 and self.w_o.shape[1] == heads * d_v),
            f"w_o must be (d_out, {heads * d_v}); got {None if w_o is None else jnp.shape(w_o)}.",
        )

    @classmethod
    def make(cls, d: int, *, key: Array, heads: int = 2, dtype=None) -> "LinearAttention":
        """Random weights: width d in and out, `heads` heads of d / heads, entries of variance 1 / d."""
        require(heads >= 1 and d % heads == 0, f"{heads} heads do not divide a width of {d}.")
        shape = (3, heads, d // heads, d)
        w_v, w_k, w_q = jr.normal(key, shape, dtype or float) / d**0.5
        return cls(w_v, w_k, w_q)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_v.shape[2]

    @property
    def d_out(self) -> int:
        """Width of the output: head * d_v, or the rows of `w_o`."""
        return self.w_v.shape[0] * self.w_v.shape[1] if self.w_o is None else self.w_o.shape[0]

    def init_state(self):
        """S (head, d_k, d_v): the transposed sum of v_s k_s^T."""
        return jnp.zeros((len(self.w_k), self.w_k.shape[1], self.w_v.shape[1]), accumulator(self.w_v.dtype))

    def at(self, x, state, segments):
        """y_t = S_t^T q_t for each head, joined."""
        memory = Outer(into_heads(x, self.w_q), into_heads(x, self.w_k), state, segments)
        write = Written(IntoHeads(self.w_v), x)
        o, state = memory.run(write.own)
        read = Flat() if self.w_o is None else Linear(self.w_o)
        return Frozen(read(o), state, AttentionMap(read, memory, write))
