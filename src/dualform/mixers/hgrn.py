"""The hierarchically gated recurrent network: forget gates with a lower bound that rises from layer to layer."""

import abc
from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, affine
from dualform.errors import require
from dualform.maps import (
    AttentionMap,
    CausalMap,
    Centred,
    Complex,
    Diagonal,
    Flat,
    Frozen,
    Linear,
    Memory,
    Scale,
    Written,
)
from dualform.mixers.constant import Constant
from dualform.mixers.declared import array, optional_array
from dualform.mixers.fresh import uniform_affine
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.ranges import check_decays
from dualform.mixers.registration import register
from dualform.norms import rms_factor
from dualform.segments import Segments

EPSILON = 1e-5
"""What the norm adds to the variance, as published."""


def hgrn_lower_bounds(logits: Float[Array, "layers n"]) -> Float[Array, "layers n"]:
    """gamma of every layer: p = softmax(logits) over layers, gamma_l = p_2 + ... + p_l, and 0 for the first layer.

    **Arguments:** logits: (layers, n), learnable; equal ones give (l - 1) / layers.

    **Source:** Qin et al. 2023 (arXiv 2311.04823), Sec. 3.3: the cumulative softmax less its first term.
    """
    share = jax.nn.softmax(logits.astype(accumulator(logits.dtype)), axis=0)
    return jnp.cumsum(share.at[0].set(0.0), axis=0).astype(logits.dtype)


class AbstractHGRN(AbstractMixer):
    """What the real and the complex HGRN share: the forget gate, and the readout W_o (g * norm(h)) + b_o.

    They differ in the candidate c and in the recurrence that carries it.
    """

    w_f: eqx.AbstractVar[Float[Array, "n d"]]
    w_g: eqx.AbstractVar[Float[Array, "width d"]]
    w_o: eqx.AbstractVar[Float[Array, "d_out width"]]
    norm_weight: eqx.AbstractVar[Float[Array, " width"]]
    gamma: eqx.AbstractVar[Float[Constant, " n"]]
    b_f: eqx.AbstractVar[Float[Array, " n"] | None]
    b_g: eqx.AbstractVar[Float[Array, " width"] | None]
    b_o: eqx.AbstractVar[Float[Array, " d_out"] | None]
    norm_bias: eqx.AbstractVar[Float[Array, " width"] | None]

    def __check_init__(self):
        check_decays("gamma", self.gamma.value, below_one=True, cure="Take it from hgrn_lower_bounds.")

    @abc.abstractmethod
    def memory(self, lam, write, state, segments: Segments) -> Memory:
        """h_t = lam_t * h_{t-1} + write_t * c_t."""

    @abc.abstractmethod
    def value(self, x) -> Float[Array, "..."]:
        """The candidate c."""

    def gates(self, x):
        """lam = gamma + (1 - gamma) sigma(W_f x + b_f), 1 - lam, (time, n), and g = silu(W_g x + b_g), (time, width)."""
        forget = affine(x, self.w_f, self.b_f)
        gamma = self.gamma.astype(forget.dtype)[None]
        lam = gamma + (1 - gamma) * jax.nn.sigmoid(forget)
        return lam, (1 - gamma) * jax.nn.sigmoid(-forget), jax.nn.silu(affine(x, self.w_g, self.b_g))

    def at(self, x, state, segments):
        """h, normed, gated and read out; the norm's factor is frozen."""
        lam, write, gate = self.gates(x)
        memory, candidate = self.memory(lam, write, state, segments), Written(self.value, x)
        h, after = memory.run(candidate.own)
        # A layer norm has a bias; an RMS norm has none, and takes no mean away.
        centre = Flat() if self.norm_bias is None else Centred(str(h.dtype)) @ Flat()
        factor = Scale(rms_factor(centre(h), EPSILON))
        norm = Scale(self.norm_weight[None], None if self.norm_bias is None else self.norm_bias[None])
        read = Linear(self.w_o, self.b_o) @ Scale(gate) @ norm @ factor @ centre
        return Frozen(read(h), after, self.whole(read, memory, candidate))

    def whole(self, read: CausalMap, memory: Memory, write: CausalMap) -> CausalMap:
        """The map of its parts."""
        return read @ memory @ write


