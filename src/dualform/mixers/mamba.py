"""Mamba: a state space whose steps, writing and reading are chosen by the token, after a short convolution."""

import math
from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator, project
from dualform.errors import require
from dualform.maps import AttentionMap, Convolution, Frozen, Linear, Memory, Written
from dualform.maps.causal_map import BLOCK
from dualform.maps.memory import by_channel
from dualform.mixers.declared import array
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.recurrences.selective_map import selective_map
from dualform.recurrences.selective_scan import selective


@register("mamba")
class Mamba(AbstractMixer):
    """h_t = exp(delta_t A) * h_{t-1} + delta_t B_t u_t,  y_t = W_o ((C_t . h_t + D * u_t) * silu(z_t)).

    v, z = W_u x, W_z x; u = silu(conv(v) + bias), causal and depthwise; B, C = W_B u, W_C u; delta = softplus(W_2 W_1 u +
    b_delta), for each channel; A = -exp(a_log), n states for each channel.

    Negative: (2 exp(delta_t A) - 1) * h_{t-1}, so that what a state holds can change its sign: what it is multiplied by lies in
    [-1, 1], and not in [0, 1].

    The dual form freezes the convolution's silu, at sigma(conv(v) + bias), beside delta, B, C and silu(z); its values are v.

    **Arguments:** w_u, w_z (n_channels, d); kernel (width, n_channels), whose last row meets the token itself, and bias
    (n_channels,); w_b, w_c (n, n_channels); w_1 (rank, n_channels), w_2 (n_channels, rank), b_delta (n_channels,); a_log
    (n_channels, n); skip: D, (n_channels,); w_o (d_out, n_channels). negative: whether transitions reach -1.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Gu and Dao 2023 (arXiv 2312.00752), Alg. 2 and Fig. 3; the map is that of Ali et al. 2024 (arXiv 2403.01590)
    with the convolution and the gate. Oracle: transformers' `MambaMixer` (float64). Negative: Grazzi et al. 2024 (arXiv
    2411.12537), Table 2.
    """

    _: KW_ONLY
    w_u: Float[Array, "n_channels d"] = eqx.field(converter=array)
    w_z: Float[Array, "n_channels d"] = eqx.field(converter=array)
    kernel: Float[Array, "width n_channels"] = eqx.field(converter=array)
    bias: Float[Array, " n_channels"] = eqx.field(converter=array)
    w_b: Float[Array, "n n_channels"] = eqx.field(converter=array)
    w_c: Float[Array, "n n_channels"] = eqx.field(converter=array)
    w_1: Float[Array, "rank n_channels"] = eqx.field(converter=array)
    w_2: Float[Array, "n_channels rank"] = eqx.field(converter=array)
    b_delta: Float[Array, " n_channels"] = eqx.field(converter=array)
    a_log: Float[Array, "n_channels n"] = eqx.field(converter=array)
    skip: Float[Array, " n_channels"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out n_channels"] = eqx.field(converter=array)
    negative: bool = eqx.field(default=False, static=True)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_u", "w_z", "kernel", "w_b", "w_c", "w_1", "w_2", "w_o")

    @classmethod
    def make(
        cls,
        d: int,
        *,
        key: Array,
        expansion: int = 2,
        n: int = 16,
        width: int = 4,
        rank: int | None = None,
        negative: bool = False,
        dtype=None,
    ) -> "Mamba":
        """As published: A = -(1, ..., n), D = 1, steps log-uniform in [1e-3, 0.1], rank d / 16 rounded up, uniform weights.

        **Raises:** `InputError` where a size is not positive.
        """
        rank, dtype = math.ceil(d / 16) if rank is None else rank, dtype or float
        require(min(expansion, n, width, rank) >= 1, "expansion, n, width and rank must all be at least 1.")
        channels, keys = expansion * d, jr.split(key, 10)
        uniform = lambda key, *shape, fan: jr.uniform(key, shape, dtype, -(fan**-0.5), fan**-0.5)
        return cls(
            w_u=uniform(keys[0], channels, d, fan=d),
            w_z=uniform(keys[1], channels, d, fan=d),
            kernel=uniform(keys[2], width, channels, fan=width),
            bias=uniform(keys[3], channels, fan=width),
            w_b=uniform(keys[4], n, channels, fan=channels),
            w_c=uniform(keys[5], n, channels, fan=channels),
            w_1=uniform(keys[6], rank, channels, fan=channels),
            w_2=uniform(keys[7], channels, rank, fan=rank),
            b_delta=steps_bias(keys[8], channels, dtype),
            a_log=jnp.broadcast_to(jnp.log(jnp.arange(1, n + 1, dtype=float))[None], (channels, n)).astype(dtype),
            skip=jnp.ones(channels, dtype),
            w_o=uniform(keys[9], d, channels, fan=channels),
            negative=negative,
        )

    def init_state(self):
        """The last width - 1 rows of v, and h = 0, (n_channels, n)."""
        wide = accumulator(self.w_u.dtype)
        return jnp.zeros((len(self.kernel) - 1, len(self.w_u)), wide), jnp.zeros(self.a_log.shape, wide)

    def at(self, x, state, segments):
        """The convolved values choose delta, B and C, and are read through the states, gated and projected."""
        tail, h = state
        convolution, write = Convolution(self.kernel, tail, segments, len(x)), Written(self.value, x)
        before, tail = convolution.run(write.own)
        before = before + self.bias.astype(before.dtype)[None]
        u = jax.nn.silu(before)
        steps = project(project(u, self.w_1), self.w_2)
        delta = jax.nn.softplus(steps + self.b_delta.astype(steps.dtype)[None])
        a, gate = -jnp.exp(self.a_log.astype(before.dtype)), jax.nn.silu(project(x, self.w_z).astype(before.dtype))
        opened = jax.nn.sigmoid(before)  # times what is convolved, it is silu of it
        memory = Selective(
            convolution=convolution,
            bias=self.bias,
            opened=opened,
            delta=delta,
            a=a,
            b=project(u, self.w_b),
            c=project(u, self.w_c),
            skip=self.skip,
            gate=gate,
            state=h,
            negative=self.negative,
        )
        (o, h), read = memory.behind(before), Linear(self.w_o)
        return Frozen(read(o), (tail, h), MambaMap(read, memory, write))

    def value(self, x):
        """v, (time, n_channels)."""
        return project(x, self.w_u).astype(accumulator(x.dtype, self.w_u.dtype))


class Selective(Memory):
    """(C_t . h_t + D * u_t) * gate_t with u = opened * (conv(v) + bias), h_t = exp(delta_t a) h_{t-1} + delta_t u_t B_t.

    Negative: (2 exp(delta_t a) - 1) h_{t-1}.

    **Arguments:** bias, skip (n_channels,); opened, delta, gate (time, n_channels); a, state (n_channels, n); b, c (time, n).
    """

    convolution: Convolution
    bias: Float[Array, " n_channels"]
    opened: Float[Array, "time n_channels"]
    delta: Float[Array, "time n_channels"]
    a: Float[Array, "n_channels n"]
    b: Float[Array, "time n"]
    c: Float[Array, "time n"]
    skip: Float[Array, " n_channels"]
    gate: Float[Array, "time n_channels"]
    state: Float[Array, "n_channels n"]
    negative: bool = eqx.field(default=False, static=True)

    def run(self, v: Float[Array, "time n_channels"]) -> tuple[Float[Array, "time n_channels"], State]:
        """What is read, and the last rows of v and h."""
        before, tail = self.convolution.run(v)
        o, h = self.behind(before + self.bias.astype(before.dtype)[None])
        return o, (tail, h)

    def behind(self, before: Float[Array, "time n_channels"]) -> tuple[Float[Array, "time n_channels"], State]:
        """The same of what is convolved already, and h."""
        u = self.opened * before
        flags = self.convolution.segments.flags
        y, h = selective(u, self.delta, self.a, self.b, self.c, self.state, negative=self.negative, **flags)
        return (y + self.skip.astype(y.dtype)[None] * u) * self.gate, h

    def weights(self) -> Float[Array, "n_channels time source"]:
        """Channel by channel, what is read of each token's v: convolution, states, skip and gate."""
        past = lambda own: (own.convolution.tail, own.bias, own.state)
        return by_channel(eqx.tree_at(past, self, jax.tree_util.tree_map(jnp.zeros_like, past(self))), self.opened)


class MambaMap(AttentionMap):
    """A Mamba's map; its shares come from `selective_map`, with no pass for each token and no map for each channel."""

    @property
    def has_closed_form(self) -> bool:
        """Never: the maps of single channels take a pass for each token."""
        return False

    @property
    def direct(self) -> bool:
        """Where every token is there."""
        return self._memory.convolution.segments.mask is None

    @property
    def _memory(self) -> Selective:
        assert isinstance(self.memory, Selective)
        return self.memory

    def project(self, v, r, block=BLOCK):
        """By halving the stretch of tokens, see `selective_map`."""
        if not self.direct:
            return super().project(v, r, block)
        own, time = self._memory, len(v)
        kernel, segments = own.convolution.kernel, own.convolution.segments
        q = self.read.pulled_back(own.gate, r) * own.gate[None]
        # What token s puts into the recurrence at s, s + 1, ...: its value times the kernel and the frozen silu there.
        value, width = self.write.brought(v), len(kernel)
        ahead = jnp.pad(own.opened, ((0, width - 1), (0, 0)))
        kernel = kernel[::-1].astype(value.dtype)
        taps = [kernel[j][None] * value * ahead[j : j + time] for j in range(width)]
        found = selective_map(
            q, jnp.stack(taps), own.delta, own.a.astype(value.dtype), own.b, own.c, negative=own.negative
        )
        places = jnp.arange(time)
        for j, tap in enumerate(taps):
            skipped = own.skip.astype(tap.dtype)[None] * jnp.roll(tap, j, axis=0)
            direct = jnp.sum(q * skipped[None], axis=-1)
            direct = jnp.where((places >= j)[None], direct, jnp.zeros_like(direct))
            found = found.at[:, places, jnp.maximum(places - j, 0)].add(direct)
        return jnp.where(segments.visible(time)[None], found, jnp.zeros_like(found))


def steps_bias(key: Array, channels: int, dtype) -> Float[Array, " channels"]:
    """The inverse softplus of steps that are log-uniform in [1e-3, 0.1], as published."""
    steps = jnp.exp(jr.uniform(key, (channels,), float, math.log(1e-3), math.log(0.1)))
    return (steps + jnp.log(-jnp.expm1(-steps))).astype(dtype)
