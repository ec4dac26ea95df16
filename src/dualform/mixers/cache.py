"""The last keys and values of a document: the state of softmax attention."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import TimeMask
from dualform.growing import widened
from dualform.recurrences.compaction import Compaction, compact
from dualform.room import check_fits


class Cache(NamedTuple):
    """Keys and values of a document's last tokens, token t of the document in place t modulo places; what is not filled is 0.

    - keys: (kv_head, places, d_k).  values: (kv_head, places, d_v).
    - filled: how many places hold a token of the present document.
    """

    keys: Float[Array, "kv_head places d_k"]
    values: Float[Array, "kv_head places d_v"]
    filled: Int[Array, ""]

    @property
    def places(self) -> int:
        """How many tokens it has place for."""
        return self.keys.shape[-2]

    def of_places(self, places: int) -> "Cache":
        """It with so many places, also where its arrays have a further axis in front; no token may have taken another's."""
        keys, values = (widened(a, places, axis=-2) for a in (self.keys, self.values))
        return Cache(keys, values, self.filled)


class Sources(NamedTuple):
    """All that the tokens of a call may attend to, and the cache that they leave.

    - keys, values: (places + time, kv_head, d): the cache, its last token last, and the tokens that are there, moved together.
    - begins: (time,), the first row of each of those tokens' document.  last: (time,), each token's own row.
    - cache: afterwards.
    - moved: where the tokens went, or None where all are there.
    """

    keys: Float[Array, "source kv_head d_k"]
    values: Float[Array, "source kv_head d_v"]
    begins: Int[Array, " time"]
    last: Int[Array, " time"]
    cache: Cache
    moved: Compaction | None


def init_cache(places: int, kv_heads: int, d_k: int, d_v: int, dtype) -> Cache:
    """An empty cache for so many tokens.

    **Raises:** `InputError` where there is no memory for it.
    """
    check_fits(
        places * kv_heads * (d_k + d_v) * jnp.dtype(dtype).itemsize,
        f"the state of a layer that sees {places:,} tokens",
        "Give it a context that is as long as its texts: models.with_context(model, 4096); or bound its memory: "
        "generation.bounded(model, 'tova', 512), --policy tova --states 512.",
    )
    zeros = lambda d: jnp.zeros((kv_heads, places, d), dtype)
    return Cache(zeros(d_k), zeros(d_v), jnp.zeros((), jnp.int32))


def appended(
    cache: Cache,
    place: Int[Array, ""],
    key: Float[Array, "1 kv_head d_k"],
    value: Float[Array, "1 kv_head d_v"],
    mask: Bool[Array, " 1"] | None,
) -> tuple[Cache, Bool[Array, " places"]]:
    """The cache with one token more, written into its memory, over the oldest where no place is free; and which are filled.

    **Arguments:** place: the token's, in its document.
    """
    size, there = cache.places, True if mask is None else mask[0]
    at = place % size

    def put(a: Array, new: Array) -> Array:
        a, new = a.astype(new.dtype), jnp.moveaxis(new, 0, 1)
        if mask is not None:
            new = jnp.where(there, new, jax.lax.dynamic_slice_in_dim(a, at, 1, axis=1))
        return jax.lax.dynamic_update_slice_in_dim(a, new, at, axis=1)

    filled = jnp.minimum(cache.filled + jnp.asarray(there, jnp.int32), size)
    age = (at - jnp.arange(size, dtype=jnp.int32)) % size
    return Cache(put(cache.keys, key), put(cache.values, value), filled), age < filled


def extend(
    cache: Cache,
    place: Int[Array, ""],
    following: Int[Array, ""],
    keys: Float[Array, "time kv_head d_k"],
    values: Float[Array, "time kv_head d_v"],
    start: TimeMask | None,
    mask: TimeMask | None,
) -> Sources:
    """The cache and the tokens behind it, of which the last one's document leaves as many in the cache as have place.

    **Arguments:** place, following: those of the first token that is there and of the next one after all, in their documents.
    """
    size, time = cache.places, len(keys)
    moved = None if mask is None else compact(mask)
    count = time
    if moved is not None:
        keys, values, start = moved.pack(keys), moved.pack(values), None if start is None else moved.pack(start)
        count = moved.count
    rows = jnp.arange(time, dtype=jnp.int32)
    begins = jnp.full(time, size - cache.filled, jnp.int32)
    if start is not None:
        begins = jnp.maximum(begins, jax.lax.cummax(jnp.where(start, size + rows, 0)))
    keys = jnp.concatenate([_in_order(cache.keys, place).astype(keys.dtype), keys])
    values = jnp.concatenate([_in_order(cache.values, place).astype(values.dtype), values])
    # The last document begins at this row; of it, the last `size` rows up to the last token are kept.
    begin = begins[jnp.maximum(count - 1, 0)] if moved is not None else begins[-1]
    end = size + jnp.asarray(count, jnp.int32)
    first = jnp.maximum(begin, end - size)
    there = (jnp.arange(size, dtype=jnp.int32) < end - first)[:, None, None]

    def kept(a: Array) -> Array:
        a = jnp.concatenate([a, jnp.zeros((size, *a.shape[1:]), a.dtype)])
        a = jax.lax.dynamic_slice_in_dim(a, first, size)
        a = jnp.where(there, a, jnp.zeros((), a.dtype))
        return jnp.moveaxis(_turned(a, first - end + following), 0, 1)

    after = Cache(kept(keys), kept(values), end - first)
    return Sources(keys, values, begins, size + rows, after, moved)


def _in_order(a: Float[Array, "kv_head places d"], place: Int[Array, ""]) -> Float[Array, "places kv_head d"]:
    """The oldest token first, what is not filled before it: token `place` would be the next."""
    return _turned(jnp.moveaxis(a, 0, 1), -place)


def _turned(a: Float[Array, "places kv_head d"], by: Int[Array, ""]) -> Float[Array, "places kv_head d"]:
    """Row i moved to i + by, modulo all."""
    return jax.lax.dynamic_slice_in_dim(jnp.concatenate([a, a]), -by % len(a), len(a))
