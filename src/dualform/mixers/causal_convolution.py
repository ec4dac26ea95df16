"""A causal convolution over the last few tokens, channel by channel: the shortest memory that there is."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.maps import AttentionMap, Convolution, Frozen, Identity, Scale
from dualform.mixers.declared import array
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register


@register("causal_convolution")
class CausalConvolution(AbstractMixer):
    """y_t = bias + sum_{j < width} kernel[width - 1 - j] * x_{t-j}.

    Its attention looks j tokens back with a weight that is the same at every time. The dual form is its own linear map.

    **Arguments:** kernel (width, d), whose last row meets the token itself; bias (d,).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** the short convolution of Griffin (De et al. 2024, arXiv 2402.19427, Sec. 2.4) and Mamba (Gu and Dao 2023, arXiv
    2312.00752). Oracle: torch's `conv1d` with padding on the left (float64).
    """

    kernel: Float[Array, "width d"] = eqx.field(converter=array)
    bias: Float[Array, " d"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("kernel",)

    @classmethod
    def make(cls, d: int, *, key: Array, width: int = 4, dtype=None) -> "CausalConvolution":
        """Kernel and bias uniform in +-1 / sqrt(width), as PyTorch's depthwise convolution starts."""
        require(width >= 1, f"width is {width}; a convolution sees at least the token itself.")
        bound, (kernel, bias) = width**-0.5, jr.split(key)
        draw = lambda key, *shape: jr.uniform(key, shape, dtype or float, -bound, bound)
        return cls(draw(kernel, width, d), draw(bias, d))

    @property
    def d_out(self) -> int:
        """Width of the output: that of a token."""
        return self.d_in

    def init_state(self):
        """The last width - 1 tokens, zeros."""
        return jnp.zeros(self.dims("width-1 d"), accumulator(self.kernel.dtype))

    def at(self, x, state, segments):
        """The convolution, and its bias where there is a token."""
        memory, write = Convolution(self.kernel, state, segments, len(x)), Identity()
        y, state = memory.run(x)
        read = Scale(jnp.ones((), y.dtype), self.bias[None])
        return Frozen(y + self.bias.astype(y.dtype)[None], state, AttentionMap(read, memory, write))
