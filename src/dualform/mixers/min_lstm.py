"""The minimal LSTM: forget and input gates that read the token alone and add up to 1, with both of its candidates."""

from dataclasses import KW_ONLY

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import affine
from dualform.mixers.declared import array, optional_array
from dualform.mixers.fresh import uniform_affine
from dualform.mixers.min_gru import AbstractMinimal, expanded
from dualform.mixers.registration import register


@register("min_lstm")
@register("min_lstm_log", candidate="positive")
class MinLSTM(AbstractMinimal):
    """h_t = f'_t * h_{t-1} + i'_t * c_t,  f' = f / (f + i),  i' = i / (f + i),  y_t = W_o h_t (or h_t).

    f = sigma(W_f x + b_f), i = sigma(W_i x + b_i). The shares are computed from the logits, f' = sigma(log f - log i) and
    i' = sigma(log i - log f), so that they stay exact where both gates underflow. The candidate is c = W_h x + b_h
    ("linear": signed), or g of it ("positive": that of the paper's log-space form), as in `MinGRU`; the state is h itself.

    **Arguments:** w_f, w_i, w_h (n, d); w_o (d_out, n), or None where h is the output; b_f, b_i, b_h (n,), each optional;
    candidate: "linear" or "positive".

    **Raises:** `InputError` where the shapes do not fit, or for another candidate.

    **Source:** Feng et al. 2024 (arXiv 2410.01201), Sec. 3.2 and App. B. Oracle: minGRU-pytorch's `minLSTM` (positive,
    without biases), and the paper's equations in PyTorch (linear).
    """

    _: KW_ONLY
    w_f: Float[Array, "n d"] = eqx.field(converter=array)
    w_i: Float[Array, "n d"] = eqx.field(converter=array)
    w_h: Float[Array, "n d"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out n"] | None = eqx.field(default=None, converter=optional_array)
    b_f: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_i: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_h: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    candidate: str = eqx.field(default="linear", static=True)
    weight_decayed = ("w_f", "w_i", "w_h", "w_o")

    @classmethod
    def make(cls, d: int, *, key: Array, expansion: float = 1.0, candidate: str = "linear", dtype=None) -> "MinLSTM":
        """n = expansion * d units, projected back to d where that is not d; uniform weights, PyTorch's own, as in its port."""
        n, keys = expanded(d, expansion), jr.split(key, 4)
        w_f, b_f = uniform_affine(keys[0], n, d, dtype)
        w_i, b_i = uniform_affine(keys[1], n, d, dtype)
        w_h, b_h = uniform_affine(keys[2], n, d, dtype)
        w_o = None if n == d else uniform_affine(keys[3], d, n, dtype)[0]
        return cls(w_f=w_f, w_i=w_i, w_h=w_h, w_o=w_o, b_f=b_f, b_i=b_i, b_h=b_h, candidate=candidate)

    def shares(self, x):
        """f' and i', from the logits."""
        odds = jax.nn.log_sigmoid(affine(x, self.w_f, self.b_f)) - jax.nn.log_sigmoid(affine(x, self.w_i, self.b_i))
        return jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds)
