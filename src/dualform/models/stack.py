"""Mixers one above the other, between a linear embedding and a linear readout."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import append_one, project
from dualform.errors import require
from dualform.maps import LINEAR, Frozen, Linear
from dualform.maps.frozen import Kind
from dualform.mixers import AbstractMixer
from dualform.models.model import AbstractModel, Stages
from dualform.models.tokenwise import AbstractTokenwise


class Stack(AbstractModel):
    """y = R (layer_L(... layer_1(E (x, 1)) ...), 1): no norm, no dropout, no skip connection.

    **Arguments:** embedding: E, (d_1, d_in + 1), the last column its bias; layers: mixers, each as wide as the one below it
    gives; readout: R, (d_out, d_L + 1).

    **Raises:** `InputError` where widths do not fit.

    **Source:** Sec. 3.3 of Zucchet et al. 2023 (arXiv 2309.01775), the architecture of its Figs. 4 and 5.
    """

    embedding: Float[Array, "d_1 columns_in"] = eqx.field(converter=jnp.asarray)
    layers: tuple[AbstractMixer, ...] = eqx.field(converter=tuple)
    readout: Float[Array, "d_out columns_out"] = eqx.field(converter=jnp.asarray)
    weight_decayed: ClassVar[tuple[str, ...]] = ("embedding", "readout")

    def __check_init__(self):
        require(len(self.layers) >= 1, "a stack needs at least one layer.")
        require(
            self.embedding.ndim == 2 and self.embedding.shape[1] >= 2,
            f"embedding has shape {self.embedding.shape}; it must be (d_1, d_in + 1): a 1 is appended to the token.",
        )
        width = width_above(self.layers, len(self.embedding))
        require(
            self.readout.ndim == 2 and self.readout.shape[1] == width + 1,
            f"readout has shape {self.readout.shape}; it must be (d_out, {width + 1}): a 1 is appended to what it reads.",
        )

    @classmethod
    def make(cls, layers: tuple[AbstractMixer, ...], d_in: int, d_out: int, *, key: Array, dtype=None) -> "Stack":
        """Embedding and readout of variance 1 / fan-in, their biases 0."""
        linear = lambda key, rows, columns: jnp.concatenate(
            [jr.normal(key, (rows, columns), dtype or float) / columns**0.5, jnp.zeros((rows, 1), dtype or float)], 1
        )
        keys = jr.split(key)
        return cls(linear(keys[0], layers[0].d_in, d_in), layers, linear(keys[1], d_out, layers[-1].d_out))

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.embedding.shape[1] - 1

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.readout)

    def stages(self) -> Stages:
        """The chain from the tokens to the outputs, (time, d_in) -> (time, d_out): each stage with its name."""
        layers = tuple((f"layer {i + 1}", layer) for i, layer in enumerate(self.layers))
        return (("embed", WithOne(self.embedding)), *layers, ("readout", WithOne(self.readout)))


def width_above(layers: tuple[AbstractMixer, ...], width: int) -> int:
    """What the last of some layers gives, one above the other.

    **Raises:** `InputError` where one does not take what is below it; the first, `width`.
    """
    for i, layer in enumerate(layers):
        require(
            layer.d_in == width,
            f"layer {i + 1} takes tokens of width {layer.d_in}; what is below it gives {width}.",
        )
        width = layer.d_out
    return width


class WithOne(AbstractTokenwise):
    """y_t = W (x_t, 1): an affine map whose bias is the last column of its matrix, w (d_out, d_in + 1)."""

    w: Float[Array, "d_out columns"]

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w.shape[1] - 1

    @property
    def d_out(self) -> int:
        """Width of an output."""
        return len(self.w)

    @property
    def kind(self) -> Kind:
        """Nothing is frozen."""
        return LINEAR

    def at(self, x, state, segments):
        """Itself."""
        return Frozen(project(append_one(x), self.w), state, Linear(self.w[:, :-1], self.w[:, -1]))
