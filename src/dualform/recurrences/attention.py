"""Softmax attention over a stretch of the past, by blocks of queries, so that no map over all of time is held."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.contained import all_finite, rows


@compiled
def attend(
    queries: Float[Array, "time head d_k"],
    keys: Float[Array, "source kv_head d_k"],
    values: Float[Array, "source kv_head d_v"],
    first: Int[Array, " time"],
    last: Int[Array, " time"],
    *,
    span: int,
    scale: float = 1.0,
    block: int = 128,
) -> Float[Array, "time head d_v"]:
    """y_t = softmax(scale q_t . k_s) v_s over first_t <= s <= last_t, in blocks of queries.

    **Arguments:**

    - queries: (time, head, d_k).  keys, values: (source, kv_head, d_k) and (source, kv_head, d_v); kv_head divides head, and
      each serves head / kv_head query heads, in order.
    - first, last: (time,), int32: the sources that each query reads; none where first > last, and y is 0 there. Last never
      falls, and grows by at most 1 from a query to the next.
    - span: how many sources a query reads at most, up to its last; a block reads block + span of them.
    - scale: of the scores.  block: queries worked on at once; memory is about head * block * (block + span).

    **Returns:** y (time, head, d_v), in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit.
    """
    (time, heads, _), (source, kv_heads, _) = queries.shape, keys.shape
    require(heads % kv_heads == 0, f"{kv_heads} key-value heads do not divide {heads} query heads.")
    require(
        keys.shape[2] == queries.shape[2] and values.shape[:2] == keys.shape[:2] and source >= time,
        f"queries {queries.shape}, keys {keys.shape}, values {values.shape} do not fit together.",
    )
    choose("attend", ("blocks",), None, time=time)
    wide = accumulator(queries.dtype, keys.dtype, values.dtype)
    block = min(block, time)
    padding = -time % block
    # Sources a block may read: those of its own queries, and `span` before them.
    width = min(block + span, source + padding)
    pad = lambda a, before, after: jnp.pad(a, ((before, after), *[(0, 0)] * (a.ndim - 1)))
    # Weights of 0 do not keep NaN and infinity out: they are left out of the sums, and who sees one of them is NaN.
    sound, asking = all_finite((keys, values), 1), all_finite((queries,), 1)
    queries = jnp.where(rows(asking, queries), queries, jnp.zeros_like(queries))
    keys, values = (jnp.where(rows(sound, a), a, jnp.zeros_like(a)) for a in (keys, values))
    keys, values = (pad(a.astype(wide), 0, padding) for a in (keys, values))
    unsound, silent = jnp.pad(~sound, (0, padding)), jnp.pad(~asking, (0, padding)).reshape(-1, block)
    q = pad(queries.astype(wide), 0, padding).reshape(-1, block, kv_heads, heads // kv_heads, queries.shape[2])
    first = jnp.pad(first, (0, padding), constant_values=1).reshape(-1, block)
    last = jnp.pad(last, (0, padding), constant_values=0).reshape(-1, block)

    @jax.checkpoint
    def one(inputs):
        q, first, last, silent = inputs
        begin = jnp.clip(jnp.max(last) + 1 - width, 0, source + padding - width)
        k, v = (jax.lax.dynamic_slice_in_dim(a, begin, width) for a in (keys, values))
        place = begin + jnp.arange(width, dtype=jnp.int32)
        seen = (place[None] >= first[:, None]) & (place[None] <= last[:, None])
        scores = jnp.einsum("tgrk,sgk->grts", q, k) * scale
        scores = jnp.where(seen[None, None], scores, jnp.full_like(scores, -1e30))
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
        weights = jnp.where(seen[None, None], weights, jnp.zeros_like(weights))
        total = weights.sum(-1)
        y = jnp.einsum("grts,sgv->tgrv", weights, v)
        total = jnp.where(total == 0, jnp.ones_like(total), total)
        y = y / jnp.moveaxis(total, 2, 0)[..., None]
        spoiled = jnp.any(seen & jax.lax.dynamic_slice_in_dim(unsound, begin, width)[None], axis=1) | silent
        return jnp.where(rows(spoiled, y), jnp.full_like(y, jnp.nan), y)

    y = jax.lax.map(one, (q, first, last, silent))
    return y.reshape(time + padding, heads, -1)[:time]


def attend_one(
    query: Float[Array, "head d_k"],
    keys: Float[Array, "kv_head source d_k"],
    values: Float[Array, "kv_head source d_v"],
    seen: Bool[Array, " source"],
    *,
    scale: float = 1.0,
) -> Float[Array, "head d_v"]:
    """y = softmax(scale q . k_s) v_s over the sources that are seen: `attend` of one query, each source read once.

    **Arguments:** query: (head, d_k); keys, values: (kv_head, source, d), finite where not seen; kv_head divides head.

    **Returns:** y (head, d_v), in float32 or wider; 0 where none is seen. What is not finite goes where arithmetic takes it.

    **Raises:** `InputError` where the shapes do not fit.
    """
    require(
        len(query) % len(keys) == 0 and keys.shape[2] == query.shape[1] and values.shape[:2] == keys.shape[:2],
        f"query {query.shape}, keys {keys.shape}, values {values.shape} do not fit together.",
    )
    wide = accumulator(query.dtype, keys.dtype, values.dtype)
    q, k, v = query.reshape(len(keys), -1, query.shape[1]).astype(wide), keys.astype(wide), values.astype(wide)
    # Keys come first: a product of many rows and few columns is done several times sooner than its transpose.
    scores = jnp.einsum("gsk,grk->gsr", k, q).swapaxes(1, 2) * scale
    scores = jnp.where(seen[None, None], scores, jnp.full_like(scores, -1e30))
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    weights = jnp.where(seen[None, None], weights, jnp.zeros_like(weights))
    total = weights.sum(-1, keepdims=True)
    y = jnp.einsum("grs,gsv->grv", weights, v) / jnp.where(total == 0, jnp.ones_like(total), total)
    return y.reshape(len(query), -1)
