"""Linear self-attention, the teacher of *Gated recurrent neural networks discover attention*."""

from typing import ClassVar, no_type_check

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.maps import AttentionMap, Flat, Frozen, Linear, Outer, Written
from dualform.mixers.declared import optional_array
from dualform.mixers.heads import IntoHeads, into_heads, split_width
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register


@no_type_check  # it takes lists and NumPy's arrays, too
def headed(w: ArrayLike) -> Float[Array, "head rows d"]:
    """A matrix for each head; of one head it may be given without the head's axis."""
    w = jnp.asarray(w)
    return w[None] if w.ndim == 2 else w


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

    w_v: Float[Array, "head d_v d"] = eqx.field(converter=headed)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=headed)
    w_q: Float[Array, "head d_k d"] = eqx.field(converter=headed)
    w_o: Float[Array, "d_out head*d_v"] | None = eqx.field(default=None, converter=optional_array)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_v", "w_k", "w_q", "w_o")

    @classmethod
    def make(cls, d: int, *, key: Array, heads: int = 2, dtype=None) -> "LinearAttention":
        """Random weights: width d in and out, `heads` heads of d / heads, entries of variance 1 / d."""
        shape = (3, heads, split_width(d, heads), d)
        w_v, w_k, w_q = jr.normal(key, shape, dtype or float) / d**0.5
        return cls(w_v, w_k, w_q)

    @property
    def d_out(self) -> int:
        """Width of the output: head * d_v, or the rows of `w_o`."""
        return self.dim("head*d_v" if self.w_o is None else "d_out")

    def init_state(self):
        """S (head, d_k, d_v): the transposed sum of v_s k_s^T."""
        return jnp.zeros(self.dims("head d_k d_v"), accumulator(self.w_v.dtype))

    def at(self, x, state, segments):
        """y_t = S_t^T q_t for each head, joined."""
        memory = Outer(into_heads(x, self.w_q), into_heads(x, self.w_k), state, segments)
        write = Written(IntoHeads(self.w_v), x)
        o, state = memory.run(write.own)
        read = Flat() if self.w_o is None else Linear(self.w_o)
        return Frozen(read(o), state, AttentionMap(read, memory, write))
