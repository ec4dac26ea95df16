"""RWKV-4's two mixers: time mixing, an average whose weights fade, and channel mixing, an MLP that also sees one token back."""

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
from dualform.maps import AttentionMap, Frozen, Linear, Memory, Scale
from dualform.mixers.declared import array
from dualform.mixers.fresh import fan_in
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.recurrences.convolutions import convolution
from dualform.recurrences.softmax import LOWEST
from dualform.recurrences.wkv_average import empty_state, wkv
from dualform.segments import Segments


@register("rwkv4")
class RWKV4TimeMixing(AbstractMixer):
    """y_t = W_o (sigma(r_t) * wkv_t),  wkv_t = (a_{t-1} + exp(u + k_t) * v_t) / (b_{t-1} + exp(u + k_t)).

        a_t = exp(w) a_{t-1} + exp(k_t) v_t,    b_t = exp(w) b_{t-1} + exp(k_t),    w = -exp(log_rate)

    k, v and r are each a projection of the token and the one before it: W (mu * x_t + (1 - mu) * x_{t-1}), with a mu and a
    W of its own. The state is the last token, and a, b and the largest exponent so far, by which both are divided.

    The dual form is the layer's own map, given k and r. The scalar map is that over v, channel by channel, before the
    receptance sigma(r): its rows sum to 1, less the share of the state.

    **Arguments:** mu_k, mu_v, mu_r (d,); w_k, w_v, w_r (n, d); log_rate, u (n,); w_o (d_out, n).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Peng et al. 2023 (arXiv 2305.13048), Sec. 3; the map: Zimerman et al. 2024 (arXiv 2405.16504). Oracle:
    transformers' `RwkvSelfAttention` (float64), and trained weights with their logits.
    """

    _: KW_ONLY
    mu_k: Float[Array, " d"] = eqx.field(converter=array)
    mu_v: Float[Array, " d"] = eqx.field(converter=array)
    mu_r: Float[Array, " d"] = eqx.field(converter=array)
    w_k: Float[Array, "n d"] = eqx.field(converter=array)
    w_v: Float[Array, "n d"] = eqx.field(converter=array)
    w_r: Float[Array, "n d"] = eqx.field(converter=array)
    log_rate: Float[Array, " n"] = eqx.field(converter=array)
    u: Float[Array, " n"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out n"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_k", "w_v", "w_r", "w_o")

    @classmethod
    def make(
        cls, d: int, *, key: Array, layer: int = 0, layers: int = 1, zeros: bool = False, dtype=None
    ) -> "RWKV4TimeMixing":
        """Rates, bonuses and mixes as published for layer `layer` (from 0) of `layers`, W_v orthogonal.

        W_k, W_r and W_o start at 0 in the published code; so they do where `zeros` is set, as a model sets it. A mixer by
        itself would give nothing then, and has them of variance 1 / d.
        """
        depth, left = _depth(layer, layers)
        n, keys, mix = d, jr.split(key, 4), _places(d, d) ** left
        zigzag = 0.5 * (jnp.arange(1, n + 1) % 3 - 1).astype(mix.dtype)
        arrays = dict(
            mu_k=mix,
            mu_v=mix + 0.3 * depth,
            mu_r=_places(d, d) ** (0.5 * left),
            w_k=_fresh(keys[0], n, d, zeros),
            w_v=_orthogonal(keys[1], n, d),
            w_r=_fresh(keys[2], n, d, zeros),
            log_rate=-5 + 8 * _places(n, max(n - 1, 1)) ** (0.7 + 1.3 * depth),
            u=math.log(0.3) + zigzag,
            w_o=_fresh(keys[3], d, n, zeros),
        )
        return cls(**{name: a.astype(dtype or float) for name, a in arrays.items()})

    def init_state(self):
        """No token before, 0, (d,); and a = b = 0 and m, the lowest that there is, (n,)."""
        wide = accumulator(self.w_k.dtype)
        return jnp.zeros(self.d_in, wide), empty_state(len(self.w_k), wide)

    def at(self, x, state, segments):
        """v, the average of the v so far, gated and projected."""
        last, remembered = state
        shift = lambda mu: Shift(mu, last, segments)
        shifted, after = shift(self.mu_v).run(x)
        k = project(shift(self.mu_k)(x), self.w_k)
        receptance = jax.nn.sigmoid(project(shift(self.mu_r)(x), self.w_r))
        memory, read = WKV(self.log_decay(), self.u, k, remembered, segments), Linear(self.w_o) @ Scale(receptance)
        o, remembered = memory.run(project(shifted, self.w_v))
        write = Linear(self.w_v) @ shift(self.mu_v)
        return Frozen(read(o), (after, remembered), AttentionMap(read, memory, write, "convolved tokens"))

    def log_decay(self) -> Float[Array, " n"]:
        """w, below 0."""
        return -jnp.exp(self.log_rate.astype(accumulator(self.log_rate.dtype)))