@register("hgrn")
class HGRN(AbstractHGRN):
    """h_t = lam_t * h_{t-1} + (1 - lam_t) * c_t,  y_t = W_o (g_t * norm(h_t)) + b_o: the real form.

    lam = gamma + (1 - gamma) sigma(W_f x + b_f), c = silu(W_c x + b_c), g = silu(W_g x + b_g). The norm is an RMS norm, or
    a layer norm where `norm_bias` is given. The dual form freezes its factor.

    **Arguments:** w_c, w_f, w_g (n, d); w_o (d_out, n); norm_weight (n,); gamma (n,): the lower bound of the decay, in
    [0, 1), a `Constant`: what learns it is a model's `bounds`, by `hgrn_lower_bounds`; b_c, b_f, b_g, norm_bias (n,) and b_o
    (d_out,), each optional.

    **Raises:** `InputError` where the shapes do not fit or gamma lies outside [0, 1).

    **Source:** Qin et al. 2023 (arXiv 2311.04823), without the rotation theta, as in the implementations in use: with
    biases and layer norm in hgru-pytorch, without and with an RMS norm in flash-linear-attention. The norm comes before the
    gate, as in both. Oracle: hgru-pytorch's `HgruRealV6.forward_naive`, and fla-core's `naive_recurrent_hgrn`.
    """

    _: KW_ONLY
    w_c: Float[Array, "n d"] = eqx.field(converter=array)
    w_f: Float[Array, "n d"] = eqx.field(converter=array)
    w_g: Float[Array, "n d"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out n"] = eqx.field(converter=array)
    norm_weight: Float[Array, " n"] = eqx.field(converter=array)
    gamma: Float[Constant, " n"] = eqx.field(converter=Constant.of)
    b_c: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_f: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_g: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_o: Float[Array, " d_out"] | None = eqx.field(default=None, converter=optional_array)
    norm_bias: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_c", "w_f", "w_g", "w_o")

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, layer: int = 1, layers: int = 2, dtype=None) -> "HGRN":
        """As layer `layer` (from 0) of `layers` starts: gamma = layer / layers, uniform weights; n is d if not given."""
        n, keys = n or d, jr.split(key, 4)
        w_c, b_c = uniform_affine(keys[0], n, d, dtype)
        w_f, b_f = uniform_affine(keys[1], n, d, dtype)
        w_g, b_g = uniform_affine(keys[2], n, d, dtype)
        w_o, b_o = uniform_affine(keys[3], d, n, dtype)
        norm_weight, gamma = jnp.ones(n, dtype or float), _first_bounds(n, layer, layers, dtype)
        return cls(
            w_c=w_c, w_f=w_f, w_g=w_g, w_o=w_o, norm_weight=norm_weight, gamma=gamma, b_c=b_c, b_f=b_f, b_g=b_g, b_o=b_o
        )

    def init_state(self):
        """h = 0, (n,)."""
        return jnp.zeros(len(self.gamma), accumulator(self.w_f.dtype))

    def value(self, x):
        """c, (time, n)."""
        return jax.nn.silu(affine(x, self.w_c, self.b_c))

    def memory(self, lam, write, state, segments):
        """h_t = lam_t * h_{t-1} + (1 - lam_t) * c_t."""
        return Diagonal(lam, state, segments, write)

    def whole(self, read, memory, write):
        """Channel by channel it has attention maps."""
        return AttentionMap(read, memory, write, "values")


