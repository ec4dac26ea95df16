"""The gated recurrent unit, in the form of today's libraries and in that of Chung et al. 2014."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, project
from dualform.errors import require
from dualform.maps import Along, Diagonal, Frozen
from dualform.mixers.declared import array, optional_array
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.mixers.torch_layout import check_torch_layout
from dualform.recurrences.cells import cell, saturating


@register("gru")
@register("gru_chung", variant="chung")
class GRU(AbstractMixer):
    """h_t = z_t * h_{t-1} + (1 - z_t) * n_t,  y_t = h_t, with r, z = sigma(U x_t + V h_{t-1} + b).

    "torch" (given b_h): n = tanh(U x_t + b + r * (V h_{t-1} + b_h)), the reset after the product.
    "chung" (b_h None): n = tanh(U x_t + b + V (r * h_{t-1})), the reset before it, and z flipped: h = (1 - z) h + z n.

    The dual form freezes the gates and each token's write, (1 - z) * n or z * n: a diagonal recurrence is left. What a
    token does to later gates and candidates is frozen with them.

    **Arguments:** u (3, n, d), v (3, n, n), b (3, n): reset gate, update gate, candidate, in torch's order; b_h (n,).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Cho et al. 2014; Chung et al. 2014 (arXiv 1412.3555), Sec. 3.2. Oracle: `torch.nn.GRU`, whose two biases of r
    and z are added, and the paper's equations written in PyTorch.
    """

    u: Float[Array, "3 n d"] = eqx.field(converter=array)
    v: Float[Array, "3 n n"] = eqx.field(converter=array)
    b: Float[Array, "3 n"] = eqx.field(converter=array)
    b_h: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("u", "v")

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, variant: str = "torch", dtype=None) -> "GRU":
        """Weights of variance 1 / fan-in, biases of 0; variant "torch" or "chung"."""
        require(variant in ("torch", "chung"), f"there is no GRU variant {variant!r}; there are torch and chung.")
        n, dtype = n or d, dtype or float
        b_h = jnp.zeros(n, dtype) if variant == "torch" else None
        return cls(**cls.matrices(jr.split(key), dtype, n=n, d=d), b=jnp.zeros((3, n), dtype), b_h=b_h)

    @classmethod
    def from_torch(cls, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array) -> "GRU":
        """From the arrays of one layer of `torch.nn.GRU`: (3 n, d), (3 n, n), (3 n,), (3 n,).

        **Raises:** `InputError` where they are no such layer.
        """
        check_torch_layout("GRU", 3, weight_ih, weight_hh, bias_ih, bias_hh)
        n = weight_hh.shape[1]
        b, b_h = jnp.reshape(bias_ih, (3, n)), jnp.reshape(bias_hh, (3, n))
        b = b.at[:2].add(b_h[:2])
        return cls(jnp.reshape(weight_ih, (3, n, -1)), jnp.reshape(weight_hh, (3, n, n)), b, b_h[2])

    @property
    def d_out(self) -> int:
        """Width of the output: the hidden units."""
        return self.dim("n")

    def init_state(self):
        """h = 0, (n,)."""
        return jnp.zeros(self.d_out, accumulator(self.u.dtype))

    def run(self, x, state, start, mask):
        """Every (decay, write, h), (time, n) each, and the last h."""
        wide = accumulator(x.dtype, self.u.dtype)
        driven = saturating(
            project(x, self.u.reshape(-1, self.d_in)).astype(wide) + self.b.reshape(-1).astype(wide)[None]
        )
        n, b_h = self.d_out, None if self.b_h is None else self.b_h.astype(wide)
        # The candidate of Chung's is a product of its own, of r * h.
        weights = (self.v[:2].reshape(-1, n), self.v[2]) if b_h is None else (self.v.reshape(-1, n),)

        def step(product, h, driven_t):
            r, z, own = driven_t.reshape(3, n)
            if b_h is not None:
                r_h, z_h, n_h = product(0, h).reshape(3, n)
                r, z = jax.nn.sigmoid(r + r_h), jax.nn.sigmoid(z + z_h)
                decay, write = z, (1 - z) * jnp.tanh(own + r * (n_h + b_h))
            else:
                r_h, z_h = product(0, h).reshape(2, n)
                r, z = jax.nn.sigmoid(r + r_h), jax.nn.sigmoid(z + z_h)
                decay, write = 1 - z, z * jnp.tanh(own + product(1, r * h))
            h = decay * h + write
            return h, (decay, write, h)

        return cell(step, driven, state.astype(wide), weights=weights, start=start, mask=mask)

    def at(self, x, state, segments):
        """The recurrence; frozen, each token brings its own write, which decays."""
        (decay, write, h), after = self.run(x, state, **segments.flags)
        return Frozen(h, after, Diagonal(decay, state, segments) @ Along(write, x))