class Shift(Memory):
    """mu * v_t + (1 - mu) * v_{t-1}, of the token before in the same document, or 0; last (d,): that before the first."""

    mu: Float[Array, " d"]
    last: Float[Array, " d"]
    segments: Segments

    def run(self, v: Float[Array, "time d"]) -> tuple[Float[Array, "time d"], State]:
        """The mixed tokens, in float32 or wider, and the last token."""
        kernel = jnp.stack([jnp.ones_like(self.last), jnp.zeros_like(self.last)])
        before, tail = convolution(v, kernel, self.last[None], **self.segments.flags)
        wide = accumulator(before.dtype, self.mu.dtype)
        mu = self.mu.astype(wide)[None]
        return mu * v.astype(wide) + (1 - mu) * before.astype(wide), tail[0]


class WKV(Memory):
    """The average of the v so far: v_s counts exp(w (t - s - 1) + k_s), v_t itself exp(u + k_t); see `recurrences.wkv`.

    **Arguments:** log_decay w and u (n,); k (time, n); state: a, b and m, (n,) each.
    """

    log_decay: Float[Array, " n"]
    u: Float[Array, " n"]
    k: Float[Array, "time n"]
    state: tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]
    segments: Segments

    def run(self, v: Float[Array, "time n"]) -> tuple[Float[Array, "time n"], State]:
        """The averages, and the state after the last token."""
        return wkv(self.log_decay, self.u, self.k, v, self.state, **self.segments.flags)

    def weights(self) -> Float[Array, "n time source"]:
        """The share of v_s in each average, over the tokens of this call.

        exp(w (t - s - 1) + k_s) where s < t and exp(u + k_t) where s = t, divided by their sum and the state's part of it.
        """
        k, start, mask = self.k, self.segments.start, self.segments.mask
        _, b, m = (part.astype(k.dtype) for part in self.state)
        w, seen = self.log_decay.astype(k.dtype)[:, None, None], self.segments.visible(len(k))
        met = jnp.cumsum((jnp.ones(len(k), bool) if mask is None else mask).astype(k.dtype))
        itself = jnp.eye(len(k), dtype=bool)[None]
        # Masked before the exponential: what is ahead would be faded less than not at all.
        between = jnp.where(seen & ~itself[0], met[:, None] - met[None] - 1, jnp.zeros((), k.dtype))
        score = jnp.where(itself, self.u.astype(k.dtype)[:, None, None], w * between[None]) + k.T[:, None]
        score = jnp.where(seen[None], score, jnp.full_like(score, LOWEST))
        first = jnp.ones(len(k), bool) if start is None else jnp.cumsum(start.astype(jnp.int32)) == 0
        past = jnp.where(first[None], m[:, None] + w[:, 0] * (met[None] - 1), jnp.full((), LOWEST, k.dtype))
        top = jnp.maximum(score.max(axis=-1), past)
        share = jnp.where(seen[None], jnp.exp(score - top[..., None]), jnp.zeros_like(score))
        total = share.sum(axis=-1) + jnp.where(first[None], b[:, None] * jnp.exp(past - top), jnp.zeros_like(past))
        total = total if mask is None else jnp.where(mask[None], total, jnp.ones_like(total))
        return share / total[..., None]


