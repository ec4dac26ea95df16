"""The side-gated RNN: the state is read through a gate that sees the input directly."""

from typing import ClassVar, no_type_check

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, project
from dualform.errors import require
from dualform.maps import Diagonal, Frozen, Linear, Scale, Written
from dualform.mixers.constant import Constant
from dualform.mixers.gated_rnn import check_given_decay, decay_of
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register


@register("side_gated_rnn")
class SideGatedRNN(AbstractMixer):
    """h_t = lam * h_{t-1} + (W_m x_t) * (W_x x_t),  y_t = D (h_t * W x_t).

    lam is trained as exp(-exp(nu)), or given, a `Constant`, or 1 (a plain sum, no parameter) where neither nu nor decay is given.

    **Arguments:**

    - w_m_in, w_x_in, w_side: (n, d).  readout: D, (d_out, n).
    - nu or decay: (n,), at most one of the two.

    **Raises:** `InputError` where the shapes do not fit or a decay lies outside [0, 1].

    **Source:** Zucchet et al. 2023 (arXiv 2309.01775 v2, Fig. 5). Oracle: the equations in
    PyTorch, and linear attention written into its weights.
    """

    w_m_in: Float[Array, "n d"]
    w_x_in: Float[Array, "n d"]
    w_side: Float[Array, "n d"]
    readout: Float[Array, "d_out n"]
    nu: Float[Array, " n"] | None
    given_decay: Float[Constant, " n"] | None
    linear_given_gates: ClassVar[bool] = True
    may_be_zero = ("n",)
    weight_decayed = ("w_m_in", "w_x_in", "w_side", "readout")

    @no_type_check  # it takes lists and NumPy's arrays, too
    def __init__(self, w_m_in, w_x_in, w_side, readout, *, nu=None, decay: Float[Constant, " n"] | None = None):
        require(nu is None or decay is None, "give at most one of nu (trained decays) and decay (fixed ones).")
        self.w_m_in, self.w_x_in, self.w_side, self.readout = w_m_in, w_x_in, w_side, readout
        self.nu, self.given_decay = nu, decay

    def __check_init__(self):
        check_given_decay(self.given_decay)

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, dtype=None) -> "SideGatedRNN":
        """Random weights of variance 1 / fan-in, and decays uniform in (0, 1); n is 2 d if not given."""
        n = n or 2 * d
        keys = jr.split(key, 5)
        decay = jr.uniform(keys[4], (n,), dtype or float, 1e-3, 1 - 1e-3)
        return cls(**cls.matrices(keys[:4], dtype, n=n, d=d, d_out=d), nu=jnp.log(-jnp.log(decay)))

    @property
    def decay(self) -> Float[Array, " n"]:
        """lam, in [0, 1]."""
        if self.nu is None and self.given_decay is None:
            return jnp.ones(len(self.w_m_in), self.w_m_in.dtype)
        return decay_of(self.nu, self.given_decay)

    def init_state(self):
        """h = 0, (n,)."""
        return jnp.zeros(len(self.w_m_in), accumulator(self.w_m_in.dtype))

    def at(self, x, state, segments):
        """y_t = D (h_t * W x_t)."""
        memory, write = Diagonal(self.decay, state, segments), Written(self.value, x)
        read = Linear(self.readout) @ Scale(project(x, self.w_side))
        h, state = memory.run(write.own)
        return Frozen(read(h), state, read @ memory @ write)

    def value(self, x):
        """(W_m x) * (W_x x), (time, n)."""
        return project(x, self.w_m_in) * project(x, self.w_x_in)
