"""Cross-attention: frames of speech read a text, whose keys and values the state keeps."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import State, accumulator
from dualform.errors import require
from dualform.maps import AttentionMap, Frozen, Linear, Memory, Written, present
from dualform.maps.memory import each_token
from dualform.mixers.cache import Cache, appended, extend, init_cache
from dualform.mixers.declared import array
from dualform.mixers.heads import IntoHeads, into_heads, split_width
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.mixers.rotary import goes_on, positions
from dualform.recurrences.attention import attend, attend_one
from dualform.segments import Segments


@register("cross_attention")
class CrossAttention(AbstractMixer):
    """o_t = sum_s softmax_s(q_t . k_s / sqrt(d_k)) v_s over the text s of the document so far,  y_t = W_o o_t, at each frame t.

    A sequence holds a text and what is spoken of it. A token is one of the text where its last channel is 0 or below, and a frame
    where it is above 0. Only the text writes: for each head k, v = W_k x, W_v x. Only frames read: q = W_q x. The output at a
    token of the text is 0, and so it is at a frame before which no text came. So a text that is given whole, before its frames,
    is a fixed memory to all of them; one that comes in pieces is read as far as it has come.

    The dual form freezes the softmax weights, which are its map: decoder time by place in the text, each row of a sum of 1.

    **Arguments:** w_q, w_k (head, d_k, d); w_v (head, d_v, d); w_o (d_out, head * d_v); window: how many tokens of the text are
    kept, older ones leave.

    **Raises:** `InputError` where the shapes do not fit, or window is below 1.

    **Source:** Bahdanau et al. 2014 (arXiv 1409.0473) for the attention of a decoder to its encoder, Vaswani et al. 2017 (arXiv
    1706.03762), Sec. 3.2.3, for its form; here the text is a part of the sequence. Oracle: torch's `scaled_dot_product_attention`
    under the mask of frames over the text before them (float64).
    """

    w_q: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    window: int = eqx.field(default=64, static=True)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_q", "w_k", "w_v", "w_o")

    def __check_init__(self):
        check_window(self.window)

    @classmethod
    def make(cls, d: int, *, key: Array, heads: int = 1, window: int = 64, dtype=None) -> "CrossAttention":
        """Weights of variance 1 / fan-in."""
        d_v = split_width(d, heads)
        return cls(**cls.matrices(jr.split(key, 4), dtype, head=heads, d_k=d_v, d_v=d_v, d=d, d_out=d), window=window)

    def init_state(self):
        """No text: an empty cache, and how many tokens of the text there were."""
        (heads, d_k, d_v), wide = self.dims("head d_k d_v"), accumulator(self.w_k.dtype)
        return init_cache(self.window, heads, d_k, d_v, wide), jnp.zeros((), jnp.int32)

    def at(self, x, state, segments):
        """Frames' queries and the text's keys are compared; the softmax of their products reads the text's values."""
        cache, place = state
        spoken = Spoken.of(x, place, segments)
        q = into_heads(x, self.w_q) * self.dim("d_k") ** -0.5
        q = spoken.known(q, cache, self.window)
        memory = ReadText(q, into_heads(x, self.w_k), cache, spoken, self.window)
        write, read = Written(IntoHeads(self.w_v), x), Linear(self.w_o)
        o, cache = memory.run(write.own)
        return Frozen(read(o), (cache, spoken.following), AttentionMap(read, memory, write))


def check_window(window: int) -> None:
    """Raise `InputError` unless it is 1 or more."""
    require(window >= 1, f"window is {window}; a frame reads a text of at least one token.")


