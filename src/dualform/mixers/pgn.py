"""The parallel gated network: a linear map of the last few tokens where an RNN has a state, then one gate."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator, affine
from dualform.errors import require
from dualform.maps import Beside, Frozen, Identity, Linear, Memory, Scale
from dualform.mixers.declared import array
from dualform.mixers.freezing import tanh_slope
from dualform.mixers.fresh import uniform_affine
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.recurrences.windows import window
from dualform.segments import Segments


@register("pgn")
class PGN(AbstractMixer):
    """y_t = g_t * H_t + (1 - g_t) * tanh(c_t),  H_t = sum_j W_j x_{t-window+j} + b_h,  j = 0 ... window - 1.

    g_t = sigma(W_g [x_t, H_t] + b_g), c_t = W_t [x_t, H_t] + b_t. H_t reads the tokens before t, not t itself; before the
    first there are zeros. The state is the window: nothing older is remembered.

    The dual form freezes the gate and the slope tanh(c) / c: a map of fixed lags is left, gated.

    **Arguments:** w_h (n, window, d): W_j is w_h[:, j], the last meets the token just before; b_h (n,); w_g, w_t (n, d + n):
    the columns of x first; b_g, b_t (n,).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Jia et al. 2024 (arXiv 2409.17703), the PGN and its historical information extraction. The paper's window holds
    all tokens before t of a series of fixed length; so it does here where it is as long as the series, less one. Oracle:
    TPGN's `PGN_2d`, by its `deal` and `gated_unit`.
    """

    _: KW_ONLY
    w_h: Float[Array, "n window d"] = eqx.field(converter=array)
    b_h: Float[Array, " n"] = eqx.field(converter=array)
    w_g: Float[Array, "n d+n"] = eqx.field(converter=array)
    b_g: Float[Array, " n"] = eqx.field(converter=array)
    w_t: Float[Array, "n d+n"] = eqx.field(converter=array)
    b_t: Float[Array, " n"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_h", "w_g", "w_t")

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, window: int = 3, dtype=None) -> "PGN":
        """Uniform weights and biases, PyTorch's own, as in the public code; n is d if not given.

        **Raises:** `InputError` for a window of no token.
        """
        require(window >= 1, f"window is {window}; it must be at least 1 token.")
        n, keys = n or d, jr.split(key)
        w_h, b_h = uniform_affine(keys[0], n, d * window, dtype)
        w, b = uniform_affine(keys[1], 2 * n, d + n, dtype)
        return cls(w_h=w_h.reshape(n, window, d), b_h=b_h, w_g=w[:n], b_g=b[:n], w_t=w[n:], b_t=b[n:])

    @property
    def d_out(self) -> int:
        """Width of the output: the hidden units."""
        return self.dim("n")

    def init_state(self):
        """No token before the first: zeros, (window, d)."""
        return jnp.zeros(self.w_h.shape[1:], accumulator(self.w_h.dtype))

    def at(self, x, state, segments):
        """H of the window, then g * H + (1 - g) * tanh(c); frozen, tanh(c) is c times its slope."""
        wide = x.astype(accumulator(x.dtype, self.w_h.dtype))
        window = Window(state, segments)
        before, after = window.run(wide)
        history = Linear(self.w_h.reshape(self.d_out, -1), self.b_h)
        h = history(before)
        common = accumulator(wide.dtype, h.dtype)  # a bias may be wider than tokens and matrices
        both = jnp.concatenate([wide.astype(common), h.astype(common)], axis=1)
        gate, c = jax.nn.sigmoid(affine(both, self.w_g, self.b_g)), affine(both, self.w_t, self.b_t)
        past = history @ window
        candidate = Linear(self.w_t, self.b_t) @ Beside(Identity(), past)
        map = Scale(gate) @ past + Scale((1 - gate) * tanh_slope(c)) @ candidate
        return Frozen(gate * h + (1 - gate) * jnp.tanh(c), after, map)


class Window(Memory):
    """The tokens before each one, (time, window, d); tail (window, d): those before the first."""

    tail: Float[Array, "window d"]
    segments: Segments

    def run(self, v: Float[Array, "time d"]) -> tuple[Float[Array, "time window d"], State]:
        """The windows, and the last."""
        return window(v, len(self.tail), self.tail, **self.segments.flags)
