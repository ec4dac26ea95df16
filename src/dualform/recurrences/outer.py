"""An outer-product state that decays, S_t = decay_t * S_{t-1} + k_t v_t^T, read by queries, y_t = S_t^T q_t.

`naive` is the specification. The chunked form cuts time into chunks; inside a chunk each token takes from those before it,
and between chunks the state is carried, by a diagonal recurrence over chunks. Its cost is linear in time, and all of it is
matrix products but for the pairs inside blocks of a few tokens.

Decays are never divided by, and no logarithm is taken. At the border between two blocks, a token t behind it takes from a
token s before it by

    (q_t * before_t) . (k_s * after_s),     before_t: the product of the decays from the border to t,
                                            after_s: the product of the decays behind s, up to the border,

block by block, each twice as long as those below it. Every factor is a product of decays, so at most 1: nothing overflows, a
decay of 0 forgets exactly (a `start` is one), and a product that underflows is one that is as small.
"""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.diagonal import diagonal
from dualform.recurrences.flags import check_flags, check_state, check_time

Form: TypeAlias = Literal["chunked", "naive"]

CHUNK = 64
"""Tokens in a chunk, unless another number is asked for."""

BLOCK = 4
"""Tokens in the smallest block, whose pairs are taken one by one where each channel decays by itself."""


def naive(
    queries: Float[Array, "time d_k"],
    keys: Float[Array, "time d_k"],
    values: Float[Array, "time d_v"],
    state: Float[Array, "d_k d_v"],
    decay: Float[Array, "time rows columns"],
    start: Bool[Array, " time"],
    mask: Bool[Array, " time"],
) -> tuple[Float[Array, "time d_v"], Float[Array, "d_k d_v"]]:
    """The specification: one token after the other; decay (time, d_k or 1, d_v or 1)."""

    def step(state, inputs):
        q_t, k_t, v_t, decay_t, start_t, mask_t = inputs
        kept = jnp.where(start_t, jnp.zeros_like(state), decay_t * state)
        state = jnp.where(mask_t, kept + jnp.outer(k_t, v_t), state)
        return state, jnp.where(mask_t, q_t @ state, jnp.zeros_like(v_t))

    state, y = jax.lax.scan(step, state, (queries, keys, values, decay, start, mask))
    return y, state


def outer(
    queries: Float[Array, "time d_k"],
    keys: Float[Array, "time d_k"],
    values: Float[Array, "time d_v"],
    state: Float[Array, "d_k d_v"] | None = None,
    *,
    decay: Float[Array, "time d_k"] | Float[Array, " time"] | None = None,
    value_decay: Float[Array, "time d_v"] | None = None,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
    chunk: int = CHUNK,
    form: Form | None = None,
) -> tuple[Float[Array, "time d_v"], Float[Array, "d_k d_v"]]:
    """y_t = S_t^T q_t of S_t = decay_t * S_{t-1} + k_t v_t^T, for one head; `jax.vmap` over heads.

    **Arguments:**

    - queries, keys: (time, d_k).  values: (time, d_v).
    - state: (d_k, d_v), what is remembered before the first token; zero if not given.
    - decay: what a token leaves of the past, in [0, 1] (not its logarithm): (time, d_k), one for each row of the state;
      (time,), one for all of it; or None, all is kept.
    - value_decay: (time, d_v), one for each column of the state, instead of `decay`.
    - start: (time,), True where a document begins: what came before is forgotten, exactly.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit, and the output is 0. A `start`
      there is ignored.
    - reverse: from the last token to the first; `start` then marks the first token *met* of each document.
    - chunk: tokens in a chunk, a power of two.
    - form: "chunked", or "naive" (one token after the other); chosen by `choice.choose` if not given.

    **Returns:** y (time, d_v) and the state after the last token (d_k, d_v), both in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.

    **Source:** the chunks are those of Yang et al. 2023 (arXiv 2312.06635), the halving inside them is ours.
    """
    decay, on_values = _checked(queries, keys, values, state, decay, value_decay, start, mask, chunk)
    time, d_k = queries.shape
    given = (queries, keys, values, *(() if decay is None else (decay,)))
    wide = accumulator(*(a.dtype for a in given))
    state = jnp.zeros((d_k, values.shape[1]), wide) if state is None else state.astype(wide)
    turn = lambda a: a[::-1] if reverse else a
    decay, start, mask = (None if a is None else turn(a) for a in (decay, start, mask))
    queries, keys, values = (turn(a).astype(wide) for a in (queries, keys, values))
    decay = None if decay is None else decay.astype(wide)
    chosen = choose("outer", ("chunked", "naive"), form, time=time)
    if chosen == "naive":
        decay = jnp.ones(time, wide) if decay is None else decay
        shaped = decay[:, None, None] if decay.ndim == 1 else decay[:, None] if on_values else decay[:, :, None]
        nothing = jnp.zeros(time, bool)
        start, mask = nothing if start is None else start, ~nothing if mask is None else mask
        y, final = naive(queries, keys, values, state, shaped, start & mask, mask)
    else:
        y, final = _chunked(queries, keys, values, state, decay, on_values, start, mask, chunk)
    return turn(y), final


