"""The linear recurrent unit, as it was published and in the three gated forms that are compared with attention."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, append_one, project
from dualform.errors import require
from dualform.maps import Complex, Frozen, Linear, Scale, Written
from dualform.mixers.declared import array, declared
from dualform.mixers.fresh import fan_in
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register


@register("lru")
class LRU(AbstractMixer):
    """h_t = lam * h_{t-1} + exp(gamma) * B x_t (complex),  y_t = Re(C h_t) + D x_t,  lam = exp(-exp(nu) + i exp(theta)).

    **Arguments:** nu, theta, gamma (n,); b_re, b_im (n, d); c_re, c_im (d_out, n); skip: D, (d_out, d), or (d,) for a
    diagonal one, as published.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Orvieto et al. 2023 (arXiv 2303.06349), Sec. 3. Oracle: its equations and those of minimal-LRU, in PyTorch.
    """

    _: KW_ONLY
    nu: Float[Array, " n"] = eqx.field(converter=array)
    theta: Float[Array, " n"] = eqx.field(converter=array)
    gamma: Float[Array, " n"] = eqx.field(converter=array)
    b_re: Float[Array, "n d"] = eqx.field(converter=array)
    b_im: Float[Array, "n d"] = eqx.field(converter=array)
    c_re: Float[Array, "d_out n"] = eqx.field(converter=array)
    c_im: Float[Array, "d_out n"] = eqx.field(converter=array)
    skip: Float[Array, "d_out d"] | Float[Array, " d"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = True
    may_be_zero = ("n",)
    weight_decayed = ("b_re", "b_im", "c_re", "c_im")

    def __check_init__(self):
        d, d_out = self.dims("d d_out")
        require(self.skip.ndim == 2 or d == d_out, f"a diagonal skip, ({d},), needs as many outputs; c_re has {d_out}.")

    @classmethod
    def make(
        cls,
        d: int,
        *,
        key: Array,
        n: int | None = None,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 6.28,
        dtype=None,
    ) -> "LRU":
        """lam uniform on a ring (r_min, r_max) with phases in (0, max_phase), gamma normalising; n is d if not given.

        **Raises:** `InputError` where the ring does not lie in the unit disk, or there is no phase.
        """
        require(0 <= r_min < r_max <= 1, f"r_min is {r_min} and r_max {r_max}; give 0 <= r_min < r_max <= 1.")
        require(max_phase > 0, f"max_phase is {max_phase}; give a positive angle, in radians.")
        n, dtype = n or d, dtype or float
        keys = jr.split(key, 7)
        radius, phase = jr.uniform(keys[0], (n,), float, 1e-4, 1), jr.uniform(keys[1], (n,), float, 1e-4, 1)
        # 1 - |lam|^2 itself, which no rounding near the unit circle turns into 0
        rest = (1 - r_max**2) + (1 - radius) * (r_max**2 - r_min**2)
        nu, gamma = jnp.log(-0.5 * jnp.log1p(-rest)), 0.5 * jnp.log(rest)
        normal = lambda key, *shape: jr.normal(key, shape, dtype)
        return cls(
            nu=nu.astype(dtype),
            theta=jnp.log(max_phase * phase).astype(dtype),
            gamma=gamma.astype(dtype),
            b_re=normal(keys[2], n, d) / (2 * d) ** 0.5,
            b_im=normal(keys[3], n, d) / (2 * d) ** 0.5,
            c_re=fan_in(keys[4], d, n, dtype=dtype),
            c_im=fan_in(keys[5], d, n, dtype=dtype),
            skip=normal(keys[6], d),
        )

    def init_state(self):
        """h = 0, real and imaginary part, (2, n)."""
        return jnp.zeros((2, len(self.nu)), accumulator(self.nu.dtype))

    def decay(self):
        """lam, (n,), complex."""
        wide = accumulator(self.nu.dtype)
        nu, theta = self.nu.astype(wide), self.theta.astype(wide)
        # exp(-exp(10)) is already 0; beyond, exp(nu) overflows and its gradient would be infinity times 0.
        modulus, phase = jnp.exp(-jnp.exp(jnp.minimum(nu, 10.0))), jnp.exp(theta)
        return jax.lax.complex(modulus * jnp.cos(phase), modulus * jnp.sin(phase))

    def at(self, x, state, segments):
        """The recurrence, the readout and the skip: linear in all of x."""
        memory, write = Complex(self.decay(), state, segments), Written(self.driven, x)
        h, after = memory.run(write.own)
        read = Linear(jnp.concatenate([self.c_re, -self.c_im], axis=1))
        skip = Scale(self.skip[None]) if self.skip.ndim == 1 else Linear(self.skip)
        y = read(h)
        return Frozen(y + skip(x).astype(y.dtype), after, read @ memory @ write + skip)

    def driven(self, x):
        """exp(gamma) * B x, real and imaginary part, (time, 2, n)."""
        wide = accumulator(x.dtype, self.nu.dtype)
        scale = jnp.exp(self.gamma.astype(wide))[None]
        return jnp.stack([scale * project(x, b).astype(wide) for b in (self.b_re, self.b_im)], axis=1)


class AbstractGatedLRU(AbstractMixer):
    """What the three gated forms share: an LRU, whose output z is read as gate * (W_x (z, 1)); they differ in the gate."""

    core: eqx.AbstractVar[LRU]
    w_m_out: eqx.AbstractVar[Float[Array, "d_out columns"]]
    w_x_out: eqx.AbstractVar[Float[Array, "d_out z+1"]]

    def __check_init__(self):
        z = self.dim("z")
        require(self.core.d_out == z, f"the core gives {self.core.d_out} numbers; w_x_out reads {z}, and a 1.")

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, dtype=None) -> "AbstractGatedLRU":
        """The core's own initial weights, and gates of variance 1 / fan-in without bias."""
        names = declared(cls)
        keys = jr.split(key, 1 + len(names))
        gates = {name: _gate(k, d, dtype) for name, k in zip(names, keys[1:], strict=True)}
        return cls(core=LRU.make(d, key=keys[0], n=n, dtype=dtype), **gates)

    def init_state(self):
        """The core's, (2, n)."""
        return self.core.init_state()

    def driven(self, x) -> Float[Array, "time d_core"]:
        """What goes into the core: x itself."""
        return x

    def gate_reads(self, x, z) -> Float[Array, "time width"]:
        """What the output's gate reads: the core's output."""
        del x
        return z

    def at(self, x, state, segments):
        """gate * W_x (z, 1), z the core's output."""
        write = Written(self.driven, x)
        z, after, core, *_ = self.core.at(write.own, state, segments)
        gate = jax.nn.sigmoid(project(append_one(self.gate_reads(x, z)), self.w_m_out))
        read = Scale(gate) @ Linear(self.w_x_out[:, :-1], self.w_x_out[:, -1])
        return Frozen(read(z), after, read @ core @ write)


