"""What a block does to each token by itself: a multilayer perceptron, plain or gated."""

import functools
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import affine
from dualform.errors import require
from dualform.maps import Frozen, Linear, Scale
from dualform.mixers.declared import optional_array
from dualform.models.affine import check_affine
from dualform.models.tokenwise import AbstractTokenwise

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
}
"""What may stand between the two layers, by name. "gelu" is x Phi(x), "gelu_tanh" the approximation of it."""


class MLP(AbstractTokenwise):
    """y = W_down f(W_up x + b_up) + b_down.

    **Arguments:** w_up (n, d), w_down (d, n); b_up (n,), b_down (d,), each optional; activation: f, one of `ACTIVATIONS`.

    **Raises:** `InputError` where the shapes do not fit, or for another activation.
    """

    w_up: Float[Array, "n d"] = eqx.field(converter=jnp.asarray)
    w_down: Float[Array, "d n"] = eqx.field(converter=jnp.asarray)
    b_up: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_down: Float[Array, " d"] | None = eqx.field(default=None, converter=optional_array)
    activation: str = eqx.field(default="gelu", static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("w_up", "w_down")

    def __check_init__(self):
        _check(self)

    @classmethod
    def make(
        cls, d: int, *, key: Array, hidden: int | None = None, activation: str = "gelu", bias: bool = True, dtype=None
    ) -> "MLP":
        """Weights of variance 1 / fan-in and biases of 0; 4 d hidden units if no number is given."""
        n, keys = hidden or 4 * d, jr.split(key)
        up, down = _fresh(keys[0], n, d, bias, dtype), _fresh(keys[1], d, n, bias, dtype)
        return cls(up[0], down[0], up[1], down[1], activation)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return len(self.w_down)

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.d_in

    def at(self, x, state, segments):
        """Each hidden unit keeps the ratio (f(v) - f(0)) / v; f(0) is bias."""
        up, down = Linear(self.w_up, self.b_up), Linear(self.w_down, self.b_down)
        v = up(x)
        return Frozen(down(ACTIVATIONS[self.activation](v)), state, down @ Scale(*_slope(self.activation, v)) @ up)


class GatedMLP(AbstractTokenwise):
    """y = W_down (f(W_gate x + b_gate) * (W_up x + b_up)) + b_down: SwiGLU where f is silu, GeGLU where it is gelu.

    **Arguments:** w_gate, w_up (n, d), w_down (d, n); b_gate, b_up (n,), b_down (d,), each optional; activation: f, one of
    `ACTIVATIONS`.

    **Raises:** `InputError` where the shapes do not fit, or for another activation.

    **Source:** Shazeer 2020 (arXiv 2002.05202).
    """

    w_gate: Float[Array, "n d"] = eqx.field(converter=jnp.asarray)
    w_up: Float[Array, "n d"] = eqx.field(converter=jnp.asarray)
    w_down: Float[Array, "d n"] = eqx.field(converter=jnp.asarray)
    b_gate: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_up: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_down: Float[Array, " d"] | None = eqx.field(default=None, converter=optional_array)
    activation: str = eqx.field(default="silu", static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("w_gate", "w_up", "w_down")

    def __check_init__(self):
        _check(self)
        check_affine("gate", self.w_gate, self.b_gate, *self.w_up.shape)

    @classmethod
    def make(
        cls, d: int, *, key: Array, hidden: int | None = None, activation: str = "silu", bias: bool = False, dtype=None
    ) -> "GatedMLP":
        """Weights of variance 1 / fan-in and biases of 0; 8 d / 3 hidden units if no number is given, as in Sec. 2."""
        n, keys = hidden or 8 * d // 3, jr.split(key, 3)
        gate, up = _fresh(keys[0], n, d, bias, dtype), _fresh(keys[1], n, d, bias, dtype)
        down = _fresh(keys[2], d, n, bias, dtype)
        return cls(gate[0], up[0], down[0], gate[1], up[1], down[1], activation)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return len(self.w_down)

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.d_in

    def at(self, x, state, segments):
        """The gate frozen."""
        gate = ACTIVATIONS[self.activation](affine(x, self.w_gate, self.b_gate))
        up, down = Linear(self.w_up, self.b_up), Linear(self.w_down, self.b_down)
        return Frozen(down(gate * up(x)), state, down @ Scale(gate) @ up)


class JoinedMLP(AbstractTokenwise):
    """A `GatedMLP` whose gate and up are one matrix: one product for both, which a single token is done with sooner.

    **Arguments:** w_both (2 n, d), the rows of w_gate and, below them, those of w_up; w_down (d, n); b_both (2 n,), b_down
    (d,), each optional; activation: as of `GatedMLP`.

    **Raises:** `InputError` where the shapes do not fit, or for another activation.
    """

    w_both: Float[Array, "2*n d"] = eqx.field(converter=jnp.asarray)
    w_down: Float[Array, "d n"] = eqx.field(converter=jnp.asarray)
    b_both: Float[Array, " 2*n"] | None = eqx.field(default=None, converter=optional_array)
    b_down: Float[Array, " d"] | None = eqx.field(default=None, converter=optional_array)
    activation: str = eqx.field(default="silu", static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("w_both", "w_down")

    def __check_init__(self):
        d, n = self.w_down.shape
        check_affine("both", self.w_both, self.b_both, 2 * n, d)
        check_affine("down", self.w_down, self.b_down, d, n)
        _check_activation(self.activation)

    @classmethod
    def of(cls, mlp: GatedMLP) -> "JoinedMLP":
        """The same map."""
        zeros = lambda b, w: jnp.zeros(len(w), w.dtype) if b is None else b
        both = None
        if mlp.b_gate is not None or mlp.b_up is not None:
            both = jnp.concatenate([zeros(mlp.b_gate, mlp.w_gate), zeros(mlp.b_up, mlp.w_up)])
        weights = jnp.concatenate([mlp.w_gate, mlp.w_up])
        return cls(weights, mlp.w_down, both, mlp.b_down, mlp.activation)

    def split(self) -> GatedMLP:
        """Gate and up as two matrices again."""
        gate, up = jnp.split(self.w_both, 2)
        b_gate, b_up = (None, None) if self.b_both is None else jnp.split(self.b_both, 2)
        return GatedMLP(gate, up, self.w_down, b_gate, b_up, self.b_down, self.activation)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return len(self.w_down)

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.d_in

    def at(self, x, state, segments):
        """The gate frozen."""
        gate, up = jnp.split(affine(x, self.w_both, self.b_both), 2, axis=1)
        gate, split, down = ACTIVATIONS[self.activation](gate), self.split(), Linear(self.w_down, self.b_down)
        return Frozen(down(gate * up), state, down @ Scale(gate) @ Linear(split.w_up, split.b_up))


def _slope(name: str, v: Float[Array, "time n"]) -> tuple[Array, Array]:
    """(f(v) - f(0)) / v, f'(0) where v is 0, and f(0): f(v) is their product with v, and the sum."""
    f = ACTIVATIONS[name]
    at_zero, slope = jax.jvp(f, (jnp.zeros((), v.dtype),), (jnp.ones((), v.dtype),))
    safe = jnp.where(v == 0, jnp.ones_like(v), v)
    return jnp.where(v == 0, slope, (f(safe) - at_zero) / safe), at_zero


def _check(mlp: MLP | GatedMLP) -> None:
    """Raise unless the layers fit together, and the activation is known."""
    require(
        mlp.w_up.ndim == 2 and 0 not in mlp.w_up.shape,
        f"w_up has shape {mlp.w_up.shape}; it must be (n, d), neither of them 0.",
    )
    n, d = mlp.w_up.shape
    check_affine("up", mlp.w_up, mlp.b_up, n, d)
    check_affine("down", mlp.w_down, mlp.b_down, d, n)
    _check_activation(mlp.activation)


def _check_activation(activation: str) -> None:
    """Raise unless it is known."""
    require(activation in ACTIVATIONS, f"there is no activation {activation!r}; there are {', '.join(ACTIVATIONS)}.")


def _fresh(key: Array, rows: int, columns: int, bias: bool, dtype) -> tuple[Array, Array | None]:
    """A matrix of variance 1 / fan-in, and a bias of 0 if there is to be one."""
    w = jr.normal(key, (rows, columns), dtype or float) / columns**0.5
    return w, jnp.zeros(rows, w.dtype) if bias else None