@register("rwkv4_channel")
class RWKV4ChannelMixing(AbstractMixer):
    """y_t = sigma(r_t) * W_v relu(k_t)^2.

    k and r are each a projection of the token and the one before it: W (mu * x_t + (1 - mu) * x_{t-1}), with a mu and a W
    of its own. The state is the last token.

    The dual form freezes sigma(r) and one of the two factors relu(k) * k of the square.

    **Arguments:** mu_k, mu_r (d,); w_k (n, d); w_r (d_out, d); w_v (d_out, n).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Peng et al. 2023 (arXiv 2305.13048), Sec. 3. Oracle: transformers' `RwkvFeedForward` (float64), and trained
    weights with their logits.
    """

    _: KW_ONLY
    mu_k: Float[Array, " d"] = eqx.field(converter=array)
    mu_r: Float[Array, " d"] = eqx.field(converter=array)
    w_k: Float[Array, "n d"] = eqx.field(converter=array)
    w_r: Float[Array, "d_out d"] = eqx.field(converter=array)
    w_v: Float[Array, "d_out n"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("w_k", "w_r", "w_v")

    @classmethod
    def make(
        cls,
        d: int,
        *,
        key: Array,
        layer: int = 0,
        layers: int = 1,
        hidden: int | None = None,
        zeros: bool = False,
        dtype=None,
    ) -> "RWKV4ChannelMixing":
        """Mixes as published for layer `layer` (from 0) of `layers`, W_k orthogonal; 4 d hidden units if no number is given.

        W_r and W_v start at 0 in the published code; so they do where `zeros` is set, as a model sets it. A mixer by itself
        would give nothing then, and has them of variance 1 / fan-in.
        """
        n, keys, (_, left) = hidden or 4 * d, jr.split(key, 3), _depth(layer, layers)
        mix = _places(d, d) ** left
        arrays = dict(
            mu_k=mix,
            mu_r=mix,
            w_k=_orthogonal(keys[0], n, d),
            w_r=_fresh(keys[1], d, d, zeros),
            w_v=_fresh(keys[2], d, n, zeros),
        )
        return cls(**{name: a.astype(dtype or float) for name, a in arrays.items()})

    def init_state(self):
        """No token before, 0, (d,)."""
        return jnp.zeros(self.d_in, accumulator(self.w_k.dtype))

    def at(self, x, state, segments):
        """sigma(r) * W_v relu(k)^2; frozen, one factor of the square is relu(k)."""
        shift = lambda mu: Shift(mu, state, segments)
        shifted, after = shift(self.mu_k).run(x)
        receptance = jax.nn.sigmoid(project(shift(self.mu_r)(x), self.w_r))
        opened = jax.nn.relu(project(shifted, self.w_k))
        read = Scale(receptance) @ Linear(self.w_v) @ Scale(opened) @ Linear(self.w_k)
        return Frozen(read(shifted), after, read @ shift(self.mu_k))


def _depth(layer: int, layers: int) -> tuple[float, float]:
    """How deep a layer lies, from 0 to 1, and the share of the layers that begin with it, from 1 to almost 0."""
    require(
        0 <= layer < layers, f"layer is {layer} of {layers}; layers are numbered from 0, and there is at least one."
    )
    return layer / max(layers - 1, 1), 1 - layer / layers


def _places(n: int, whole: int) -> Float[Array, " n"]:
    """i / whole for each channel i."""
    return jnp.arange(n, dtype=float) / whole


def _fresh(key: Array, rows: int, columns: int, zeros: bool) -> Float[Array, "rows columns"]:
    """Zeros, or numbers of variance 1 / fan-in."""
    return jnp.zeros((rows, columns)) if zeros else fan_in(key, rows, columns)


def _orthogonal(key: Array, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """An orthogonal matrix, scaled by sqrt(rows / columns) where there are more rows."""
    return jax.nn.initializers.orthogonal(max(rows / columns, 1.0) ** 0.5)(key, (rows, columns), float)
