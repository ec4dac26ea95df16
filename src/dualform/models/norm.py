"""Norms over the width of a token, with their weights."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.maps import Centred, Frozen, Scale
from dualform.mixers.declared import optional_array
from dualform.models.tokenwise import AbstractTokenwise
from dualform.norms import layer_norm, rms_factor


class RMSNorm(AbstractTokenwise):
    """x / sqrt(mean(x^2) + epsilon) * weight, or * (1 + weight) where `plus_one` is set.

    **Arguments:** weight (d,); epsilon: what is added to the mean square; plus_one: the weight is kept as its distance from
    1, so that a fresh norm is all zeros.

    **Raises:** `InputError` where the weight is no vector.

    **Source:** Zhang & Sennrich 2019 (arXiv 1910.07467); with 1 + weight in Gemma and Griffin (arXiv 2402.19427, its code).
    """

    weight: Float[Array, " d"] = eqx.field(converter=jnp.asarray)
    epsilon: float = eqx.field(default=1e-6, static=True)
    plus_one: bool = eqx.field(default=False, static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ()

    def __check_init__(self):
        check_vector("weight", self.weight)

    @classmethod
    def make(cls, d: int, *, epsilon: float = 1e-6, plus_one: bool = False, dtype=None) -> "RMSNorm":
        """A norm that scales by 1."""
        return cls(jnp.full(d, 0.0 if plus_one else 1.0, dtype or float), epsilon, plus_one)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return len(self.weight)

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.d_in

    def at(self, x, state, segments):
        """Each token normed; the scale frozen."""
        wide = accumulator(x.dtype, self.weight.dtype)
        x, weight = x.astype(wide), self._factor().astype(wide)[None]
        factor = rms_factor(x, self.epsilon)
        return Frozen(x * factor * weight, state, Scale(factor * weight))

    def _factor(self) -> Float[Array, " d"]:
        # 1 + weight in the weight's own dtype would round a small bfloat16 weight away.
        return 1 + self.weight.astype(accumulator(self.weight.dtype)) if self.plus_one else self.weight


class LayerNorm(AbstractTokenwise):
    """(x - mean) / sqrt(variance + epsilon) * weight + bias.

    **Arguments:** weight (d,); bias (d,), optional; epsilon: what is added to the variance.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Ba, Kiros & Hinton 2016 (arXiv 1607.06450).
    """

    weight: Float[Array, " d"] = eqx.field(converter=jnp.asarray)
    bias: Float[Array, " d"] | None = eqx.field(default=None, converter=optional_array)
    epsilon: float = eqx.field(default=1e-5, static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ()

    def __check_init__(self):
        check_vector("weight", self.weight)
        require(
            self.bias is None or self.bias.shape == self.weight.shape,
            f"bias has shape {None if self.bias is None else self.bias.shape}; weight has {self.weight.shape}.",
        )

    @classmethod
    def make(cls, d: int, *, epsilon: float = 1e-5, dtype=None) -> "LayerNorm":
        """A norm that scales by 1 and moves by 0."""
        return cls(jnp.ones(d, dtype or float), jnp.zeros(d, dtype or float), epsilon)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return len(self.weight)

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.d_in

    def at(self, x, state, segments):
        """Each token normed; the scale frozen, the mean is linear and stays free, the bias is bias."""
        wide = accumulator(x.dtype, self.weight.dtype)
        centred = Centred(str(wide))
        scale = rms_factor(centred(x), self.epsilon) * self.weight.astype(wide)[None]
        map = Scale(scale, None if self.bias is None else self.bias[None]) @ centred
        bias = jnp.zeros_like(self.weight) if self.bias is None else self.bias
        return Frozen(layer_norm(x, self.weight, bias, self.epsilon), state, map)


def check_vector(name: str, a: Array) -> None:
    """Raise `InputError` unless `a`, called `name`, is a vector with entries."""
    require(a.ndim == 1 and len(a) >= 1, f"{name} has shape {a.shape}; it must be (d,), d at least 1.")
