"""The linear recurrent unit, as it was published and in the three gated forms that are compared with attention."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, append_one, project
from dualform.errors import require
from dualform.maps import Complex, Frozen, Linear, Scale, Written
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registry import register


@register("lru")
class LRU(AbstractMixer):
    """h_t = lam * h_{t-1} + exp(gamma) * B x_t (complex),  y_t = Re(C h_t) + D x_t,  lam = exp(-exp(nu) + i exp(theta)).

    **Arguments:** nu, theta, gamma (n,); b_re, b_im (n, d_in); c_re, c_im (d_out, n); skip: D, (d_out, d_in), or (d,) for a
    diagonal one, as published.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Orvieto et al. 2023 (arXiv 2303.06349), Sec. 3. Oracle: its equations and those of minimal-LRU, in PyTorch.
    """

    nu: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    theta: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    gamma: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    b_re: Float[Array, "n d_in"] = eqx.field(converter=jnp.asarray)
    b_im: Float[Array, "n d_in"] = eqx.field(converter=jnp.asarray)
    c_re: Float[Array, "d_out n"] = eqx.field(converter=jnp.asarray)
    c_im: Float[Array, "d_out n"] = eqx.field(converter=jnp.asarray)
    skip: Float[Array, "..."] = eqx.field(converter=jnp.asarray)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("b_re", "b_im", "c_re", "c_im")

    def __check_init__(self):
        n = len(self.nu) if self.nu.ndim == 1 else -1
        require(
            self.nu.shape == self.theta.shape == self.gamma.shape == (n,),
            f"nu {self.nu.shape}, theta {self.theta.shape} and gamma {self.gamma.shape} must each be (n,).",
        )
        require(
            self.b_re.ndim == 2 and self.b_re.shape == self.b_im.shape and len(self.b_re) == n,
            f"b_re {self.b_re.shape} and b_im {self.b_im.shape} must both be (n, d_in), with n = {n}.",
        )
        require(
            self.c_re.ndim == 2 and self.c_re.shape == self.c_im.shape and self.c_re.shape[1] == n,
            f"c_re {self.c_re.shape} and c_im {self.c_im.shape} must both be (d_out, n), with n = {n}.",
        )
        d_in, d_out = self.b_re.shape[1], len(self.c_re)
        require(
            self.skip.shape == (d_out, d_in) or (self.skip.shape == (d_in,) and d_in == d_out),
            f"skip has shape {self.skip.shape}; it must be {(d_out, d_in)}, or ({d_in},) where d_in = d_out.",
        )

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
            nu.astype(dtype),
            jnp.log(max_phase * phase).astype(dtype),
            gamma.astype(dtype),
            normal(keys[2], n, d) / (2 * d) ** 0.5,
            normal(keys[3], n, d) / (2 * d) ** 0.5,
            normal(keys[4], d, n) / n**0.5,
            normal(keys[5], d, n) / n**0.5,
            normal(keys[6], d),
        )

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.b_re.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.c_re)

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
    w_x_out: eqx.AbstractVar[Float[Array, "d_out columns_out"]]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.w_m_out)

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
    w_m_out: Float[Array, "d_out columns"] = eqx.field(converter=jnp.asarray)
    w_x_out: Float[Array, "d_out columns"] = eqx.field(converter=jnp.asarray)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_m_out", "w_x_out")

    def __check_init__(self):
        _check_pair("out", self.w_m_out, self.w_x_out, self.core.d_out, self.core.d_out)

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, dtype=None) -> "LRUOut":
        """The core's own initial weights, and gates of variance 1 / fan-in without bias."""
        keys = jr.split(key, 3)
        return cls(LRU.make(d, key=keys[0], n=n, dtype=dtype), _gate(keys[1], d, dtype), _gate(keys[2], d, dtype))

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.core.d_in


