"""Mamba: a state space whose steps, writing and reading are chosen by the token, after a short convolution."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float

from dualform.arrays import accumulator, project
from dualform.errors import require
from dualform.maps.causal_map import BLOCK
from dualform.mixers.frozen_mixer import MixerMap
from dualform.mixers.heads import check_shape
from dualform.mixers.mixer import AbstractMixer, visible
from dualform.mixers.registry import register
from dualform.recurrences.convolution import convolution
from dualform.recurrences.selective import selective
from dualform.recurrences.selective_map import selective_map


@register("mamba")
class Mamba(AbstractMixer):
    """h_t = exp(delta_t A) * h_{t-1} + delta_t B_t u_t,  y_t = W_o ((C_t . h_t + D * u_t) * silu(z_t)).

    v, z = W_u x, W_z x; u = silu(conv(v) + bias), causal and depthwise; B, C = W_B u, W_C u; delta = softplus(W_2 W_1 u +
    b_delta), for each channel; A = -exp(a_log), n states for each channel.

    The dual form freezes the convolution's silu, at sigma(conv(v) + bias), beside delta, B, C and silu(z); its values are v.

    **Arguments:** w_u, w_z (n_channels, d); kernel (width, n_channels), whose last row meets the token itself, and bias
    (n_channels,); w_b, w_c (n, n_channels); w_1 (rank, n_channels), w_2 (n_channels, rank), b_delta (n_channels,); a_log
    (n_channels, n); skip: D, (n_channels,); w_o (d_out, n_channels).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Gu and Dao 2023 (arXiv 2312.00752), Alg. 2 and Fig. 3; the map is that of Ali et al. 2024 (arXiv 2403.01590)
    with the convolution and the gate. Oracle: transformers' `MambaMixer` (float64).
    """

    w_u: Float[Array, "n_channels d"] = eqx.field(converter=jnp.asarray)
    w_z: Float[Array, "n_channels d"] = eqx.field(converter=jnp.asarray)
    kernel: Float[Array, "width n_channels"] = eqx.field(converter=jnp.asarray)
    bias: Float[Array, " n_channels"] = eqx.field(converter=jnp.asarray)
    w_b: Float[Array, "n n_channels"] = eqx.field(converter=jnp.asarray)
    w_c: Float[Array, "n n_channels"] = eqx.field(converter=jnp.asarray)
    w_1: Float[Array, "rank n_channels"] = eqx.field(converter=jnp.asarray)
    w_2: Float[Array, "n_channels rank"] = eqx.field(converter=jnp.asarray)
    b_delta: Float[Array, " n_channels"] = eqx.field(converter=jnp.asarray)
    a_log: Float[Array, "n_channels n"] = eqx.field(converter=jnp.asarray)
    skip: Float[Array, " n_channels"] = eqx.field(converter=jnp.asarray)
    w_o: Float[Array, "d_out n_channels"] = eqx.field(converter=jnp.asarray)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_u", "w_z", "kernel", "w_b", "w_c", "w_1", "w_2", "w_o")

    def __check_init__(self):
        require(
            self.w_u.ndim == 2 and 0 not in self.w_u.shape,
            f"w_u has shape {self.w_u.shape}; it must be (n_channels, d), neither 0.",
        )
        require(
            self.a_log.ndim == self.kernel.ndim == self.w_1.ndim == self.w_o.ndim == 2
            and 0 not in (*self.a_log.shape, *self.kernel.shape, *self.w_1.shape, *self.w_o.shape),
            f"a_log {self.a_log.shape}, kernel {self.kernel.shape}, w_1 {self.w_1.shape} and w_o {self.w_o.shape} must be "
            "(n_channels, n), (width, n_channels), (rank, n_channels) and (d_out, n_channels), none of them 0.",
        )
        channels, (width, rank, n) = len(self.w_u), (len(self.kernel), len(self.w_1), self.a_log.shape[1])
        check_shape("w_z", self.w_z, self.w_u.shape)
        check_shape("kernel", self.kernel, (width, channels))
        check_shape("bias", self.bias, (channels,))
        check_shape("w_b", self.w_b, (n, channels))
        check_shape("w_c", self.w_c, (n, channels))
        check_shape("w_1", self.w_1, (rank, channels))
        check_shape("w_2", self.w_2, (channels, rank))
        check_shape("b_delta", self.b_delta, (channels,))
        check_shape("a_log", self.a_log, (channels, n))
        check_shape("skip", self.skip, (channels,))
        check_shape("w_o", self.w_o, (len(self.w_o), channels))

    @classmethod
    def make(
        cls, d: int, *, key: Array, expansion: int = 2, n: int = 16, width: int = 4, rank: int | None = None, dtype=None
    ) -> "Mamba":
        """As published: A = -(1, ..., n), D = 1, steps log-uniform in [1e-3, 0.1], rank d / 16 rounded up, uniform weights.

        **Raises:** `InputError` where a size is not positive.
        """
        rank, dtype = math.ceil(d / 16) if rank is None else rank, dtype or float
        require(min(expansion, n, width, rank) >= 1, "expansion, n, width and rank must all be at least 1.")
        channels, keys = expansion * d, jr.split(key, 10)
        uniform = lambda key, *shape, fan: jr.uniform(key, shape, dtype, -(fan**-0.5), fan**-0.5)
        return cls(
            uniform(keys[0], channels, d, fan=d),
            uniform(keys[1], channels, d, fan=d),
            uniform(keys[2], width, channels, fan=width),
            uniform(keys[3], channels, fan=width),
            uniform(keys[4], n, channels, fan=channels),
            uniform(keys[5], n, channels, fan=channels),
            uniform(keys[6], rank, channels, fan=channels),
            uniform(keys[7], channels, rank, fan=rank),
            steps_bias(keys[8], channels, dtype),
            jnp.broadcast_to(jnp.log(jnp.arange(1, n + 1, dtype=float))[None], (channels, n)).astype(dtype),
            jnp.ones(channels, dtype),
            uniform(keys[9], d, channels, fan=channels),
        )

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_u.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.w_o)

    def init_state(self):
        """The last width - 1 rows of v, and h = 0, (n_channels, n)."""
        wide = accumulator(self.w_u.dtype)
        return jnp.zeros((len(self.kernel) - 1, len(self.w_u)), wide), jnp.zeros(self.a_log.shape, wide)

    def context(self, x, state, start, mask):
        """sigma(conv(v) + bias), delta, B, C and silu(z)."""
        return self.choose(x, *self.convolved(self.value(x), state[0], start, mask))

    def choose(self, x, before, _tail):
        """The same, from conv(v) + bias."""
        u = jax.nn.silu(before)
        steps = project(project(u, self.w_1), self.w_2)
        delta = jax.nn.softplus(steps + self.b_delta.astype(steps.dtype)[None])
        gate = jax.nn.silu(project(x, self.w_z).astype(before.dtype))
        return jax.nn.sigmoid(before), delta, project(u, self.w_b), project(u, self.w_c), gate

    def value(self, x):
        """v, (time, n_channels)."""
        return project(x, self.w_u).astype(accumulator(x.dtype, self.w_u.dtype))

    def convolved(self, value, tail, start, mask, bias: bool = True):
        """conv(v) + bias, and the last rows of v."""
        before, tail = convolution(value, self.kernel, tail, start=start, mask=mask)
        return (before + self.bias.astype(before.dtype)[None] if bias else before), tail

    def mix(self, context, value, state, start, mask):
        """The convolution, the recurrence and the gate, and their readout."""
        before, tail = self.convolved(value, state[0], start, mask)
        y, h = self.read(context, before, state[1], start, mask)
        return project(y, self.w_o), (tail, h)

    def forward(self, x, state, start, mask):
        """The convolution once."""
        before, tail = self.convolved(self.value(x), state[0], start, mask)
        y, h = self.read(self.choose(x, before, tail), before, state[1], start, mask)
        return project(y, self.w_o), (tail, h)

    def read(self, context, before, h, start, mask):
        """(C_t . h_t + D * u_t) * silu(z_t), (time, n_channels), and h."""
        factor, delta, b, c, gate = context
        u, a = factor * before, -jnp.exp(self.a_log.astype(before.dtype))
        y, h = selective(u, delta, a, b, c, h, start=start, mask=mask)
        return (y + self.skip.astype(y.dtype)[None] * u) * gate, h

    def map_at(self, x, state, start, mask):
        """The map whose shares come in closed form."""
        return MambaMap.of(self, x, state, start, mask)

    def read_out(self, context, o):
        """What the maps read of each channel, projected."""
        return project(o[:, :, 0], self.w_o)

    def weights(self, x, state, start, mask):
        """Channel by channel, what is read of each token's v: convolution, states, skip and gate, (n_channels, time, source)."""
        context = self.context(x, state, start, mask)
        tail, h = (jnp.zeros_like(part) for part in state)

        def of_token(token):
            value = jnp.broadcast_to(token[:, None], (len(x), len(self.w_u)))
            before, _ = self.convolved(value, tail, start, mask, bias=False)
            return self.read(context, before, h, start, mask)[0]

        return jax.vmap(of_token, out_axes=2)(jnp.eye(len(x), dtype=h.dtype)).transpose(1, 0, 2)


