"""An outer-product state that decays, S_t = decay_t * S_{t-1} + k_t v_t^T, read by queries, y_t = S_t^T q_t.

`naive` is the specification. The other forms cut time into chunks; inside a chunk each token takes from those before it, and
between chunks the state is carried: one chunk after the other, so that all that a chunk needs stays in a cache ("chunked"),
or all chunks at once, and a diagonal recurrence over them ("parallel"). Their cost is linear in time.

Decays are never divided by, and no logarithm is taken. At the border between two blocks, a token t behind it takes from a
token s before it by

    (q_t * before_t) . (k_s * after_s),     before_t: the product of the decays from the border to t,
                                            after_s: the product of the decays behind s, up to the border,

block by block, each twice as long as those below it. Every factor is a product of decays, so at most 1: nothing overflows, a
decay of 0 forgets exactly (a `start` is one), and a product that underflows is one that is as small.
"""

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.diagonal import diagonal
from dualform.recurrences.flags import check_decay, check_flags, check_state, check_time

Form: TypeAlias = Literal["chunked", "parallel", "naive"]

CHUNK = 64
"""Tokens in a chunk, unless another number is asked for."""


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
    - form: "chunked" (one chunk after the other), "parallel" (all chunks at once), or "naive" (one token after the other);
      chosen by `choice.choose` if not given.

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
    chosen = choose("outer", ("chunked", "parallel", "naive"), form, time=time)
    if chosen == "naive":
        decay = jnp.ones(time, wide) if decay is None else decay
        shaped = decay[:, None, None] if decay.ndim == 1 else decay[:, None] if on_values else decay[:, :, None]
        nothing = jnp.zeros(time, bool)
        start, mask = nothing if start is None else start, ~nothing if mask is None else mask
        y, final = naive(queries, keys, values, state, shaped, start & mask, mask)
    else:
        y, final = _by_chunks(
            queries, keys, values, state, decay, on_values, start, mask, chunk, parallel=chosen == "parallel"
        )
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
    check_decay("decay", decay)
    check_decay("value_decay", value_decay)
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


def _by_chunks(queries, keys, values, state, decay, on_values, start, mask, chunk, parallel):
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
    if decay is None:
        inside, parts = _without_decay, (queries, keys, values)
    else:
        inside = _of_a_head if decay.ndim == 1 else _of_columns if on_values else _of_rows
        parts = queries, keys, values, decay
    fills = 0, 0, 0, 1
    parts = tuple(cut(a, fill) for a, fill in zip(parts, fills, strict=False))
    y, final = (_at_once if parallel else _one_by_one)(inside, parts, state)
    y = y.reshape(-1, y.shape[-1])[:time]
    if mask is not None:
        y, final = jnp.where(mask[:, None], y, jnp.zeros_like(y)), jnp.where(jnp.any(mask), final, state)
    return y, final


def _one_by_one(inside, parts, state):
    """y of each chunk and the last state, the state carried from one chunk to the next.

    What is inside a chunk is computed again for the gradient, which so keeps no more than the chunks' states.
    """

    @jax.checkpoint
    def step(state, parts):
        chunk = inside(*(a[None] for a in parts))
        return chunk.left[0] * state + chunk.write[0], chunk.read(state[None])[0]

    final, y = jax.lax.scan(step, state, parts)
    return y, final


def _at_once(inside, parts, state):
    """The same, with all chunks at once and a diagonal recurrence over them."""
    chunk = jax.checkpoint(inside)(*parts)
    after, final = diagonal(chunk.left, chunk.write, state)
    return chunk.read(jnp.concatenate([state[None], after[:-1]])), final


class _Chunk(NamedTuple):
    """What chunks say without the state that is carried into them, S, (chunk, d_k, d_v).

    - y: what their tokens take from each other, (chunk, time, d_v).
    - queries, gain: they take gain * S^T query from S; gain (chunk, time, d_v), or None, which is 1.
    - write, left: they leave left * S + write.
    """

    y: Array
    queries: Array
    gain: Array | None
    write: Array
    left: Array

    def read(self, state):
        """All that the tokens read."""
        taken = jnp.einsum("ctk,ckv->ctv", self.queries, state)
        return self.y + (taken if self.gain is None else self.gain * taken)


