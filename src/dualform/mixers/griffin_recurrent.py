"""The recurrent block of Hawk and Griffin: a gate beside a short convolution and an RG-LRU."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import affine, project
from dualform.errors import require
from dualform.mixers.affine import check_affine
from dualform.mixers.mixer import AbstractMixer, visible
from dualform.mixers.registry import register
from dualform.mixers.rg_lru import RGLRU
from dualform.recurrences.compaction import compact
from dualform.recurrences.convolution import convolution


@register("griffin_recurrent")
class GriffinRecurrent(AbstractMixer):
    """y_t = W_o (gelu(W_y x_t + b_y) * RG-LRU(conv(W_x x + b_x) + b_conv)_t) + b_o.

    The convolution is causal and depthwise, 4 tokens wide; gelu is the tanh form. A token's value is W_x x_t + b_x; the
    gates of the RG-LRU, which read the convolution's output, are the context.

    **Arguments:** w_y, w_x (n, d); b_y, b_x (n,); kernel (width, n): its last row meets the token itself; b_conv (n,); core:
    the `RGLRU`, of width n; w_o (d_out, n); b_o (d_out,).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** De et al. 2024 (arXiv 2402.19427), Sec. 2.3. Oracle: recurrentgemma's `torch.modules.RecurrentBlock`.
    """

    w_y: Float[Array, "n d"] = eqx.field(converter=jnp.asarray)
    b_y: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    w_x: Float[Array, "n d"] = eqx.field(converter=jnp.asarray)
    b_x: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    kernel: Float[Array, "width n"] = eqx.field(converter=jnp.asarray)
    b_conv: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    core: RGLRU
    w_o: Float[Array, "d_out n"] = eqx.field(converter=jnp.asarray)
    b_o: Float[Array, " d_out"] = eqx.field(converter=jnp.asarray)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_y", "w_x", "kernel", "w_o")

    def __check_init__(self):
        n = self.core.d_in
        d = self.w_x.shape[1] if self.w_x.ndim == 2 else 0
        check_affine("y", self.w_y, self.b_y, n, d)
        check_affine("x", self.w_x, self.b_x, n, d)
        require(
            self.kernel.ndim == 2 and len(self.kernel) >= 1 and self.kernel.shape[1:] == self.b_conv.shape == (n,),
            f"kernel {self.kernel.shape} and b_conv {self.b_conv.shape} must be (width, {n}) and ({n},), width at least 1.",
        )
        check_affine("o", self.w_o, self.b_o, len(self.w_o) if self.w_o.ndim else 0, n)

    @classmethod
    def make(
        cls, d: int, *, key: Array, n: int | None = None, heads: int = 2, width: int = 4, dtype=None
    ) -> "GriffinRecurrent":
        """As published: variance 1 / fan-in, 0.01 / width for the kernel, biases of 0, `RGLRU.make`; n is d if not given."""
        n, dtype, keys = n or d, dtype or float, jr.split(key, 5)
        normal = lambda key, variance, *shape: jr.normal(key, shape, dtype) * variance**0.5
        zeros = jnp.zeros(n, dtype)
        return cls(
            normal(keys[0], 1 / d, n, d),
            zeros,
            normal(keys[1], 1 / d, n, d),
            zeros,
            normal(keys[2], 0.01 / width, width, n),
            zeros,
            RGLRU.make(n, key=keys[3], heads=heads, dtype=dtype),
            normal(keys[4], 1 / n, d, n),
            jnp.zeros(d, dtype),
        )

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_x.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.w_o)

    def init_state(self):
        """No token before the first, (width - 1, n), and the core's state."""
        h, seen = self.core.init_state()
        return jnp.zeros((len(self.kernel) - 1, len(h)), h.dtype), (h, seen)

    def convolve(self, value, state, start, mask):
        """conv(value) + b_conv, (time, n), and the last tokens that it keeps."""
        u, tail = convolution(value, self.kernel, state[0], start=start, mask=mask)
        return u + self.b_conv.astype(u.dtype)[None], tail

    def gate(self, x):
        """gelu(W_y x + b_y), (time, n)."""
        return jax.nn.gelu(affine(x, self.w_y, self.b_y))

    def context(self, x, state, start, mask):
        """The gate, and the core's context: its gates for the convolution's output."""
        u, _ = self.convolve(self.value(x), state, start, mask)
        return self.gate(x), self.core.context(u, state[1], start, mask)

    def value(self, x):
        """W_x x + b_x, (time, n)."""
        return affine(x, self.w_x, self.b_x)

    def mix(self, context, value, state, start, mask):
        """The convolution, the recurrence and the readout, all linear but for the biases."""
        gate, core = context
        u, tail = self.convolve(value, state, start, mask)
        h, remembered = self.core.mix(core, u, state[1], start, mask)
        return affine(gate * h, self.w_o, self.b_o), (tail, remembered)

    def forward(self, x, state, start, mask):
        """The convolution once."""
        u, tail = self.convolve(self.value(x), state, start, mask)
        h, remembered = self.core.forward(u, state[1], start, mask)
        return affine(self.gate(x) * h, self.w_o, self.b_o), (tail, remembered)

    def read_out(self, context, o):
        """h gated and projected; no bias."""
        gate, _ = context
        return project(gate * o[:, :, 0], self.w_o)

    def weights(self, x, state, start, mask):
        """Channel by channel, what h_t takes from W_x x_s + b_x: the RG-LRU's map after the kernel, (n, time, time)."""
        time, width = len(x), len(self.kernel)
        u, _ = self.convolve(self.value(x), state, start, mask)
        recurrent = self.core.weights(u, state[1], start, mask)
        moved = compact(jnp.ones(time, bool) if mask is None else mask)
        order = moved.pack(jnp.arange(time))
        total = jnp.zeros_like(recurrent)
        for ahead in range(width):  # the convolution takes token s to the `ahead`-th token after it
            place = moved.place + ahead
            reached = recurrent[:, :, order[jnp.minimum(place, time - 1)]]
            factor = self.kernel[width - 1 - ahead].astype(total.dtype)[:, None, None]
            total = total + jnp.where(
                (place < moved.count.astype(place.dtype))[None, None], factor * reached, jnp.zeros_like(total)
            )
        return jnp.where(visible(time, start, mask)[None], total, jnp.zeros_like(total))