@register("hgrn_complex")
class HGRNComplex(AbstractHGRN):
    """h_t = lam_t * exp(i theta) * h_{t-1} + (1 - lam_t) * c_t (complex),  y_t = W_o (g_t * norm(Re h_t, Im h_t)) + b_o.

    lam = gamma + (1 - gamma) sigma(W_f x + b_f), real; c = silu(W_c x + b_c), in the real and in the imaginary part;
    g = silu(W_g x + b_g). The norm is a layer norm, or an RMS norm where there is no `norm_bias`. The dual form freezes its
    factor.

    **Arguments:** w_c (2, n, d): real and imaginary part; w_f (n, d); w_g (2 n, d); w_o (d_out, 2 n); norm_weight (2 n,);
    gamma (n,): the lower bound of the decay, in [0, 1), a `Constant`, as of `HGRN`; theta (n,), in radians for each token;
    b_c (2, n), b_f (n,), b_g, norm_bias (2 n,) and b_o (d_out,), each optional.

    **Raises:** `InputError` where the shapes do not fit or gamma lies outside [0, 1).

    **Source:** Qin et al. 2023 (arXiv 2311.04823), Secs. 3.1 to 3.3. The norm comes before the gate, as in the authors'
    code. Oracle: hgru-pytorch's `Hgru1d.forward_naive`.
    """

    _: KW_ONLY
    w_c: Float[Array, "2 n d"] = eqx.field(converter=array)
    w_f: Float[Array, "n d"] = eqx.field(converter=array)
    w_g: Float[Array, "2*n d"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out 2*n"] = eqx.field(converter=array)
    norm_weight: Float[Array, " 2*n"] = eqx.field(converter=array)
    gamma: Float[Constant, " n"] = eqx.field(converter=Constant.of)
    theta: Float[Array, " n"] = eqx.field(converter=array)
    b_c: Float[Array, "2 n"] | None = eqx.field(default=None, converter=optional_array)
    b_f: Float[Array, " n"] | None = eqx.field(default=None, converter=optional_array)
    b_g: Float[Array, " 2*n"] | None = eqx.field(default=None, converter=optional_array)
    b_o: Float[Array, " d_out"] | None = eqx.field(default=None, converter=optional_array)
    norm_bias: Float[Array, " 2*n"] | None = eqx.field(default=None, converter=optional_array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_c", "w_f", "w_g", "w_o")

    @classmethod
    def make(
        cls, d: int, *, key: Array, n: int | None = None, layer: int = 1, layers: int = 2, dtype=None
    ) -> "HGRNComplex":
        """As layer `layer` (from 0) of `layers` starts: gamma = layer / layers, theta_j = 10000^(-2 j / n), uniform weights."""
        n, keys = n or d, jr.split(key, 4)
        w_c, b_c = uniform_affine(keys[0], 2 * n, d, dtype)
        w_f, b_f = uniform_affine(keys[1], n, d, dtype)
        w_g, b_g = uniform_affine(keys[2], 2 * n, d, dtype)
        w_o, b_o = uniform_affine(keys[3], d, 2 * n, dtype)
        gamma = _first_bounds(n, layer, layers, dtype)
        theta = (10000.0 ** (-2 / n * jnp.arange(n, dtype=float))).astype(gamma.dtype)
        ones, zeros = jnp.ones(2 * n, gamma.dtype), jnp.zeros(2 * n, gamma.dtype)
        w_c, b_c = w_c.reshape(2, n, d), b_c.reshape(2, n)
        return cls(
            w_c=w_c,
            w_f=w_f,
            w_g=w_g,
            w_o=w_o,
            norm_weight=ones,
            gamma=gamma,
            theta=theta,
            b_c=b_c,
            b_f=b_f,
            b_g=b_g,
            b_o=b_o,
            norm_bias=zeros,
        )

    def init_state(self):
        """h = 0, real and imaginary part, (2, n)."""
        return jnp.zeros((2, len(self.gamma)), accumulator(self.w_f.dtype))

    def value(self, x):
        """c, real and imaginary part, (time, 2, n)."""
        b_c = None if self.b_c is None else self.b_c.reshape(-1)
        c = affine(x, self.w_c.reshape(-1, self.d_in), b_c)
        return jax.nn.silu(c).reshape(len(x), 2, -1)

    def memory(self, lam, write, state, segments):
        """h_t = lam_t * exp(i theta) * h_{t-1} + (1 - lam_t) * c_t, real and imaginary part."""
        theta = self.theta.astype(lam.dtype)
        decay = jax.lax.complex(lam * jnp.cos(theta)[None], lam * jnp.sin(theta)[None])
        return Complex(decay, state, segments, write)


def _first_bounds(n: int, layer: int, layers: int, dtype) -> Float[Array, " n"]:
    """gamma of one layer, before training."""
    require(0 <= layer < layers, f"layer is {layer} of {layers}; give one from 0 to {layers - 1}.")
    return hgrn_lower_bounds(jnp.zeros((layers, n), dtype or float))[layer]
