"""An outer-product state, S_t = S_{t-1} + k_t v_t^T, read by queries, y_t = S_t^T q_t.

`naive` is the specification. `outer` works by chunks of time: inside a chunk the map q_t . k_s is formed and applied as
matrix products; between chunks the state is carried. Its cost is linear in time and it never holds more than one chunk of
the map.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.recurrences.flags import check_flags, check_state, check_time


def naive(
    queries: Float[Array, "time d_k"],
    keys: Float[Array, "time d_k"],
    values: Float[Array, "time d_v"],
    state: Float[Array, "d_k d_v"],
    start: Bool[Array, " time"],
    mask: Bool[Array, " time"],
) -> tuple[Float[Array, "time d_v"], Float[Array, "d_k d_v"]]:
    """The specification: one token after the other."""

    def step(state, inputs):
        q_t, k_t, v_t, start_t, mask_t = inputs
        written = jnp.where(start_t, jnp.zeros_like(state), state) + jnp.outer(k_t, v_t)
        state = jnp.where(mask_t, written, state)
        return state, jnp.where(mask_t, q_t @ state, jnp.zeros_like(v_t))

    state, y = jax.lax.scan(step, state, (queries, keys, values, start, mask))
    return y, state


def outer(
    queries: Float[Array, "time d_k"],
    keys: Float[Array, "time d_k"],
    values: Float[Array, "time d_v"],
    state: Float[Array, "d_k d_v"] | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    chunk: int = 64,
) -> tuple[Float[Array, "time d_v"], Float[Array, "d_k d_v"]]:
    """y_t = (sum_{s<=t} v_s k_s^T) q_t for one head, by chunks.

    **Arguments:**

    - queries, keys: (time, d_k).  values: (time, d_v).
    - state: (d_k, d_v), what is remembered before the first token; zero if not given.
    - start: (time,), True where a document begins: what came before is forgotten, exactly.
    - mask: (time,), False where there is no token: nothing is written, and the output is 0. A `start` there is ignored.
    - chunk: tokens for each chunk.

    **Returns:** y (time, d_v) and the state after the last token (d_k, d_v), both in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.
    """
    shapes = f"queries {queries.shape}, keys {keys.shape}, values {values.shape}"
    require(
        queries.ndim == values.ndim == 2 and queries.shape == keys.shape and len(values) == len(queries),
        f"queries and keys must be (time, d_k) and values (time, d_v); got {shapes}.",
    )
    time, d_k = queries.shape
    check_time(time)
    check_state("state", state, (d_k, values.shape[1]))
    check_flags(time, start, mask)
    require(chunk >= 1, f"chunk is {chunk}; it must be at least 1 token.")
    wide = accumulator(queries.dtype, keys.dtype, values.dtype)
    queries, keys, values = (a.astype(wide) for a in (queries, keys, values))
    state = jnp.zeros((d_k, values.shape[1]), wide) if state is None else state.astype(wide)
    mask = jnp.ones(time, bool) if mask is None else mask
    start = jnp.zeros(time, bool) if start is None else start & mask
    # Queries too, or what they hold where there is no token, NaN included, would reach the keys' gradients.
    present = lambda a: jnp.where(mask[:, None], a, jnp.zeros_like(a))
    queries, keys, values = present(queries), present(keys), present(values)
    chunk = min(chunk, time)
    padding = -time % chunk
    chunked = lambda a: jnp.pad(a, ((0, padding), *[(0, 0)] * (a.ndim - 1))).reshape(-1, chunk, *a.shape[1:])

    def step(state, inputs):
        q, k, v, starts = inputs
        document = jnp.cumsum(starts.astype(jnp.int32))  # 0: the one that began before this chunk
        seen = jnp.tril(document[:, None] == document[None, :])
        inside = jnp.where(seen, q @ k.T, jnp.zeros((), wide)) @ v
        before = jnp.where((document == 0)[:, None], q @ state, jnp.zeros((), wide))
        kept = jnp.where((document == document[-1])[:, None], k, jnp.zeros((), wide))
        carried = jnp.where(document[-1] == 0, state, jnp.zeros((), wide))
        return carried + kept.T @ v, inside + before

    state, y = jax.lax.scan(step, state, (chunked(queries), chunked(keys), chunked(values), chunked(start)))
    y = y.reshape(-1, y.shape[-1])[:time]
    return present(y), state