def _checked(queries, keys, values, state, decay, value_decay, start, mask, chunk):
    """The one decay that is given, or None, and whether it is that of the columns."""
    shapes = f"queries {queries.shape}, keys {keys.shape}, values {values.shape}"
    require(
        queries.ndim == values.ndim == 2 and queries.shape == keys.shape and len(values) == len(queries),
        f"queries and keys must be (time, d_k) and values (time, d_v); got {shapes}.",
    )
    time, d_k = queries.shape
    check_time(time)
    check_state("state", state, (d_k, values.shape[1]))
    check_flags(time, start, mask)
    require(
        chunk >= 1 and chunk & (chunk - 1) == 0, f"chunk is {chunk}; it must be at least 1 token, and a power of two."
    )
    require(decay is None or value_decay is None, "decay and value_decay are both given; the state takes one of them.")
    require(
        decay is None or decay.shape in ((time,), (time, d_k)),
        f"decay has shape {getattr(decay, 'shape', None)}; it must be ({time},) or ({time}, {d_k}).",
    )
    require(
        value_decay is None or value_decay.shape == values.shape,
        f"value_decay has shape {getattr(value_decay, 'shape', None)}; it must be {values.shape}, as the values.",
    )
    return (decay, False) if value_decay is None else (value_decay, True)


def _chunked(queries, keys, values, state, decay, on_values, start, mask, chunk):
    time = len(queries)
    if start is not None and decay is None:
        decay = jnp.ones(time, queries.dtype)
    rows = lambda flags, a: flags.reshape(-1, *[1] * (a.ndim - 1))
    if start is not None:
        start = start if mask is None else start & mask
        decay = jnp.where(rows(start, decay), jnp.zeros_like(decay), decay)
    if mask is not None:
        # Queries too, or what they hold where there is no token, NaN included, would reach the keys' gradients.
        queries, keys, values = (jnp.where(mask[:, None], a, jnp.zeros_like(a)) for a in (queries, keys, values))
        decay = None if decay is None else jnp.where(rows(mask, decay), decay, jnp.ones_like(decay))
    size = min(chunk, 1 << (time - 1).bit_length())
    padding = -time % size
    cut = lambda a, fill: jnp.pad(a, ((0, padding), *[(0, 0)] * (a.ndim - 1)), constant_values=fill).reshape(
        -1, size, *a.shape[1:]
    )
    q, k, v = (cut(a, 0) for a in (queries, keys, values))
    decay = None if decay is None else cut(decay, 1)
    if decay is None:
        y, read, write, total = _without_decay(q, k, v)
    elif decay.ndim == 2:
        y, read, write, total = jax.checkpoint(_of_a_head)(q, k, v, decay)
    else:
        y, read, write, total = jax.checkpoint(_of_channels, static_argnums=4)(q, k, v, decay, on_values)
    after, final = diagonal(total, write, state)
    carried = jnp.concatenate([state[None], after[:-1]])
    taken = jnp.einsum("ctk,ckv->ctv", q if on_values else read, carried)
    y = y + (read * taken if on_values else taken)
    y = y.reshape(-1, y.shape[-1])[:time]
    if mask is not None:
        y, final = jnp.where(mask[:, None], y, jnp.zeros_like(y)), jnp.where(jnp.any(mask), final, state)
    return y, final


def _without_decay(q, k, v):
    """Inside each chunk: y; how the carried state is read; what is written; and what is left of the carried state."""
    y = jnp.tril(jnp.einsum("ctk,csk->cts", q, k)) @ v
    return y, q, jnp.einsum("csk,csv->ckv", k, v), jnp.ones((1, 1, 1), q.dtype)


