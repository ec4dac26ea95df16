"""Mamba-2: a matrix state with one decay for each head, after a short convolution, and a gated norm."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator, project
from dualform.errors import require
from dualform.maps import AttentionMap, Convolution, Frozen, Linear, Memory, Outer, Rescaled, Scale, Written
from dualform.maps.memory import by_channel
from dualform.mixers.declared import array
from dualform.mixers.fresh import fan_in
from dualform.mixers.heads import into_heads
from dualform.mixers.mamba import steps_bias
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.norms import rms_factor


@register("mamba2")
class Mamba2(AbstractMixer):
    """S_t = exp(delta_t A) S_{t-1} + B_t (delta_t u_t)^T,  o_t = S_t^T C_t + D u_t,  y_t = W_o (norm * g_t / rms(g_t)).

    g_t = o_t * silu(z_t).
    For each head: v, z = W_v x, W_z x, delta = softplus(W_delta x + b_delta) and A = -exp(a_log), numbers. For each group of
    heads: B, C. v, B and C go through a causal depthwise convolution, a bias and silu; u is what becomes of v. The norm runs
    over the heads of each group.

    The dual form freezes the convolution's silu on v and the norm's scale; its values are v.

    **Arguments:** w_v, w_z (head, p, d); w_b, w_c (group, n, d); w_delta (head, d), b_delta, a_log, skip: D, (head,); kernel
    (width, channels) and bias (channels,), the channels those of v, head by head, then of B, then of C; norm (head * p,); w_o
    (d_out, head * p).

    **Raises:** `InputError` where the shapes do not fit, or groups do not divide heads.

    **Source:** Dao and Gu 2024 (arXiv 2405.21060), Sec. 7; the gate comes before the norm, as in its code. Oracle: transformers'
    `Mamba2Mixer` (float64).
    """

    _: KW_ONLY
    w_v: Float[Array, "head p d"] = eqx.field(converter=array)
    w_z: Float[Array, "head p d"] = eqx.field(converter=array)
    w_b: Float[Array, "group n d"] = eqx.field(converter=array)
    w_c: Float[Array, "group n d"] = eqx.field(converter=array)
    w_delta: Float[Array, "head d"] = eqx.field(converter=array)
    b_delta: Float[Array, " head"] = eqx.field(converter=array)
    a_log: Float[Array, " head"] = eqx.field(converter=array)
    skip: Float[Array, " head"] = eqx.field(converter=array)
    kernel: Float[Array, "width head*p+2*group*n"] = eqx.field(converter=array)
    bias: Float[Array, " head*p+2*group*n"] = eqx.field(converter=array)
    norm: Float[Array, " head*p"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*p"] = eqx.field(converter=array)
    epsilon: float = eqx.field(default=1e-5, static=True)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_v", "w_z", "w_b", "w_c", "w_delta", "kernel", "w_o")

    def __check_init__(self):
        heads, groups = self.dims("head group")
        require(heads % groups == 0, f"{groups} groups do not divide {heads} heads.")

    @classmethod
    def make(
        cls,
        d: int,
        *,
        key: Array,
        expansion: int = 2,
        heads: int = 2,
        groups: int = 1,
        n: int = 16,
        width: int = 4,
        dtype=None,
    ) -> "Mamba2":
        """A uniform in -[1, 16], steps log-uniform in [1e-3, 0.1], D = 1, as published; weights of variance 1 / fan-in.

        **Raises:** `InputError` where a size is not positive, or heads do not divide the inner width.
        """
        require(
            min(expansion, heads, groups, n, width) >= 1, "expansion, heads, groups, n and width must be at least 1."
        )
        require(expansion * d % heads == 0, f"{heads} heads do not divide an inner width of {expansion * d}.")
        p, dtype, keys = expansion * d // heads, dtype or float, jr.split(key, 10)
        channels, bound = heads * p + 2 * groups * n, width**-0.5
        return cls(
            w_v=fan_in(keys[0], heads, p, d, dtype=dtype),
            w_z=fan_in(keys[1], heads, p, d, dtype=dtype),
            w_b=fan_in(keys[2], groups, n, d, dtype=dtype),
            w_c=fan_in(keys[3], groups, n, d, dtype=dtype),
            w_delta=fan_in(keys[4], heads, d, dtype=dtype),
            b_delta=steps_bias(keys[5], heads, dtype),
            a_log=jnp.log(jr.uniform(keys[6], (heads,), float, 1, 16)).astype(dtype),
            skip=jnp.ones(heads, dtype),
            kernel=jr.uniform(keys[7], (width, channels), dtype, -bound, bound),
            bias=jr.uniform(keys[8], (channels,), dtype, -bound, bound),
            norm=jnp.ones(heads * p, dtype),
            w_o=fan_in(keys[9], d, heads * p, dtype=dtype),
        )

    @property
    def inner(self) -> int:
        """head * p."""
        return self.dim("head*p")

    def init_state(self):
        """The last width - 1 rows of v, of B and C, and S = 0, (head, n, p)."""
        wide, before, (heads, n, p) = accumulator(self.w_v.dtype), len(self.kernel) - 1, self.dims("head n p")
        rest = self.kernel.shape[1] - self.inner
        state = jnp.zeros((heads, n, p), wide)
        return jnp.zeros((before, self.inner), wide), jnp.zeros((before, rest), wide), state

    def at(self, x, state, segments):
        """B and C are convolved too; S is read by C and written by B and delta u, skipped, gated, normed and projected."""
        tail, tail_bc, remembered = state
        delta, b, c, gate, tail_bc = self.choices(x, tail_bc, segments)
        kernel, bias = self.kernel[:, : self.inner], self.bias[: self.inner]
        convolution, write = Convolution(kernel, tail, segments, len(x)), Written(self.value, x)
        before, tail = convolution.run(write.own)
        before = before + bias.astype(before.dtype)[None]
        opened = jax.nn.sigmoid(before)  # times what is convolved, it is silu of it
        decay = jnp.exp(delta * -jnp.exp(self.a_log.astype(before.dtype))[None])
        memory = Skipped(
            convolution, bias, opened, delta, Outer(c, b, remembered, segments, decay=decay), self.skip, gate
        )
        gated, remembered = memory.behind(before)
        normed, read = Rescaled(memory, self.scale(gated)), Linear(self.w_o) @ Scale(self.norm[None])
        return Frozen(read(normed.by * gated), (tail, tail_bc, remembered), AttentionMap(read, normed, write))

    def choices(self, x, tail, segments):
        """delta, (time, head), B and C, (time, head, n), silu(z), (time, head, p), and the last rows of B and C."""
        flat = lambda w: into_heads(x, w).reshape(len(x), -1)
        kernel, bias = self.kernel[:, self.inner :], self.bias[self.inner :]
        both = jnp.concatenate([flat(self.w_b), flat(self.w_c)], axis=1)
        both, tail = Convolution(kernel, tail, segments, len(x)).run(both)
        both = jax.nn.silu(both + bias.astype(both.dtype)[None])
        each = len(self.w_v) // len(self.w_b)
        of_heads = lambda part: jnp.repeat(part.reshape(len(x), *self.w_b.shape[:2]), each, axis=1)
        b, c = (of_heads(part) for part in jnp.split(both, 2, axis=1))
        delta = jax.nn.softplus(project(x, self.w_delta).astype(both.dtype) + self.b_delta.astype(both.dtype)[None])
        return delta, b, c, jax.nn.silu(into_heads(x, self.w_z)), tail

    def value(self, x):
        """v, (time, head * p)."""
        return into_heads(x, self.w_v).reshape(len(x), -1)

    def scale(self, gated) -> Float[Array, "time channels"]:
        """1 / rms over the heads of each group, for each channel."""
        factor = rms_factor(gated.reshape(len(gated), len(self.w_b), -1), self.epsilon)
        return jnp.broadcast_to(factor, (*factor.shape[:2], self.inner // len(self.w_b))).reshape(gated.shape)


class Skipped(Memory):
    """(S_t^T C_t + D u_t) * gate_t with u = opened * (conv(v) + bias), of which delta u is written into S; channels flat.

    **Arguments:** bias (channels,); opened (time, channels); delta (time, head); skip (head,); gate (time, head, p).
    """

    convolution: Convolution
    bias: Float[Array, " channels"]
    opened: Float[Array, "time channels"]
    delta: Float[Array, "time head"]
    outer: Outer
    skip: Float[Array, " head"]
    gate: Float[Array, "time head p"]

    def run(self, v: Float[Array, "time channels"]) -> tuple[Float[Array, "time channels"], State]:
        """What is read, and the last rows of v and S."""
        before, tail = self.convolution.run(v)
        o, state = self.behind(before + self.bias.astype(before.dtype)[None])
        return o, (tail, state)

    def behind(self, before: Float[Array, "time channels"]) -> tuple[Float[Array, "time channels"], State]:
        """The same of what is convolved already, and S."""
        u = (self.opened * before).reshape(self.gate.shape)
        o, state = self.outer.run(self.delta[:, :, None] * u)
        o = (o + self.skip.astype(u.dtype)[None, :, None] * u) * self.gate
        return o.reshape(len(o), -1), state

    def weights(self) -> Float[Array, "channels time source"]:
        """Channel by channel, what is read of each token's v."""
        past = lambda own: (own.convolution.tail, own.bias, own.outer.state)
        return by_channel(eqx.tree_at(past, self, jax.tree_util.tree_map(jnp.zeros_like, past(self))), self.opened)
