"""The minimal GRU: a gated recurrent unit whose gate and candidate read the token alone, with both of its candidates."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, affine
from dualform.errors import require
from dualform.maps import AttentionMap, Diagonal, Frozen, Identity, Linear, Written
from dualform.mixers.affine import check_affine, optional_array, uniform_affine
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registry import register


@register("min_gru")
@register("min_gru_log", candidate="positive")
class MinGRU(AbstractMixer):
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

    w_z: Float[Array, "n d"] = eqx.field(converter=jnp.asarray)
    w_h: Float[Array, "n d"] = eqx.field(converter=jnp.asarray)
    w_o: Float[Array, "d_out n"] | None = eqx.field(default=None, converter=optional_array)
    b_z: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_h: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    candidate: str = eqx.field(default="linear", static=True)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_z", "w_h", "w_o")

    def __check_init__(self):
        check_projection("z", self.w_z, self.w_o)
        check_candidate(self.candidate)
        check_affine("z", self.w_z, self.b_z, *self.w_z.shape)
        check_affine("h", self.w_h, self.b_h, *self.w_z.shape)

    @classmethod
    def make(cls, d: int, *, key: Array, expansion: float = 1.0, candidate: str = "linear", dtype=None) -> "MinGRU":
        """n = expansion * d units, projected back to d where that is not d; uniform weights, PyTorch's own, as in its ports."""
        n, keys = expanded(d, expansion), jr.split(key, 3)
        w_z, b_z = uniform_affine(keys[0], n, d, dtype)
        w_h, b_h = uniform_affine(keys[1], n, d, dtype)
        w_o = None if n == d else uniform_affine(keys[2], d, n, dtype)[0]
        return cls(w_z, w_h, w_o, b_z, b_h, candidate)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_z.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.w_z if self.w_o is None else self.w_o)

    def init_state(self):
        """h = 0, (n,)."""
        return jnp.zeros(len(self.w_z), accumulator(self.w_z.dtype))

    def at(self, x, state, segments):
        """h_t = (1 - z_t) * h_{t-1} + z_t * c_t, and its projection."""
        z = affine(x, self.w_z, self.b_z)
        keep, write = jax.nn.sigmoid(-z), jax.nn.sigmoid(z)
        memory, candidate = Diagonal(keep, state, segments, write), Written(self.value, x)
        h, state = memory.run(candidate.own)
        read = Identity() if self.w_o is None else Linear(self.w_o)
        over = "values" if self.candidate == "positive" else "tokens"
        return Frozen(read(h), state, AttentionMap(read, memory, candidate, over))

    def value(self, x):
        """The candidate c, (time, n)."""
        c = affine(x, self.w_h, self.b_h)
        return positive(c) if self.candidate == "positive" else c


def positive(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """g(a): a + 0.5 where a >= 0, sigma(a) elsewhere; continuous, above 0."""
    return jnp.where(a >= 0, a + 0.5, jax.nn.sigmoid(a))


def expanded(d: int, expansion: float) -> int:
    """The units of a minimal cell: the whole part of expansion * d."""
    require(expansion * d >= 1, f"expansion is {expansion}; times a width of {d} it must give at least one unit.")
    return int(expansion * d)


def check_candidate(candidate: str) -> None:
    """Raise `InputError` unless there is such a candidate."""
    require(candidate in ("linear", "positive"), f"there is no candidate {candidate!r}; there are linear and positive.")


def check_projection(gate: str, w: Array, w_o: Array | None) -> None:
    """Raise `InputError` unless the gate's weights are (n, d) and w_o, if there is one, (d_out, n)."""
    require(w.ndim == 2 and 0 not in w.shape, f"w_{gate} has shape {w.shape}; it must be (n, d), neither of them 0.")
    require(
        w_o is None or (w_o.ndim == 2 and w_o.shape[1] == len(w)),
        f"w_o has shape {None if w_o is None else w_o.shape}; it must be (d_out, {len(w)}), or None.",
    )