class MambaMap(MixerMap):
    """A Mamba's map; its shares come from `selective_map`, with no pass for each token and no map for each channel."""

    @property
    def has_closed_form(self) -> bool:
        """Never: the maps of single channels take a pass for each token."""
        return False

    @property
    def direct(self) -> bool:
        """Where every token is there."""
        return self.mask is None

    def project(self, v, r, block=BLOCK):
        """By halving the stretch of tokens, see `selective_map`."""
        if self.mask is not None:
            return super().project(v, r, block)
        mixer, time = self.mixer, len(v)
        assert isinstance(mixer, Mamba)
        factor, delta, b, c, gate = self.context
        q = jnp.einsum("hto,oc->htc", r.astype(gate.dtype), mixer.w_o.astype(gate.dtype)) * gate[None]
        # What token s puts into the recurrence at s, s + 1, ...: its value times the kernel and the frozen silu there.
        value, width = jtu.tree_map(jnp.subtract, self.values(v), self.values(jnp.zeros_like(v))), len(mixer.kernel)
        ahead = jnp.pad(factor, ((0, width - 1), (0, 0)))
        kernel = mixer.kernel[::-1].astype(value.dtype)
        taps = [kernel[j][None] * value * ahead[j : j + time] for j in range(width)]
        found = selective_map(q, jnp.stack(taps), delta, -jnp.exp(mixer.a_log.astype(value.dtype)), b, c)
        places = jnp.arange(time)
        for j, tap in enumerate(taps):
            skipped = mixer.skip.astype(tap.dtype)[None] * jnp.roll(tap, j, axis=0)
            direct = jnp.sum(q * skipped[None], axis=-1)
            direct = jnp.where((places >= j)[None], direct, jnp.zeros_like(direct))
            found = found.at[:, places, jnp.maximum(places - j, 0)].add(direct)
        return jnp.where(visible(time, self.start, None)[None], found, jnp.zeros_like(found))


def steps_bias(key: Array, channels: int, dtype) -> Float[Array, " channels"]:
    """The inverse softplus of steps that are log-uniform in [1e-3, 0.1], as published."""
    steps = jnp.exp(jr.uniform(key, (channels,), float, math.log(1e-3), math.log(0.1)))
    return (steps + jnp.log(-jnp.expm1(-steps))).astype(dtype)
