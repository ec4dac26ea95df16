"""Mixers on the inputs themselves, and an affine readout: the plain recurrent network."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.errors import require
from dualform.mixers import AbstractMixer
from dualform.mixers.declared import optional_array
from dualform.models.affine import check_affine
from dualform.models.model import AbstractModel, Stages
from dualform.models.stack import width_above
from dualform.models.stages import Affine


class Recurrent(AbstractModel):
    """y = W layer_L(... layer_1(x) ...) + b: no embedding, norm, skip connection or MLP.

    **Arguments:** layers: mixers, each as wide as the one below it gives; w (d_out, d_L), b (d_out,) or None.

    **Raises:** `InputError` where widths do not fit.

    **Source:** the recurrent networks of Chung et al. 2014 (arXiv 1412.3555), one layer and a readout.
    """

    layers: tuple[AbstractMixer, ...] = eqx.field(converter=tuple)
    w: Float[Array, "d_out d_L"] = eqx.field(converter=jnp.asarray)
    b: Float[Array, " d_out"] | None = eqx.field(default=None, converter=optional_array)
    weight_decayed: ClassVar[tuple[str, ...]] = ("w",)

    def __check_init__(self):
        require(len(self.layers) >= 1, "a recurrent network needs at least one layer.")
        width = width_above(self.layers, self.layers[0].d_in)
        require(
            self.w.ndim == 2 and self.w.shape[1] == width,
            f"w has shape {self.w.shape}; it must be (d_out, {width}), as the last layer gives.",
        )
        check_affine("out", self.w, self.b, len(self.w), width)

    @classmethod
    def make(cls, layers: tuple[AbstractMixer, ...], d_out: int, *, key: Array, dtype=None) -> "Recurrent":
        """A readout of variance 1 / fan-in, its bias 0."""
        require(len(layers) >= 1, "a recurrent network needs at least one layer.")
        d, dtype = layers[-1].d_out, dtype or float
        return cls(layers, jr.normal(key, (d_out, d), dtype) / d**0.5, jnp.zeros(d_out, dtype))

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.layers[0].d_in

    @property
    def d_out(self) -> int:
        """Width of an output."""
        return len(self.w)

    def stages(self) -> Stages:
        """The layers, each with its number, and the readout."""
        layers = tuple((f"layer {i + 1}", layer) for i, layer in enumerate(self.layers))
        return (*layers, ("readout", Affine(self.w, self.b)))
