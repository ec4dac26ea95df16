"""The side-gated RNN: the state is read through a gate that sees the input directly."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, project
from dualform.errors import require
from dualform.maps import Diagonal, Frozen, Linear, Scale, Written
from dualform.mixers.constant import Constant
from dualform.mixers.gated_rnn import check_gates, checked_decay, decay_of
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registry import register


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
    given_decay: Constant | None
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_m_in", "w_x_in", "w_side", "readout")

    def __init__(self, w_m_in, w_x_in, w_side, readout, *, nu=None, decay=None):
        require(nu is None or decay is None, "give at most one of nu (trained decays) and decay (fixed ones).")
        self.w_m_in, self.w_x_in, self.w_side = jnp.asarray(w_m_in), jnp.asarray(w_x_in), jnp.asarray(w_side)
        self.readout = jnp.asarray(readout)
        self.nu = None if nu is None else jnp.asarray(nu)
        self.given_decay = None if decay is None else checked_decay(Constant.of(decay))
        n = check_gates(self.w_m_in, self.w_x_in, self.readout, self.nu, self.given_decay)
        require(
            self.w_side.shape == self.w_m_in.shape and self.readout.shape[1] == n,
            f"w_side {self.w_side.shape} must have the shape of w_m_in {self.w_m_in.shape}, and readout "
            f"{self.readout.shape} must have {n} columns.",
        )

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, dtype=None) -> "SideGatedRNN":
        """Random weights of variance 1 / fan-in, and decays uniform in (0, 1); n is 2 d if not given."""
        n = n or 2 * d
        keys = jr.split(key, 5)
        normal = lambda key, *shape: jr.normal(key, shape, dtype or float) / shape[-1] ** 0.5
        decay = jr.uniform(keys[4], (n,), dtype or float, 1e-3, 1 - 1e-3)
        return cls(
            normal(keys[0], n, d),
            normal(keys[1], n, d),
            normal(keys[2], n, d),
            normal(keys[3], d, n),
            nu=jnp.log(-jnp.log(decay)),
        )

    @property
    def decay(self) -> Float[Array, " n"]:
        """lam, in [0, 1]."""
        if self.nu is None and self.given_decay is None:
            return jnp.ones(len(self.w_m_in), self.w_m_in.dtype)
        return decay_of(self.nu, self.given_decay)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_m_in.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.readout.shape[0]

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
