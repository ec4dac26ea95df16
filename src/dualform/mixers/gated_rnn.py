"""The gated linear RNN of *Gated recurrent neural networks discover attention*."""

from typing import ClassVar, no_type_check

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, append_one, project
from dualform.errors import require
from dualform.maps import Diagonal, Frozen, Linear, Scale, Written
from dualform.mixers.constant import Constant
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.ranges import check_decays
from dualform.mixers.registration import register
from dualform.room import check_fits


@register("gated_rnn")
class GatedRNN(AbstractMixer):
    """h_t = lam * h_{t-1} + g_in(x_t, 1),  y_t = D g_out(h_t),  with g(x) = (W_m x) * (W_x x).

    lam lies in [0, 1]: trained as exp(-exp(nu)), or given, a `Constant`. h is updated with x_t *before* it is read (the
    paper's Eq. 2 prints it one step late). 1 is appended to x, nothing to h; there are no biases.

    The output is quadratic in h, so the dual form carries one factor of each product and freezes the other. The product
    of units i and j is credited to i with the share (1 + lam_i - lam_j) / 2: half each between equals, all of it to a
    unit that remembers (lam = 1) when it is read by one that forgets (lam = 0), as keys and values are by a query.

    **Arguments:**

    - w_m_in, w_x_in: (n, d + 1).  w_m_out, w_x_out: (m, n).  readout: D, (d_out, m).
    - nu or decay: (n,), exactly one of the two.

    **Raises:** `InputError` where the shapes do not fit or a decay lies outside [0, 1].

    **Source:** Eq. 2 of Zucchet et al. 2023 (arXiv 2309.01775). Oracle: the equations in PyTorch, and
    linear attention written into its weights.
    """

    w_m_in: Float[Array, "n d+1"]
    w_x_in: Float[Array, "n d+1"]
    w_m_out: Float[Array, "m n"]
    w_x_out: Float[Array, "m n"]
    readout: Float[Array, "d_out m"]
    nu: Float[Array, " n"] | None
    given_decay: Float[Constant, " n"] | None
    linear_given_gates: ClassVar[bool] = False
    may_be_zero = ("n", "m")
    weight_decayed = ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout")

    @no_type_check  # it takes lists and NumPy's arrays, too
    def __init__(
        self, *, w_m_in, w_x_in, w_m_out, w_x_out, readout, nu=None, decay: Float[Constant, " n"] | None = None
    ):
        require((nu is None) != (decay is None), "give exactly one of nu (trained decays) and decay (fixed ones).")
        self.w_m_in, self.w_x_in, self.w_m_out, self.w_x_out, self.readout = w_m_in, w_x_in, w_m_out, w_x_out, readout
        self.nu, self.given_decay = nu, decay

    def __check_init__(self):
        check_given_decay(self.given_decay)

    @classmethod
    def make(
        cls, d: int, *, key: Array, n: int | None = None, m: int | None = None, d_out: int | None = None, dtype=None
    ) -> "GatedRNN":
        """Random weights of variance 1 / fan-in, and decays uniform in (0, 1); n and m are 2 d if not given.

        **Raises:** `InputError` where there is no memory for them.
        """
        n, m, d_out = n or 2 * d, m or 2 * d, d_out or d
        count = 2 * n * (d + 1) + 2 * m * n + d_out * m
        check_fits(
            count * jnp.dtype(dtype or float).itemsize, f"a gated RNN of n {n:,} and m {m:,}", "Give fewer units."
        )
        keys = jr.split(key, 6)
        decay = jr.uniform(keys[5], (n,), dtype or float, 1e-3, 1 - 1e-3)
        return cls(**cls.matrices(keys[:5], dtype, n=n, m=m, d=d, d_out=d_out), nu=jnp.log(-jnp.log(decay)))

    @property
    def decay(self) -> Float[Array, " n"]:
        """lam, in [0, 1]."""
        return decay_of(self.nu, self.given_decay)

    def init_state(self):
        """h = 0, (n,)."""
        return jnp.zeros(len(self.w_m_in), accumulator(self.w_m_in.dtype))

    def at(self, x, state, segments):
        """y_t = D ((W_m h_t) * (W_x h_t)); frozen, the mean of both factors, and the shares that the decays decide."""
        memory, write = Diagonal(self.decay, state, segments), Written(self.value, x)
        h, after = memory.run(write.own)
        m_h, x_h = project(h, self.w_m_out), project(h, self.w_x_out)
        lam = self.decay[None].astype(h.dtype)

        def carried(w, other, w_other):
            """W v beside the other factor, frozen: of units i and j, i has the share (1 + lam_i - lam_j) / 2."""
            faded = Scale((other - project(lam * h, w_other)) / 2) @ Linear(w)
            return faded + Scale(other / 2) @ Linear(w) @ Scale(lam)

        read = Linear(self.readout) @ (
            carried(self.w_m_out, x_h, self.w_x_out) + carried(self.w_x_out, m_h, self.w_m_out)
        )
        return Frozen(project(m_h * x_h, self.readout), after, read @ memory @ write)

    def value(self, x):
        """g_in(x, 1), (time, n)."""
        z = append_one(x)
        return project(z, self.w_m_in) * project(z, self.w_x_in)


def decay_of(nu: Float[Array, " n"] | None, given: Constant | None) -> Float[Array, " n"]:
    """exp(-exp(nu)), or the decays as given, in float32 or wider."""
    if given is not None:
        wide = accumulator(given.dtype)  # a float64 network keeps its decays where JAX's default is float32, too
        return given.value if given.dtype == wide else given.astype(wide)
    assert nu is not None
    # exp(-exp(10)) is already 0; beyond, exp(nu) overflows and its gradient would be infinity times 0.
    return jnp.exp(-jnp.exp(jnp.minimum(nu.astype(accumulator(nu.dtype)), 10.0)))


def check_given_decay(decay: Constant | None) -> None:
    """Raise `InputError` where an entry lies outside [0, 1]."""
    if decay is not None:
        check_decays("lambda", decay.value, cure="Clip it, or train with exp(-exp(nu)).")
