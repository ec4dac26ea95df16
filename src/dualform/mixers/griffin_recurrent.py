"""The recurrent block of Hawk and Griffin: a gate beside a short convolution and an RG-LRU."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, affine
from dualform.errors import require
from dualform.maps import AttentionMap, Convolution, Diagonal, Frozen, Linear, Memory, Scale, Written
from dualform.mixers.declared import array
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.mixers.rg_lru import RGLRU
from dualform.recurrences.compaction import compact


@register("griffin_recurrent")
class GriffinRecurrent(AbstractMixer):
    """y_t = W_o (gelu(W_y x_t + b_y) * RG-LRU(conv(W_x x + b_x) + b_conv)_t) + b_o.

    The convolution is causal and depthwise, 4 tokens wide; gelu is the tanh form. A token writes W_x x_t + b_x; the
    gates of the RG-LRU, which read the convolution's output, are frozen.

    **Arguments:** w_y, w_x (n, d); b_y, b_x (n,); kernel (width, n): its last row meets the token itself; b_conv (n,); core:
    the `RGLRU`, of width n; w_o (d_out, n); b_o (d_out,).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** De et al. 2024 (arXiv 2402.19427), Sec. 2.3. Oracle: recurrentgemma's `torch.modules.RecurrentBlock`.
    """

    _: KW_ONLY
    w_y: Float[Array, "n d"] = eqx.field(converter=array)
    b_y: Float[Array, " n"] = eqx.field(converter=array)
    w_x: Float[Array, "n d"] = eqx.field(converter=array)
    b_x: Float[Array, " n"] = eqx.field(converter=array)
    kernel: Float[Array, "width n"] = eqx.field(converter=array)
    b_conv: Float[Array, " n"] = eqx.field(converter=array)
    core: RGLRU
    w_o: Float[Array, "d_out n"] = eqx.field(converter=array)
    b_o: Float[Array, " d_out"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_y", "w_x", "kernel", "w_o")

    def __check_init__(self):
        n = self.dim("n")
        require(self.core.d_in == n, f"core is an RGLRU of width {self.core.d_in}; the other weights have {n} units.")

    @classmethod
    def make(
        cls, d: int, *, key: Array, n: int | None = None, heads: int = 2, width: int = 4, dtype=None
    ) -> "GriffinRecurrent":
        """As published: variance 1 / fan-in, 0.01 / width for the kernel, biases of 0, `RGLRU.make`; n is d if not given."""
        n, dtype, keys = n or d, dtype or float, jr.split(key, 5)
        normal = lambda key, variance, *shape: jr.normal(key, shape, dtype) * variance**0.5
        zeros = jnp.zeros(n, dtype)
        return cls(
            w_y=normal(keys[0], 1 / d, n, d),
            b_y=zeros,
            w_x=normal(keys[1], 1 / d, n, d),
            b_x=zeros,
            kernel=normal(keys[2], 0.01 / width, width, n),
            b_conv=zeros,
            core=RGLRU.make(n, key=keys[3], heads=heads, dtype=dtype),
            w_o=normal(keys[4], 1 / n, d, n),
            b_o=jnp.zeros(d, dtype),
        )

    def init_state(self):
        """No token before the first, (width - 1, n), and the core's state."""
        h, seen = self.core.init_state()
        return jnp.zeros((len(self.kernel) - 1, len(h)), h.dtype), (h, seen)

    def at(self, x, state, segments):
        """The convolution and the recurrence, gated and read out: all linear but for the biases."""
        tail, remembered = state
        convolution = Convolution(self.kernel, tail, segments, len(x))
        write, gate = Written(self.value, x), jax.nn.gelu(affine(x, self.w_y, self.b_y))
        u, tail = convolution.run(write.own)
        h, remembered, core, *_ = self.core.at(u + self.b_conv.astype(u.dtype)[None], remembered, segments)
        assert isinstance(core, AttentionMap) and isinstance(core.memory, Diagonal)
        read = Linear(self.w_o, self.b_o) @ Scale(gate)
        map = AttentionMap(read, Convolved(core.memory, convolution, self.b_conv), write)
        return Frozen(read(h), (tail, remembered), map)

    def value(self, x):
        """W_x x + b_x, (time, n)."""
        return affine(x, self.w_x, self.b_x)


class Convolved(Memory):
    """A diagonal recurrence behind a convolution and its bias (n,)."""

    memory: Diagonal
    convolution: Convolution
    bias: Float[Array, " n"]

    def run(self, v: Float[Array, "time n"]) -> tuple[Float[Array, "time n"], State]:
        """h, and the state of both."""
        u, tail = self.convolution.run(v)
        h, state = self.memory.run(u + self.bias.astype(u.dtype)[None])
        return h, (tail, state)

    def weights(self) -> Float[Array, "n time source"]:
        """What h_t takes from v_s: the recurrence's map after the kernel."""
        recurrent, kernel, segments = self.memory.weights(), self.convolution.kernel, self.convolution.segments
        time, width = recurrent.shape[1], len(kernel)
        moved = compact(jnp.ones(time, bool) if segments.mask is None else segments.mask)
        order = moved.pack(jnp.arange(time))
        total = jnp.zeros_like(recurrent)
        for ahead in range(width):  # the convolution takes token s to the `ahead`-th token after it
            place = moved.place + ahead
            reached = recurrent[:, :, order[jnp.minimum(place, time - 1)]]
            factor = kernel[width - 1 - ahead].astype(total.dtype)[:, None, None]
            there = (place < moved.count.astype(place.dtype))[None, None]
            total = total + jnp.where(there, factor * reached, jnp.zeros_like(total))
        return jnp.where(segments.visible(time)[None], total, jnp.zeros_like(total))
