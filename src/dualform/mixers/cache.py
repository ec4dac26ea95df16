"""The last keys and values of a document: the state of softmax attention over a window."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dualform.arrays import TimeMask
from dualform.recurrences.compaction import Compaction, compact
from dualform.room import check_fits


class Cache(NamedTuple):
    """Keys and values of the last tokens, the oldest first; what is not filled is in front, and is 0.

    - keys: (size, kv_head, d_k).  values: (size, kv_head, d_v).
    - filled: how many of the last rows hold a token of the present document.
    """

    keys: Float[Array, "size kv_head d_k"]
    values: Float[Array, "size kv_head d_v"]
    filled: Int[Array, ""]


class Sources(NamedTuple):
    """All that the tokens of a call may attend to, and the cache that they leave.

    - keys, values: (size + time, kv_head, d): the cache, and the tokens that are there, moved together.
    - begins: (time,), the first row of each of those tokens' document.  first, last: (time,), the rows that each sees through a
      window of size + 1.
    - cache: afterwards.
    - moved: where the tokens went, or None where all are there.
    """

    keys: Float[Array, "source kv_head d_k"]
    values: Float[Array, "source kv_head d_v"]
    begins: Int[Array, " time"]
    first: Int[Array, " time"]
    last: Int[Array, " time"]
    cache: Cache
    moved: Compaction | None


def init_cache(size: int, kv_heads: int, d_k: int, d_v: int, dtype) -> Cache:
    """An empty cache of `size` tokens.

    **Raises:** `InputError` where there is no memory for it.
    """
    check_fits(
        size * kv_heads * (d_k + d_v) * jnp.dtype(dtype).itemsize,
        f"the state of a layer that sees {size + 1:,} tokens",
        "Give it a context that is as long as its texts: models.with_context(model, 4096); or bound its memory: "
        "generation.bounded(model, 'tova', 512), --policy tova --states 512.",
    )
    zeros = lambda d: jnp.zeros((size, kv_heads, d), dtype)
    return Cache(zeros(d_k), zeros(d_v), jnp.zeros((), jnp.int32))


def extend(
    cache: Cache,
    keys: Float[Array, "time kv_head d_k"],
    values: Float[Array, "time kv_head d_v"],
    start: TimeMask | None,
    mask: TimeMask | None,
) -> Sources:
    """The cache and the tokens behind it: each sees itself, and `size` tokens before it in its document."""
    size, time = len(cache.keys), len(keys)
    moved = None if mask is None else compact(mask)
    count = time
    if moved is not None:
        keys, values, start = moved.pack(keys), moved.pack(values), None if start is None else moved.pack(start)
        count = moved.count
    rows = jnp.arange(time, dtype=jnp.int32)
    begins = jnp.full(time, size - cache.filled, jnp.int32)
    if start is not None:
        begins = jnp.maximum(begins, jax.lax.cummax(jnp.where(start, size + rows, 0)))
    keys = jnp.concatenate([cache.keys.astype(keys.dtype), keys])
    values = jnp.concatenate([cache.values.astype(values.dtype), values])
    # The last document begins at this row; after it, `size` rows up to the last token are kept.
    begin = begins[jnp.maximum(count - 1, 0)] if moved is not None else begins[-1]
    end = size + jnp.asarray(count, jnp.int32)
    kept = end - size + jnp.arange(size, dtype=jnp.int32)
    of_document = (kept >= begin)[:, None, None]
    tail = lambda a: jnp.where(of_document, jax.lax.dynamic_slice_in_dim(a, end - size, size), jnp.zeros((), a.dtype))
    after = Cache(tail(keys), tail(values), jnp.minimum(end - begin, size))
    return Sources(keys, values, begins, jnp.maximum(begins, rows), size + rows, after, moved)
