"""Mixers one above the other, between a linear embedding and a linear readout."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, append_one, project
from dualform.compiled import compiled
from dualform.errors import require
from dualform.finite import token_by_token
from dualform.mixers import AbstractMixer
from dualform.models.stages import Affine
from dualform.models.stepped import AbstractStepped, check_activations
from dualform.recurrences.flags import check_flags, check_time


class Stack(AbstractStepped):
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
        width = len(self.embedding)
        for i, layer in enumerate(self.layers):
            require(
                layer.d_in == width,
                f"layer {i + 1} takes tokens of width {layer.d_in}; what is below it gives {width}.",
            )
            width = layer.d_out
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

    def init_state(self) -> State:
        """One state for each layer."""
        return tuple(layer.init_state() for layer in self.layers)

    def stages(self) -> tuple[tuple[str, Any], ...]:
        """The chain from the tokens to the outputs, (time, d_in) -> (time, d_out): each stage with its name."""
        layers = tuple((f"layer {i + 1}", layer) for i, layer in enumerate(self.layers))
        with_bias = lambda w: Affine(w[:, :-1], w[:, -1])
        return (("embed", with_bias(self.embedding)), *layers, ("readout", with_bias(self.readout)))

    @compiled
    def __call__(
        self,
        x: Float[Array, "time d_in"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time d_out"], State]:
        """The whole sequence at once; arguments, returns and errors as of a mixer's call, one state for each layer."""
        check_activations(x, self.d_in, "this stack")
        check_time(len(x))
        check_flags(len(x), start, mask)
        state = self.init_state() if state is None else state
        require(
            isinstance(state, tuple) and len(state) == len(self.layers),
            f"the state does not belong to this stack of {len(self.layers)} layers, one state each. Start from init_state().",
        )
        dtype, after = x.dtype, []
        if mask is not None:
            x = jnp.where(mask[:, None], x, jnp.zeros_like(x))
        linear = lambda w, x: token_by_token(lambda x: project(append_one(x), w).astype(dtype), x, start)
        x = linear(self.embedding, x)
        for layer, before in zip(self.layers, state, strict=True):
            x, now = layer(x, before, start=start, mask=mask)
            after.append(now)
        y = linear(self.readout, x)
        return (y if mask is None else jnp.where(mask[:, None], y, jnp.zeros_like(y))), tuple(after)