@register("lru_in_out")
class LRUInOut(AbstractGatedLRU):
    """`LRUOut` behind an input gate: u_t = sigma(W_m (x_t, 1)) * (W_x (x_t, 1)) goes into the core ("LRU In-Out").

    The dual form freezes the output's sigmoid; u_t is each token's own.

    **Arguments:** core: the `LRU`; w_m_in, w_x_in (core's d_in, d_in + 1); w_m_out, w_x_out (d_out, core's d_out + 1).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** App. A.1 of Zucchet et al. 2023 (arXiv 2309.01775). Oracle: the equations in PyTorch.
    """

    core: LRU
    w_m_in: Float[Array, "d_core columns"] = eqx.field(converter=jnp.asarray)
    w_x_in: Float[Array, "d_core columns"] = eqx.field(converter=jnp.asarray)
    w_m_out: Float[Array, "d_out columns_out"] = eqx.field(converter=jnp.asarray)
    w_x_out: Float[Array, "d_out columns_out"] = eqx.field(converter=jnp.asarray)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_m_in", "w_x_in", "w_m_out", "w_x_out")

    def __check_init__(self):
        _check_pair("in", self.w_m_in, self.w_x_in, self.d_in, self.d_in)
        require(
            len(self.w_m_in) == self.core.d_in, f"w_m_in gives {len(self.w_m_in)}, the core takes {self.core.d_in}."
        )
        _check_pair("out", self.w_m_out, self.w_x_out, self.core.d_out, self.core.d_out)

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, dtype=None) -> "LRUInOut":
        """The core's own initial weights, and gates of variance 1 / fan-in without bias."""
        keys = jr.split(key, 5)
        return cls(LRU.make(d, key=keys[0], n=n, dtype=dtype), *(_gate(k, d, dtype) for k in keys[1:]))

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_m_in.shape[1] - 1

    def driven(self, x):
        """u_t, the gated input, (time, core's d_in)."""
        z = append_one(x)
        return jax.nn.sigmoid(project(z, self.w_m_in)) * project(z, self.w_x_in)


@register("lru_in_skip")
class LRUInSkip(AbstractGatedLRU):
    """`LRUInOut` whose output gate reads the token: y_t = sigma(W_m (x_t, 1)) * (W_x (z_t, 1)) ("LRU In-Skip").

    **Arguments:** core: the `LRU`; w_m_in, w_x_in (core's d_in, d_in + 1); w_m_out (d_out, d_in + 1); w_x_out (d_out, core's
    d_out + 1).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** App. A.1 of Zucchet et al. 2023 (arXiv 2309.01775). Oracle: the equations in PyTorch.
    """

    core: LRU
    w_m_in: Float[Array, "d_core columns"] = eqx.field(converter=jnp.asarray)
    w_x_in: Float[Array, "d_core columns"] = eqx.field(converter=jnp.asarray)
    w_m_out: Float[Array, "d_out columns"] = eqx.field(converter=jnp.asarray)
    w_x_out: Float[Array, "d_out columns_out"] = eqx.field(converter=jnp.asarray)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_m_in", "w_x_in", "w_m_out", "w_x_out")

    def __check_init__(self):
        _check_pair("in", self.w_m_in, self.w_x_in, self.d_in, self.d_in)
        require(
            len(self.w_m_in) == self.core.d_in, f"w_m_in gives {len(self.w_m_in)}, the core takes {self.core.d_in}."
        )
        _check_pair("out", self.w_m_out, self.w_x_out, self.d_in, self.core.d_out)

    @classmethod
    def make(cls, d: int, *, key: Array, n: int | None = None, dtype=None) -> "LRUInSkip":
        """The core's own initial weights, and gates of variance 1 / fan-in without bias."""
        keys = jr.split(key, 5)
        return cls(LRU.make(d, key=keys[0], n=n, dtype=dtype), *(_gate(k, d, dtype) for k in keys[1:]))

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_m_in.shape[1] - 1

    def driven(self, x):
        """u_t, the gated input, (time, core's d_in)."""
        z = append_one(x)
        return jax.nn.sigmoid(project(z, self.w_m_in)) * project(z, self.w_x_in)

    def gate_reads(self, x, z):
        """The token."""
        del z
        return x


def _gate(key: Array, d: int, dtype) -> Float[Array, "d columns"]:
    """(d, d + 1), of variance 1 / d; the last column, the bias, is 0."""
    weights = jr.normal(key, (d, d), dtype or float) / d**0.5
    return jnp.concatenate([weights, jnp.zeros((d, 1), weights.dtype)], axis=1)


def _check_pair(name: str, w_m: Array, w_x: Array, m_width: int, x_width: int) -> None:
    require(
        w_m.ndim == w_x.ndim == 2
        and len(w_m) == len(w_x)
        and w_m.shape[1] == m_width + 1
        and w_x.shape[1] == x_width + 1,
        f"w_m_{name} {w_m.shape} and w_x_{name} {w_x.shape} must be (rows, {m_width + 1}) and (rows, {x_width + 1}): a 1 is "
        "appended to what they read.",
    )
