"""The minimal GRU: a gated recurrent unit whose gate and candidate read the token alone, with both of its candidates."""

import abc
from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, affine
from dualform.errors import require
from dualform.maps import AttentionMap, Diagonal, Frozen, Identity, Linear, Written
from dualform.mixers.declared import array, optional_array
from dualform.mixers.fresh import uniform_affine
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register


class AbstractMinimal(AbstractMixer):
    """h_t = keep_t * h_{t-1} + write_t * c_t,  y_t = W_o h_t (or h_t): what the minimal cells share; they differ in the gates.

    The candidate is c = W_h x + b_h ("linear": signed), or c = g(W_h x + b_h) ("positive"), with g(a) = a + 0.5 where a >= 0
    and sigma(a) elsewhere.
    """

    w_h: eqx.AbstractVar[Float[Array, "n d"]]
    w_o: eqx.AbstractVar[Float[Array, "d_out n"] | None]
    b_h: eqx.AbstractVar[Float[Array, " n"] | None]
    candidate: eqx.AbstractVar[str]
    linear_given_gates: ClassVar[bool] = True

    def __check_init__(self):
        require(
            self.candidate in ("linear", "positive"),
            f"there is no candidate {self.candidate!r}; there are linear and positive.",
        )

    @abc.abstractmethod
    def shares(self, x) -> tuple[Float[Array, "time n"], Float[Array, "time n"]]:
        """How much is kept and how much is written; they add up to 1."""

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.dim("n" if self.w_o is None else "d_out")

    def init_state(self):
        """h = 0, (n,)."""
        return jnp.zeros(self.dims("n"), accumulator(self.w_h.dtype))

    def at(self, x, state, segments):
        """h_t = keep_t * h_{t-1} + write_t * c_t, and its projection."""
        keep, write = self.shares(x)
        memory, candidate = Diagonal(keep, state, segments, write), Written(self.value, x)
        h, state = memory.run(candidate.own)
        read = Identity() if self.w_o is None else Linear(self.w_o)
        over = "values" if self.candidate == "positive" else "tokens"
        return Frozen(read(h), state, AttentionMap(read, memory, candidate, over))

    def value(self, x):
        """The candidate c, (time, n)."""
        c = affine(x, self.w_h, self.b_h)
        return positive(c) if self.candidate == "positive" else c


@register("min_gru")
@register("min_gru_log", candidate="positive")
class MinGRU(AbstractMinimal):
    """h_t = (1 - z_t) * h_{t-1} + z_t * c_t,  z = sigma(W_z x + b_z),  y_t = W_o h_t (or h_t).

    The candidate is c = W_h x + b_h ("linear": signed, the paper's Sec. 3.1), or c = g(W_h x + b_h) ("positive": that of its
    log-space form, App. B), with g(a) = a + 0.5 where a >= 0 and sigma(a) elsewhere.

    The state is h itself, in linear space, and 0 before the first token: h is never below 0 with the positive candidate,
    and no logarithm is taken. (The paper's log-space code starts from g(0) = 0.5: pass that as the state to have it.)

    **Arguments:** w_z, w_h (n, d); w_o (d_out, n), or None where h is the output; b_z, b_h (n,), each optional; candidate:
    "linear" or "positive".

    **Raises:** `InputError` where the shapes do not fit, or for another candidate.

    **Source:** Feng et al. 2024 (arXiv 2410.01201). Oracle: minGRU-pytorch's `minGRU` (positive, without biases) and
    mingru-scans's `MinGRU` (positive) and `SignedMinGRU` (linear, its sign held at 1).
    """

    _: KW_ONLY
    w_z: Float[Array, "n d"] = eqx.field(converter=array)
    w_h: Float[Array, "n d"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out n"] | None = eqx.field(default=None, converter=optional_array)
    b_z: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_h: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    candidate: str = eqx.field(default="linear", static=True)
    weight_decayed = ("w_z", "w_h", "w_o")

    @classmethod
    def make(cls, d: int, *, key: Array, expansion: float = 1.0, candidate: str = "linear", dtype=None) -> "MinGRU":
        """n = expansion * d units, projected back to d where that is not d; uniform weights, PyTorch's own, as in its ports."""
        n, keys = expanded(d, expansion), jr.split(key, 3)
        w_z, b_z = uniform_affine(keys[0], n, d, dtype)
        w_h, b_h = uniform_affine(keys[1], n, d, dtype)
        w_o = None if n == d else uniform_affine(keys[2], d, n, dtype)[0]
        return cls(w_z=w_z, w_h=w_h, w_o=w_o, b_z=b_z, b_h=b_h, candidate=candidate)

    def shares(self, x):
        """1 - z and z."""
        z = affine(x, self.w_z, self.b_z)
        return jax.nn.sigmoid(-z), jax.nn.sigmoid(z)


def positive(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """g(a): a + 0.5 where a >= 0, sigma(a) elsewhere; continuous, above 0."""
    return jnp.where(a >= 0, a + 0.5, jax.nn.sigmoid(a))


def expanded(d: int, expansion: float) -> int:
    """The units of a minimal cell: the whole part of expansion * d."""
    require(expansion * d >= 1, f"expansion is {expansion}; times a width of {d} it must give at least one unit.")
    return int(expansion * d)
