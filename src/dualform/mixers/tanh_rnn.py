"""The plain recurrent network of Elman, with a tanh."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator, project
from dualform.compiled import compiled
from dualform.maps import Frozen, Memory, Written
from dualform.mixers.declared import array
from dualform.mixers.freezing import tanh_slope
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.mixers.torch_layout import check_torch_layout
from dualform.recurrences.cells import cell
from dualform.segments import Segments


@register("tanh_rnn")
class TanhRNN(AbstractMixer):
    """h_t = tanh(U x_t + V h_{t-1} + b),  y_t = h_t.

    The dual form freezes the slope tanh(a) / a: a linear recurrence with the matrix diag(slope_t) V is left, and each
    token brings U x_t + b.

    **Arguments:** u (n, d), v (n, n), b (n,).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Elman 1990; the tanh unit of Chung et al. 2014 (arXiv 1412.3555). Oracle: `torch.nn.RNN`, whose two biases are
    added.
    """

    u: Float[Array, "n d"] = eqx.field(converter=array)
    v: Float[Array, "n n"] = eqx.field(converter=array)
    b: Float[Array, " n"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("u", "v")

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, dtype=None) -> "TanhRNN":
        """U of variance 1 / d, V orthogonal and scaled by 0.9, b of 0."""
        n, dtype = n or d, dtype or float
        keys = jr.split(key)
        v = 0.9 * jr.orthogonal(keys[1], n)
        return cls(jr.normal(keys[0], (n, d), dtype) / d**0.5, v.astype(dtype), jnp.zeros(n, dtype))

    @classmethod
    def from_torch(cls, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array) -> "TanhRNN":
        """From the arrays of one layer of `torch.nn.RNN`: (n, d), (n, n), (n,), (n,).

        **Raises:** `InputError` where they are no such layer.
        """
        check_torch_layout("RNN", 1, weight_ih, weight_hh, bias_ih, bias_hh)
        return cls(weight_ih, weight_hh, bias_ih + bias_hh)

    @property
    def d_out(self) -> int:
        """Width of the output: the hidden units."""
        return self.dim("n")

    def init_state(self):
        """h = 0, (n,)."""
        return jnp.zeros(self.d_out, accumulator(self.u.dtype))

    def run(self, x, state, start, mask):
        """Every U x_t + V h_{t-1} + b, (time, n), and the last h."""
        driven = self.driven(x)

        def step(product, h, driven_t):
            a = driven_t + product(0, h)
            return jnp.tanh(a), a

        return cell(step, driven, state.astype(driven.dtype), weights=(self.v,), start=start, mask=mask)

    def driven(self, x):
        """U x_t + b, (time, n)."""
        driven = project(x, self.u)
        return driven + self.b.astype(driven.dtype)[None]

    def at(self, x, state, segments):
        """h = tanh(a); frozen, h = slope_t * a with slope_t = tanh(a_t) / a_t."""
        a, after = self.run(x, state, **segments.flags)
        memory = Sloped(self.v, tanh_slope(a), state, segments)
        return Frozen(jnp.tanh(a), after, memory @ Written(self.driven, x))


class Sloped(Memory):
    """h_t = slope_t * (V h_{t-1} + v_t); V (n, n), slope (time, n), state (n,)."""

    v: Float[Array, "n n"]
    slope: Float[Array, "time n"]
    state: Float[Array, " n"]
    segments: Segments

    @compiled
    def run(self, v: Float[Array, "time n"]) -> tuple[Float[Array, "time n"], State]:
        """h at each token, and the last."""

        def step(product, h, inputs):
            slope_t, v_t = inputs
            h = slope_t * (product(0, h) + v_t)
            return h, h

        state = self.state.astype(self.slope.dtype)
        return cell(step, (self.slope, v), state, weights=(self.v,), **self.segments.flags)