def _without_decay(q, k, v):
    """Chunks in which nothing is forgotten."""
    y = jnp.tril(jnp.einsum("ctk,csk->cts", q, k)) @ v
    return _Chunk(y, q, None, jnp.einsum("csk,csv->ckv", k, v), jnp.ones((len(q), 1, 1), q.dtype))


def _of_a_head(q, k, v, decay):
    """Chunks with one decay for the whole state."""
    left = products(decay)
    y = (jnp.einsum("ctk,csk->cts", q, k) * left) @ v
    before = left[:, :, 0] * decay[:, :1]
    write = jnp.einsum("csk,csv->ckv", k * left[:, -1, :, None], v)
    return _Chunk(y, q * before[:, :, None], None, write, before[:, -1][:, None, None])


def _of_rows(q, k, v, decay):
    """Chunks with a decay for each row of the state."""
    left, before, after = jnp.sum(q * k, axis=-1).reshape(-1, 1, 1), *_alone(decay)
    while before.shape[1] < q.shape[1]:
        # The border runs through the middle of each block: (block, half, token, channel).
        (before_l, before_r), (after_l, after_r) = _halves(before), _halves(after)
        q_r, k_l = (a.reshape(-1, 2, *before.shape[1:])[:, i] for a, i in ((q, 1), (k, 0)))
        left = _below(left, jnp.einsum("ctk,csk->cts", q_r * before_r, k_l * after_l))
        before, after = _across(before_l, before_r, after_l, after_r)
    return _Chunk(left @ v, q * before, None, jnp.einsum("csk,csv->ckv", k * after, v), before[:, -1][:, :, None])


def _of_columns(q, k, v, decay):
    """Chunks with a decay for each column of the state."""
    y, before, after = jnp.sum(q * k, axis=-1, keepdims=True) * v, *_alone(decay)
    while before.shape[1] < q.shape[1]:
        (before_l, before_r), (after_l, after_r) = _halves(before), _halves(after)
        time = before.shape[1]
        q_r, k_l, v_l = (a.reshape(-1, 2, time, a.shape[2])[:, i] for a, i in ((q, 1), (k, 0), (v, 0)))
        taken = before_r * (jnp.einsum("ctk,csk->cts", q_r, k_l) @ (v_l * after_l))
        y = (y.reshape(-1, 2, time, y.shape[2]) + jnp.stack([jnp.zeros_like(taken), taken], 1)).reshape(y.shape)
        before, after = _across(before_l, before_r, after_l, after_r)
    return _Chunk(y, q, before, jnp.einsum("csk,csv->ckv", k, v * after), before[:, -1][:, None])


def _alone(decay):
    """Of blocks of a single token: the product of the decays up to the token, and behind it; (block, 1, channel)."""
    before = decay.reshape(-1, 1, decay.shape[-1])
    return before, jnp.ones_like(before)


def _halves(a):
    """Of blocks taken two and two: the left ones, and the right ones."""
    pairs = a.reshape(-1, 2, *a.shape[1:])
    return pairs[:, 0], pairs[:, 1]


def _across(before_l, before_r, after_l, after_r):
    """The products up to and behind each token in blocks twice as long, from those of their halves."""
    before = jnp.concatenate([before_l, before_r * before_l[:, -1:]], 1)
    return before, jnp.concatenate([after_l * before_r[:, -1:], after_r], 1)


def _below(left, across):
    """Lower triangular blocks twice as long, from those on the diagonal and what lies between them."""
    upper, lower = _halves(left)
    return jnp.concatenate(
        [jnp.concatenate([upper, jnp.zeros_like(across)], -1), jnp.concatenate([across, lower], -1)], -2
    )


def products(decay: Float[Array, "*batch time"]) -> Float[Array, "*batch time time"]:
    """left[t, s] = product of decay_u for s < u <= t: 1 on the diagonal and 0 above; time must be a power of two.

    By halving, without division or logarithm.
    """
    *batch, time = decay.shape
    before = decay.reshape(-1, 1)
    left, after = jnp.ones_like(before)[..., None], jnp.ones_like(before)
    while before.shape[1] < time:
        (before_l, before_r), (after_l, after_r) = _halves(before), _halves(after)
        left = _below(left, before_r[:, :, None] * after_l[:, None])
        before, after = _across(before_l, before_r, after_l, after_r)
    return left.reshape(*batch, time, time)
