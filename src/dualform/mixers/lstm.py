"""Long short-term memory, in the form of today's libraries and in that of Chung et al. 2014, with peepholes."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator, project
from dualform.errors import require
from dualform.maps import Along, CausalMap, Diagonal, Frozen, Scale
from dualform.maps.causal_map import BLOCK
from dualform.mixers.declared import array, optional_array
from dualform.mixers.freezing import last_present, tanh_slope
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.mixers.torch_layout import check_torch_layout
from dualform.recurrences.cells import cell, saturating
from dualform.segments import Segments


@register("lstm")
@register("lstm_chung", variant="chung")
class LSTM(AbstractMixer):
    """c_t = f_t * c_{t-1} + i_t * g_t,  h_t = o_t * tanh(c_t),  y_t = h_t.

    i, f, o = sigma(U x_t + V h_{t-1} + b), g = tanh(U x_t + V h_{t-1} + b), with weights of their own. With `peephole`
    (the variant of Chung et al. 2014), P c_{t-1} is added in i and f, and P c_t in o, P diagonal.

    The dual form freezes the gates, each token's write i * g, and the slope tanh(c) / c: the cell is then a diagonal
    recurrence. What a token does to later gates is frozen with them.

    **Arguments:** u (4, n, d), v (4, n, n), b (4, n): input gate, forget gate, cell (g), output gate, in torch's order;
    peephole (3, n): of input, forget and output gate, or None.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Hochreiter & Schmidhuber 1997; Chung et al. 2014 (arXiv 1412.3555), Sec. 3.1. Oracle: `torch.nn.LSTM`, whose
    two biases are added, and the paper's equations written in PyTorch.
    """

    u: Float[Array, "4 n d"] = eqx.field(converter=array)
    v: Float[Array, "4 n n"] = eqx.field(converter=array)
    b: Float[Array, "4 n"] = eqx.field(converter=array)
    peephole: Float[Array, "3 n"] | None = eqx.field(default=None, converter=optional_array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("u", "v")

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, variant: str = "torch", dtype=None) -> "LSTM":
        """Weights of variance 1 / fan-in, forget biases of 1; variant "torch" or "chung" (with peepholes)."""
        require(variant in ("torch", "chung"), f"there is no LSTM variant {variant!r}; there are torch and chung.")
        n, dtype = n or d, dtype or float
        keys = jr.split(key, 3)
        bias = jnp.zeros((4, n), dtype).at[1].set(1.0)
        peephole = 0.1 * jr.normal(keys[2], (3, n), dtype) if variant == "chung" else None
        return cls(**cls.matrices(keys[:2], dtype, n=n, d=d), b=bias, peephole=peephole)

    @classmethod
    def from_torch(cls, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array) -> "LSTM":
        """From the arrays of one layer of `torch.nn.LSTM`: (4 n, d), (4 n, n), (4 n,), (4 n,).

        **Raises:** `InputError` where they are no such layer.
        """
        check_torch_layout("LSTM", 4, weight_ih, weight_hh, bias_ih, bias_hh)
        n = weight_hh.shape[1]
        return cls(
            jnp.reshape(weight_ih, (4, n, -1)),
            jnp.reshape(weight_hh, (4, n, n)),
            jnp.reshape(bias_ih + bias_hh, (4, n)),
        )

    @property
    def d_out(self) -> int:
        """Width of the output: the hidden units."""
        return self.dim("n")

    def init_state(self):
        """h = 0 and c = 0, (n,) each."""
        zero = lambda: jnp.zeros(self.d_out, accumulator(self.u.dtype))
        return zero(), zero()  # each its own memory, so that a state can be given up to a compiled step

    def run(self, x, state, start, mask):
        """Every (f, i * g, o, c), (time, n) each, and the last (h, c)."""
        wide = accumulator(x.dtype, self.u.dtype)
        u = self.u.reshape(-1, self.d_in)
        driven = saturating(project(x, u).astype(wide) + self.b.reshape(-1).astype(wide)[None])
        v, n = self.v.reshape(-1, self.d_out), self.d_out
        p = None if self.peephole is None else self.peephole.astype(wide)
        peep = lambda gate, row, c: jax.nn.sigmoid(gate if p is None else gate + p[row] * c)

        def step(product, state, driven_t):
            h, c = state
            i, f, g, o = (driven_t + product(0, h)).reshape(4, n)
            i, f = peep(i, 0, c), peep(f, 1, c)
            write = i * jnp.tanh(g)
            c = f * c + write
            o = peep(o, 2, c)
            return (o * jnp.tanh(c), c), (f, write, o, c)

        state = jax.tree_util.tree_map(lambda leaf: leaf.astype(wide), state)
        return cell(step, driven, state, weights=(v,), start=start, mask=mask)

    def at(self, x, state, segments):
        """The recurrence; frozen, each token brings its own i * g to c, and h is c times o * tanh(c) / c."""
        (f, write, o, c), after = self.run(x, state, **segments.flags)
        read = Scale(o * tanh_slope(c))
        map = Last(read @ Diagonal(f, state[1], segments) @ Along(write, x), segments)
        return Frozen(o * jnp.tanh(c), after, map)


class Last(CausalMap):
    """A map whose last output is remembered, too, as an LSTM's h is."""

    map: CausalMap
    segments: Segments

    def __call__(self, v: Float[Array, "time d"]) -> Float[Array, "time n"]:
        """The map."""
        return self.map(v)

    def run(self, v: Float[Array, "time d"]) -> tuple[Float[Array, "time n"], State]:
        """With its last output, and what it remembers itself."""
        y, state = self.map.run(v)
        return y, (last_present(y, jnp.zeros_like(y[0]), self.segments.mask), state)

    def columns(self, v, sources, block=None):
        """The map's."""
        return self.map.columns(v, sources, block)

    def project(self, v, r, block=BLOCK):
        """The map's."""
        return self.map.project(v, r, block)