def _of_a_head(q, k, v, decay):
    """The same with one decay for the whole state."""
    left = products(decay)
    y = (jnp.einsum("ctk,csk->cts", q, k) * left) @ v
    before = left[:, :, 0] * decay[:, :1]
    write = jnp.einsum("csk,csv->ckv", k * left[:, -1, :, None], v)
    return y, q * before[:, :, None], write, before[:, -1][:, None, None]


def _of_channels(q, k, v, decay, on_values):
    """The same with a decay for each row of the state, or for each column."""
    size = q.shape[1]
    block = min(BLOCK, size)
    cut = lambda a, size: a.reshape(-1, size, a.shape[-1])
    q, k, v, decay = (cut(a, block) for a in (q, k, v, decay))
    y, before, after = _pairs(q, k, v, decay, on_values)
    while block < size:
        halves = lambda a: (a.reshape(-1, 2, *a.shape[1:])[:, i] for i in range(2))
        (q_l, q_r), (k_l, k_r), (v_l, v_r), (y_l, y_r) = (halves(a) for a in (q, k, v, y))
        (before_l, before_r), (after_l, after_r) = halves(before), halves(after)
        if on_values:
            taken = before_r * (jnp.einsum("ctk,csk->cts", q_r, k_l) @ (v_l * after_l))
        else:
            taken = jnp.einsum("ctk,csk->cts", q_r * before_r, k_l * after_l) @ v_l
        join = lambda left, right: jnp.concatenate([left, right], axis=1)
        y = join(y_l, y_r + taken)
        before, after = join(before_l, before_r * before_l[:, -1:]), join(after_l * before_r[:, -1:], after_r)
        q, k, v = join(q_l, q_r), join(k_l, k_r), join(v_l, v_r)
        block *= 2
    if on_values:
        return y, before, jnp.einsum("csk,csv->ckv", k, v * after), before[:, -1][:, None]
    return y, q * before, jnp.einsum("csk,csv->ckv", k * after, v), before[:, -1][:, :, None]


def _pairs(q, k, v, decay, on_values):
    """Inside each of the smallest blocks, pair by pair: y, and the products of the decays up to and behind each token."""
    size = q.shape[1]
    rows_y, before, after = [], [decay[:, 0]], [jnp.ones_like(decay[:, 0])]
    for t in range(size):
        product, y_t = None, jnp.sum(q[:, t] * k[:, t], axis=-1, keepdims=True) * v[:, t]
        for s in range(t - 1, -1, -1):
            product = decay[:, s + 1] if product is None else product * decay[:, s + 1]
            if on_values:
                y_t = y_t + jnp.sum(q[:, t] * k[:, s], axis=-1, keepdims=True) * product * v[:, s]
            else:
                y_t = y_t + jnp.sum(q[:, t] * product * k[:, s], axis=-1, keepdims=True) * v[:, s]
        rows_y.append(y_t)
    for t in range(1, size):
        before.append(before[-1] * decay[:, t])
        after.insert(0, after[0] * decay[:, size - t])
    return jnp.stack(rows_y, 1), jnp.stack(before, 1), jnp.stack(after, 1)


def products(decay: Float[Array, "*batch time"]) -> Float[Array, "*batch time time"]:
    """left[t, s] = product of decay_u for s < u <= t: 1 on the diagonal and 0 above; time must be a power of two.

    By halving, without division or logarithm.
    """
    *batch, time = decay.shape
    left, before = jnp.ones((*batch, time, 1, 1), decay.dtype), decay[..., None]
    after = jnp.ones_like(before)
    while before.shape[-1] < time:
        halves = lambda a, axes: (
            a.reshape(*batch, -1, 2, *a.shape[-axes:])[(..., i, *[slice(None)] * axes)] for i in (0, 1)
        )
        (left_l, left_r), (before_l, before_r), (after_l, after_r) = (
            halves(left, 2),
            halves(before, 1),
            halves(after, 1),
        )
        across = before_r[..., :, None] * after_l[..., None, :]
        left = jnp.concatenate(
            [
                jnp.concatenate([left_l, jnp.zeros_like(left_l)], -1),
                jnp.concatenate([across, left_r], -1),
            ],
            -2,
        )
        before, after = (
            jnp.concatenate([before_l, before_r * before_l[..., -1:]], -1),
            jnp.concatenate([after_l * before_r[..., -1:], after_r], -1),
        )
    return left[..., 0, :, :]
