"""The gated RNN with a dense recurrence, the comparison of Fig. 4 in *Gated recurrent neural networks discover attention*."""

import functools
from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, append_one, project
from dualform.maps import Dense, Frozen, Linear, Scale, Written
from dualform.mixers.declared import array
from dualform.mixers.fresh import fan_in
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register


@register("dense_gated_rnn")
class DenseGatedRNN(AbstractMixer):
    """h_t = A h_{t-1} + g_in(x_t, 1),  y_t = D g_out(h_t),  with g(x) = (W_m x) * (W_x x) and A any matrix.

    Equivalent to `GatedRNN` where A is diagonal. The dual form carries each factor of the quadratic readout in turn, the
    other frozen, and takes the mean.

    **Arguments:** transition A (n, n); w_m_in, w_x_in (n, d + 1); w_m_out, w_x_out (m, n); readout D (d_out, m).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Sec. 3.3 of Zucchet et al. 2023 (arXiv 2309.01775). Oracle: the equations in PyTorch, and
    `GatedRNN` with a diagonal A.
    """

    _: KW_ONLY
    transition: Float[Array, "n n"] = eqx.field(converter=array)
    w_m_in: Float[Array, "n d+1"] = eqx.field(converter=array)
    w_x_in: Float[Array, "n d+1"] = eqx.field(converter=array)
    w_m_out: Float[Array, "m n"] = eqx.field(converter=array)
    w_x_out: Float[Array, "m n"] = eqx.field(converter=array)
    readout: Float[Array, "d_out m"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = False
    may_be_zero = ("n", "m")
    weight_decayed = ("transition", "w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout")

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, m: int | None = None, dtype=None) -> "DenseGatedRNN":
        """Random weights of variance 1 / fan-in; A is orthogonal, scaled by 0.95."""
        n, m = n or 2 * d, m or 2 * d
        keys = jr.split(key, 6)
        normal = functools.partial(fan_in, dtype=dtype)
        return cls(
            transition=0.95 * jr.orthogonal(keys[5], n).astype(dtype or float),
            w_m_in=normal(keys[0], n, d + 1),
            w_x_in=normal(keys[1], n, d + 1),
            w_m_out=normal(keys[2], m, n),
            w_x_out=normal(keys[3], m, n),
            readout=normal(keys[4], d, m),
        )

    def init_state(self):
        """h = 0, (n,)."""
        return jnp.zeros(len(self.w_m_in), accumulator(self.w_m_in.dtype))

    def at(self, x, state, segments):
        """y_t = D ((W_m h_t) * (W_x h_t)); frozen, the mean of both ways to freeze one of the factors."""
        memory, write = Dense(self.transition, state, segments), Written(self.value, x)
        h, after = memory.run(write.own)
        m_h, x_h = project(h, self.w_m_out), project(h, self.w_x_out)
        each = lambda w, other: Scale(other / 2) @ Linear(w)
        read = Linear(self.readout) @ (each(self.w_m_out, x_h) + each(self.w_x_out, m_h))
        return Frozen(project(m_h * x_h, self.readout), after, read @ memory @ write)

    def value(self, x):
        """g_in(x, 1), (time, n)."""
        z = append_one(x)
        return project(z, self.w_m_in) * project(z, self.w_x_in)
