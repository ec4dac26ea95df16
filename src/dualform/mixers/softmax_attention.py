"""Softmax attention over the last tokens: a recurrence whose state is a cache of keys and values."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from dualform.arrays import State, accumulator
from dualform.errors import require
from dualform.maps import AttentionMap, Frozen, Linear, Memory, Written
from dualform.maps.memory import each_token
from dualform.mixers.cache import Cache, appended, extend, init_cache
from dualform.mixers.declared import array, optional_array
from dualform.mixers.heads import IntoHeads, into_heads, split_width
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.mixers.rotary import goes_on, positions, rotate
from dualform.recurrences.attention import attend, attend_one
from dualform.segments import Segments


@register("softmax_attention")
@register("multi_query_attention", kv_heads=1)
@register("local_attention", kv_heads=1, window=16)
class SoftmaxAttention(AbstractMixer):
    """o_t = sum_s softmax_s(q_t . k_s / sqrt(d_k)) v_s over the last tokens of the document,  y_t = W_o o_t + b_o.

    For each head: q, k, v = W_q x + b_q, W_k x + b_k, W_v x + b_v, and the first `rotary` channels of q and k turned by the
    token's place in its document. Where there are fewer key-value heads than heads, each serves as many heads, in order:
    grouped heads; a single one: multi-query attention. Up to `window` tokens it is attention without a window.

    The dual form freezes the softmax weights, which are its map.

    **Arguments:** w_q (head, d_k, d); w_k (kv_head, d_k, d), w_v (kv_head, d_v, d); w_o (d_out, head * d_v), b_o (d_out,) or
    None; window: how many tokens each one sees, itself among them, older ones leave; None: all; context: how many tokens of a
    document a state goes on from, the next among them; None: no end. One call sees all that it is given; what goes on from a
    state behind the context is NaN, rather than what a model that has forgotten the beginning says. One of the two is given, as
    the state is as long; rotary: channels that are turned, an even number, 0 for none; base: of the rotary angles; b_q
    (head, d_k), b_k (kv_head, d_k), b_v (kv_head, d_v), each or None.

    **Raises:** `InputError` where the shapes do not fit, head counts do not divide, a number is out of range, or neither window
    nor context is given.

    **Source:** Vaswani et al. 2017 (arXiv 1706.03762); Shazeer 2019 (arXiv 1911.02150) for a single key-value head, Ainslie et
    al. 2023 (arXiv 2305.13245) for groups, De et al. 2024 (arXiv 2402.19427, Sec. 2.4) for the window. Oracle: torch's
    `scaled_dot_product_attention`, transformers' `LlamaAttention` and `RecurrentGemmaAttention` (float64); with
    b_q, b_k and b_v, its Qwen2.
    """

    _: KW_ONLY
    w_q: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_k: Float[Array, "kv_head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "kv_head d_v d"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    b_o: Float[Array, " d_out"] | None = eqx.field(default=None, converter=optional_array)
    window: int | None = eqx.field(default=None, static=True)
    context: int | None = eqx.field(default=None, static=True)
    rotary: int = eqx.field(default=0, static=True)
    base: float = eqx.field(default=10000.0, static=True)
    b_q: Float[Array, "head d_k"] | None = eqx.field(default=None, converter=optional_array)
    b_k: Float[Array, "kv_head d_k"] | None = eqx.field(default=None, converter=optional_array)
    b_v: Float[Array, "kv_head d_v"] | None = eqx.field(default=None, converter=optional_array)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_q", "w_k", "w_v", "w_o")

    def __check_init__(self):
        heads, kv_heads, d_k = self.dims("head kv_head d_k")
        require(heads % kv_heads == 0, f"{kv_heads} key-value heads do not divide {heads} heads.")
        for name, count in (("window", self.window), ("context", self.context)):
            require(count is None or count >= 1, f"{name} is {count}; a token sees at least itself.")
        require(
            0 <= self.rotary <= d_k and self.rotary % 2 == 0,
            f"rotary is {self.rotary}; channels are turned in pairs, so give an even number up to d_k = {d_k}.",
        )
        require(
            self.window is not None or self.context is not None,
            "attention without a window and without a context has a state without an end; give it one: context=4096.",
        )

    @classmethod
    def make(
        cls,
        d: int,
        *,
        key: Array,
        heads: int = 2,
        kv_heads: int | None = None,
        window: int | None = None,
        context: int | None = None,
        rotary: int | None = None,
        dtype=None,
    ) -> "SoftmaxAttention":
        """Weights of variance 1 / fan-in, no bias; all channels turned (of d / heads, or one more), as many kv heads as heads.

        A window of 64 tokens, where neither a window nor a context is given.
        """
        d_v = split_width(d, heads)
        d_k, kv_heads = d_v + d_v % 2, heads if kv_heads is None else kv_heads
        require(kv_heads >= 1, f"{kv_heads} key-value heads are none; give at least 1.")
        w = cls.matrices(jr.split(key, 4), dtype, head=heads, kv_head=kv_heads, d_k=d_k, d_v=d_v, d=d, d_out=d)
        window = 64 if window is None and context is None else window
        return cls(**w, window=window, context=context, rotary=d_k if rotary is None else rotary)

    @property
    def reach(self) -> int:
        """How many tokens one sees where nothing has to be kept for it: those of a window; a context is no bound."""
        return 2**30 if self.window is None else self.window

    @property
    def bound(self) -> int:
        """How many tokens a step sees at most, itself among them: those of the window, or else of the context."""
        return next(count for count in (self.window, self.context) if count is not None)

    def context_of(self, cache: Cache) -> int | None:
        """How many tokens of a document are read with this cache, if they go on from a state: its places, where they are fewer.

        None: no end.
        """
        return min(cache.places, self.context or self.bound) if cache.places < self.bound else self.context

    def init_state(self):
        """An empty cache, with places for as many tokens as the bound, and the next token's place in its document.

        A state may have fewer places: it is one of a context of as many tokens.
        """
        (kv_heads, d_k, d_v), wide = self.dims("kv_head d_k d_v"), accumulator(self.w_k.dtype)
        return init_cache(self.bound, kv_heads, d_k, d_v, wide), jnp.zeros((), jnp.int32)

    def at(self, x, state, segments):
        """q and k are turned and compared; the softmax of their products reads the values of the cache and of these tokens."""
        cache, place = state
        places, following = positions(len(x), place, **segments.flags)
        turn = lambda a: rotate(a, places, self.base, width=self.rotary) if self.rotary else a
        q, k = into_heads(x, self.w_q, self.b_q), into_heads(x, self.w_k, self.b_k)
        context = self.context_of(cache)
        if context is not None:
            lost = (place >= context) & goes_on(len(x), segments.start)
            q = jnp.where(lost[:, None, None], jnp.full_like(q, jnp.nan), q)
        memory = Attend(turn(q) * self.dim("d_k") ** -0.5, turn(k), cache, place, following, segments, self.window)
        write, read = Written(IntoHeads(self.w_v, self.b_v), x), Linear(self.w_o, self.b_o)
        o, cache = memory.run(write.own)
        return Frozen(read(o), (cache, following), AttentionMap(read, memory, write))


class Attend(Memory):
    """o_t = sum_s softmax_s(q_t . k_s) v_s over a cache and the tokens behind it, for each head.

    **Arguments:** q (time, head, d_k), k (time, kv_head, d_k), turned and scaled; place, following: of the first token and of the
    next one after all, in their documents; window: see `SoftmaxAttention`.
    """

    q: Float[Array, "time head d_k"]
    k: Float[Array, "time kv_head d_k"]
    cache: Cache
    place: Int[Array, ""]
    following: Int[Array, ""]
    segments: Segments
    window: int | None = eqx.field(static=True)

    def run(self, v: Float[Array, "time kv_head d_v"]) -> tuple[Float[Array, "time head d_v"], State]:
        """What each head reads, and the cache afterwards."""
        return self._read(v, self.cache)

    def weights(self) -> Float[Array, "head time source"]:
        """The softmax weights over the tokens of this call."""
        tokens = each_token(len(self.k), self.k.shape[1], self.q.dtype)
        cache = self.cache._replace(values=jnp.zeros((*self.cache.keys.shape[:2], len(self.k)), tokens.dtype))
        return jnp.moveaxis(self._read(tokens, cache)[0], 1, 0)

    def spread(self, v: Float[Array, "time kv_head d_v"]) -> Float[Array, "source head d_v"]:
        """v of each head: each key-value head's for as many heads as it serves."""
        return jnp.repeat(v, self.q.shape[1] // v.shape[1], axis=1)

    def _read(self, v, cache):
        if len(v) == 1 and self.segments.start is None:
            cache, filled = appended(cache, self.place, self.k, v, self.segments.mask)
            return attend_one(self.q[0], cache.keys, cache.values, filled)[None], cache
        sources = extend(cache, self.place, self.following, self.k, v, **self.segments.flags)
        span = len(sources.keys) if self.window is None else self.window
        first = jnp.maximum(sources.begins, sources.last - (span - 1))
        moved = sources.moved
        pack, unpack = (lambda a: a, lambda a: a) if moved is None else (moved.pack, moved.unpack)
        o = attend(pack(self.q), sources.keys, sources.values, first, sources.last, span=span)
        return unpack(o), sources.cache