@register("lru_out")
class LRUOut(AbstractGatedLRU):
    """`LRU`, then y_t = sigma(W_m (z_t, 1)) * (W_x (z_t, 1)) of its output z_t: a gated linear unit ("LRU Out").

    The dual form freezes the sigmoid; W_x z_t is linear in the past.

    **Arguments:** core: the `LRU`; w_m_out, w_x_out (d_out, core's d_out + 1).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Eqs. 6-9 of Zucchet et al. 2023 (arXiv 2309.01775). Oracle: the equations in PyTorch.
    """

    core: LRU
    w_m_out: Float[Array, "d_out z+1"] = eqx.field(converter=array)
    w_x_out: Float[Array, "d_out z+1"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_m_out", "w_x_out")

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.core.d_in


class AbstractInputGatedLRU(AbstractGatedLRU):
    """Those with a gate at the input, too: u_t = sigma(W_m (x_t, 1)) * (W_x (x_t, 1)) goes into the core."""

    w_m_in: eqx.AbstractVar[Float[Array, "d_core d+1"]]
    w_x_in: eqx.AbstractVar[Float[Array, "d_core d+1"]]

    def __check_init__(self):
        d_core = self.dim("d_core")
        require(self.core.d_in == d_core, f"w_m_in gives {d_core} numbers, the core takes {self.core.d_in}.")

    def driven(self, x):
        """u_t, the gated input, (time, core's d_in)."""
        z = append_one(x)
        return jax.nn.sigmoid(project(z, self.w_m_in)) * project(z, self.w_x_in)


@register("lru_in_out")
class LRUInOut(AbstractInputGatedLRU):
    """`LRUOut` behind an input gate: u_t = sigma(W_m (x_t, 1)) * (W_x (x_t, 1)) goes into the core ("LRU In-Out").

    The dual form freezes the output's sigmoid; u_t is each token's own.

    **Arguments:** core: the `LRU`; w_m_in, w_x_in (core's d_in, d_in + 1); w_m_out, w_x_out (d_out, core's d_out + 1).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** App. A.1 of Zucchet et al. 2023 (arXiv 2309.01775). Oracle: the equations in PyTorch.
    """

    _: KW_ONLY
    core: LRU
    w_m_in: Float[Array, "d_core d+1"] = eqx.field(converter=array)
    w_x_in: Float[Array, "d_core d+1"] = eqx.field(converter=array)
    w_m_out: Float[Array, "d_out z+1"] = eqx.field(converter=array)
    w_x_out: Float[Array, "d_out z+1"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_m_in", "w_x_in", "w_m_out", "w_x_out")


@register("lru_in_skip")
class LRUInSkip(AbstractInputGatedLRU):
    """`LRUInOut` whose output gate reads the token: y_t = sigma(W_m (x_t, 1)) * (W_x (z_t, 1)) ("LRU In-Skip").

    **Arguments:** core: the `LRU`; w_m_in, w_x_in (core's d_in, d_in + 1); w_m_out (d_out, d_in + 1); w_x_out (d_out, core's
    d_out + 1).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** App. A.1 of Zucchet et al. 2023 (arXiv 2309.01775). Oracle: the equations in PyTorch.
    """

    _: KW_ONLY
    core: LRU
    w_m_in: Float[Array, "d_core d+1"] = eqx.field(converter=array)
    w_x_in: Float[Array, "d_core d+1"] = eqx.field(converter=array)
    w_m_out: Float[Array, "d_out d+1"] = eqx.field(converter=array)
    w_x_out: Float[Array, "d_out z+1"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_m_in", "w_x_in", "w_m_out", "w_x_out")

    def gate_reads(self, x, z):
        """The token."""
        del z
        return x


def _gate(key: Array, d: int, dtype) -> Float[Array, "d columns"]:
    """(d, d + 1), of variance 1 / d; the last column, the bias, is 0."""
    weights = fan_in(key, d, d, dtype=dtype)
    return jnp.concatenate([weights, jnp.zeros((d, 1), weights.dtype)], axis=1)