class Spoken(eqx.Module):
    """Which tokens are text and which are frames, and where each stands.

    - text, frames: the documents and gaps, as either sees them where the other is passed over.
    - text_ended, frames_ended: whether the last document has none of them; None where no document begins.
    - documents: all tokens'.
    - place, following: how many tokens of the first document's text came before, and of the last one's in all.
    - places: (time,), the place of each token of the text in its document's.
    """

    text: Segments
    frames: Segments
    text_ended: Bool[Array, ""] | None
    frames_ended: Bool[Array, ""] | None
    documents: Segments
    place: Int[Array, ""]
    following: Int[Array, ""]
    places: Int[Array, " time"]

    @classmethod
    def of(cls, x: Float[Array, "time d"], place: Int[Array, ""], segments: Segments) -> "Spoken":
        """By the sign of each token's last channel; place: how many tokens of the text came before."""
        is_frame = x[:, -1] > 0
        (text, text_ended), (frames, frames_ended) = segments.among(~is_frame), segments.among(is_frame)
        places, following = positions(len(x), place, **text.flags)
        following = fresh_where(text_ended, jnp.zeros_like(following), following)
        return cls(text, frames, text_ended, frames_ended, segments, place, following, places)

    def sources(self, cache: Cache) -> tuple[Int[Array, " time"], Int[Array, " time"]]:
        """The first and the last row of each token's text, the cache's rows before those of this call; none: first > last."""
        assert self.text.mask is not None
        here, size = self.text.mask.astype(jnp.int32), cache.places
        count = jnp.cumsum(here)
        begins = jnp.full(len(here), size - cache.filled, jnp.int32)
        if self.documents.start is not None:
            begins = jnp.maximum(begins, jax.lax.cummax(jnp.where(self.documents.start, size + count - here, 0)))
        return begins, size + count - 1

    def known(self, q: Float[Array, "time head d"], cache: Cache, window: int) -> Float[Array, "time head d"]:
        """The queries; NaN where a state of fewer places than the window has none for all of the text."""
        if cache.places >= window:
            return q
        first, last = self.sources(cache)
        count = last + 1 - first
        before = goes_on(len(q), self.documents.start)
        count = jnp.where(before, self.place + (last + 1 - cache.places), count)
        return jnp.where((count > cache.places)[:, None, None], jnp.full_like(q, jnp.nan), q)


def fresh_where(ended: Bool[Array, ""] | None, initial: State, after: State) -> State:
    """The state after a call; the initial one where a document has begun of which there is nothing yet."""
    if ended is None:
        return after
    return jax.tree_util.tree_map(lambda a, b: jnp.where(ended, a.astype(b.dtype), b), initial, after)


class ReadText(Memory):
    """o_t = sum_s softmax_s(q_t . k_s) v_s over the text of the document so far, for each head, at frames; else 0.

    **Arguments:** q, k (time, head, d_k), scaled; cache: the text that came before; spoken: which tokens are text; window: how
    many tokens of it are read.
    """

    q: Float[Array, "time head d_k"]
    k: Float[Array, "time head d_k"]
    cache: Cache
    spoken: Spoken
    window: int = eqx.field(static=True)

    def run(self, v: Float[Array, "time head d_v"]) -> tuple[Float[Array, "time head d_v"], State]:
        """What each head reads, and the text afterwards."""
        return self._read(v, self.cache)

    def weights(self) -> Float[Array, "head time source"]:
        """The softmax weights over the text of this call."""
        tokens = each_token(len(self.k), self.k.shape[1], self.q.dtype)
        cache = self.cache._replace(values=jnp.zeros((*self.cache.keys.shape[:2], len(self.k)), tokens.dtype))
        return jnp.moveaxis(self._read(tokens, cache)[0], 1, 0)

    def _read(self, v, cache):
        spoken, mask = self.spoken, self.spoken.frames.mask
        assert mask is not None
        if len(v) == 1 and spoken.documents.start is None:
            cache, _ = appended(cache, spoken.place, self.k, v, spoken.text.mask)
            age = (spoken.following - 1 - jnp.arange(cache.places, dtype=jnp.int32)) % cache.places
            o = attend_one(self.q[0], cache.keys, cache.values, age < cache.filled)[None]
            return present(o.reshape(1, -1), mask).reshape(o.shape), cache
        first, last = spoken.sources(cache)
        sources = extend(cache, spoken.place, spoken.following, self.k, v, **spoken.text.flags)
        first = jnp.where(mask, jnp.maximum(first, last - (self.window - 1)), last + 1)
        span = min(self.window, len(sources.keys))
        o = attend(self.q, sources.keys, sources.values, first, last, span=span)
        empty = jax.tree_util.tree_map(jnp.zeros_like, sources.cache)
        return o, fresh_where(spoken.text_ended, empty, sources.cache)
