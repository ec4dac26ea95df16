"""An outer-product state that decays, S_t = decay_t * S_{t-1} + k_t v_t^T, read by queries, y_t = S_t^T q_t.

`naive` is the specification. The other forms cut time into chunks; inside a chunk each token takes from those before it, and
between chunks the state is carried: a few chunks of all heads at a time, so that all that they need stays in a cache
("chunked"), or all chunks at once, and a diagonal recurrence over them ("parallel"). Their cost is linear in time.

No logarithm is taken, and decays are divided by only where all of a group of chunks are moderate (`LEAST`,
`LEAST_PRODUCT`): then a token t takes from s by (q_t * before_t) . (k_s / before_s), before_t the product of the decays from
the chunk's beginning. Else, at the border between two blocks, a token t behind it takes from a
token s before it by

    (q_t * before_t) . (k_s * after_s),     before_t: the product of the decays from the border to t,
                                            after_s: the product of the decays behind s, up to the border,

block by block, each twice as long as those below it. Every factor is a product of decays, so at most 1: nothing overflows, a
decay of 0 forgets exactly (a `start` is one), and a product that underflows is one that is as small.
"""

from functools import partial
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

GROUP, BATCH = 8, 64
"""Chunks that the chunked form works on at once, at most; and chunks times heads, so that they fit in a cache."""

LEAST, LEAST_PRODUCT = 0.1, 1e-24
"""The least decay, and the least product of the decays in a chunk, that are divided by. A quotient loses no digits, but the
gradient of a decay is then a difference, whose rounding is divided by the decay once more."""


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
    queries: Float[Array, "time *head d_k"],
    keys: Float[Array, "time *head d_k"],
    values: Float[Array, "time *head d_v"],
    state: Float[Array, "*head d_k d_v"] | None = None,
    *,
    decay: Float[Array, "time *head d_k"] | Float[Array, "time *head"] | None = None,
    value_decay: Float[Array, "time *head d_v"] | None = None,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
    chunk: int = CHUNK,
    form: Form | None = None,
) -> tuple[Float[Array, "time *head d_v"], Float[Array, "*head d_k d_v"]]:
    """y_t = S_t^T q_t of S_t = decay_t * S_{t-1} + k_t v_t^T, for one head, or for each of several.

    **Arguments:**

    - queries, keys: (time, d_k), or (time, head, d_k).  values: (time, d_v), or (time, head, d_v).
    - state: (d_k, d_v) of each head, what is remembered before the first token; zero if not given.
    - decay: what a token leaves of the past, in [0, 1] (not its logarithm): in the shape of the keys, one for each row of
      the state; in that shape without d_k, one for all of it; or None, all is kept.
    - value_decay: in the shape of the values, one for each column of the state, instead of `decay`.
    - start: (time,), True where a document begins: what came before is forgotten, exactly.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit, and the output is 0. A `start`
      there is ignored.
    - reverse: from the last token to the first; `start` then marks the first token *met* of each document.
    - chunk: tokens in a chunk, a power of two.
    - form: "chunked" (a few chunks after the other), "parallel" (all chunks at once), or "naive" (one token after the
      other); chosen by `choice.choose` if not given.

    **Returns:** y, in the shape of the values, and the state after the last token, both in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.

    **Source:** the chunks are those of Yang et al. 2023 (arXiv 2312.06635), the halving inside them is ours.
    """
    decay, on_values = _checked(queries, keys, values, state, decay, value_decay, start, mask, chunk)
    if queries.ndim == 2:
        one = lambda a, axis: None if a is None else jnp.expand_dims(a, axis)
        given = {"value_decay" if on_values else "decay": one(decay, 1)}
        y, final = outer(
            *(one(a, 1) for a in (queries, keys, values)),
            one(state, 0),
            **given,
            start=start,
            mask=mask,
            reverse=reverse,
            chunk=chunk,
            form=form,
        )
        return y[:, 0], final[0]
    time, heads, d_k = queries.shape
    given = (queries, keys, values, *(() if decay is None else (decay,)))
    wide = accumulator(*(a.dtype for a in given))
    state = jnp.zeros((heads, d_k, values.shape[2]), wide) if state is None else state.astype(wide)
    turn = lambda a: a[::-1] if reverse else a
    decay, start, mask = (None if a is None else turn(a) for a in (decay, start, mask))
    queries, keys, values = (turn(a).astype(wide) for a in (queries, keys, values))
    decay = None if decay is None else decay.astype(wide)
    chosen = choose("outer", ("chunked", "parallel", "naive"), form, time=time)
    if chosen == "naive":
        decay = jnp.ones((time, heads), wide) if decay is None else decay
        shaped = decay[..., None, None] if decay.ndim == 2 else decay[:, :, None] if on_values else decay[..., None]
        nothing = jnp.zeros(time, bool)
        start, mask = nothing if start is None else start, ~nothing if mask is None else mask
        each = jax.vmap(naive, in_axes=(1, 1, 1, 0, 1, None, None), out_axes=(1, 0))
        y, final = each(queries, keys, values, state, shaped, start & mask, mask)
    else:
        y, final = _by_chunks(
            queries, keys, values, state, decay, on_values, start, mask, chunk, parallel=chosen == "parallel"
        )
    return turn(y), final


def _checked(queries, keys, values, state, decay, value_decay, start, mask, chunk):
    """The one decay that is given, or None, and whether it is that of the columns."""
    shapes = f"queries {queries.shape}, keys {keys.shape}, values {values.shape}"
    require(
        queries.ndim == values.ndim
        and queries.ndim in (2, 3)
        and queries.shape == keys.shape
        and values.shape[:-1] == queries.shape[:-1],
        "queries and keys must be (time, d_k) and values (time, d_v); got "
        f"{shapes}. Several heads come after time, in all of them.",
    )
    time, *heads, d_k = queries.shape
    check_time(time)
    check_state("state", state, (*heads, d_k, values.shape[-1]))
    check_flags(time, start, mask)
    check_decay("decay", decay)
    check_decay("value_decay", value_decay)
    require(
        chunk >= 1 and chunk & (chunk - 1) == 0, f"chunk is {chunk}; it must be at least 1 token, and a power of two."
    )
    require(decay is None or value_decay is None, "decay and value_decay are both given; the state takes one of them.")
    require(
        decay is None or decay.shape in (keys.shape[:-1], keys.shape),
        f"decay has shape {getattr(decay, 'shape', None)}; it must be {keys.shape[:-1]} or {keys.shape}.",
    )
    require(
        value_decay is None or value_decay.shape == values.shape,
        f"value_decay has shape {getattr(value_decay, 'shape', None)}; it must be {values.shape}, as the values.",
    )
    return (decay, False) if value_decay is None else (value_decay, True)


def _by_chunks(queries, keys, values, state, decay, on_values, start, mask, chunk, parallel):
    """All of time, (time, head, channel), in groups of chunks."""
    time, heads, _ = queries.shape
    if start is not None and decay is None:
        decay = jnp.ones((time, heads), queries.dtype)
    rows = lambda flags, a: flags.reshape(-1, *[1] * (a.ndim - 1))
    if start is not None:
        start = start if mask is None else start & mask
        decay = jnp.where(rows(start, decay), jnp.zeros_like(decay), decay)
    if mask is not None:
        # Queries too, or what they hold where there is no token, NaN included, would reach the keys' gradients.
        queries, keys, values = (jnp.where(rows(mask, a), a, jnp.zeros_like(a)) for a in (queries, keys, values))
        decay = None if decay is None else jnp.where(rows(mask, decay), decay, jnp.ones_like(decay))
    size = min(chunk, 1 << (time - 1).bit_length())
    chunks = -(-time // size)
    most = chunks if parallel else max(1, min(GROUP, BATCH // heads))
    groups = -(-chunks // most)
    together = -(-chunks // groups)  # no group is much emptier than the others
    padding = groups * together * size - time
    cut = lambda a, fill: jnp.pad(a, ((0, padding), *[(0, 0)] * (a.ndim - 1)), constant_values=fill).reshape(
        groups, together, size, *a.shape[1:]
    )
    if decay is None:
        inside, parts = _without_decay, (queries, keys, values)
    else:
        inside = _of_a_head if decay.ndim == 2 else _of_columns if on_values else _of_rows
        parts = queries, keys, values, decay
    fills = 0, 0, 0, 1
    parts = tuple(cut(a, fill) for a, fill in zip(parts, fills, strict=False))
    if parallel:
        y, final = _group(inside, state, tuple(a[0] for a in parts), _by_diagonal)
    else:
        # What is inside a group is computed again for the gradient, which so keeps no more than the groups' states.
        step = jax.checkpoint(lambda state, parts: _group(inside, state, parts, _one_by_one)[::-1])
        final, y = jax.lax.scan(step, state, parts)
    y = y.reshape(-1, *y.shape[-2:])[:time]
    if mask is not None:
        y, final = jnp.where(rows(mask, y), y, jnp.zeros_like(y)), jnp.where(jnp.any(mask), final, state)
    return y, final


def _group(inside, state, parts, carried):
    """y, (chunk, time, head, d_v), and the last state of some chunks, worked on at once with all heads."""
    chunks, size, heads, *_ = parts[0].shape
    # One axis of chunks and heads together, before time.
    flat = lambda a: jnp.moveaxis(a, 2, 1).reshape(chunks * heads, size, *a.shape[3:])
    deep = lambda a: a.reshape(chunks, heads, *a.shape[1:])
    chunk = inside(*(flat(a) for a in parts))
    before, final = carried(deep(chunk.left), deep(chunk.write), state)
    y = chunk.read(before.reshape(-1, *state.shape[1:]))
    return jnp.moveaxis(deep(y), 1, 2), final


def _one_by_one(left, write, state):
    """The state before each chunk, and the last, the state carried from one chunk to the next."""
    states = [state]
    for left_c, write_c in zip(left, write, strict=True):
        states.append(left_c * states[-1] + write_c)
    return jnp.stack(states[:-1]), states[-1]


def _by_diagonal(left, write, state):
    """The same, by a diagonal recurrence over all chunks."""
    after, final = diagonal(left, write, state)
    return jnp.concatenate([state[None], after[:-1]]), final


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
    left, before, after = _where_moderate(_rows_by_quotients, _rows_by_halving, q, k, decay)
    return _Chunk(left @ v, q * before, None, jnp.einsum("csk,csv->ckv", k * after, v), before[:, -1][:, :, None])


def _rows_by_halving(q, k, decay):
    """What tokens take from each other, and the products of the decays up to and behind each."""
    left, before, after = jnp.sum(q * k, axis=-1).reshape(-1, 1, 1), *_alone(decay)
    while before.shape[1] < q.shape[1]:
        # The border runs through the middle of each block: (block, half, token, channel).
        (before_l, before_r), (after_l, after_r) = _halves(before), _halves(after)
        q_r, k_l = (a.reshape(-1, 2, *before.shape[1:])[:, i] for a, i in ((q, 1), (k, 0)))
        left = _below(left, jnp.einsum("ctk,csk->cts", q_r * before_r, k_l * after_l))
        before, after = _across(before_l, before_r, after_l, after_r)
    return left, before, after


def _rows_by_quotients(q, k, decay):
    """The same, where no product of the decays is too small to be divided by."""
    before = _up_to(decay)
    left = jnp.tril(jnp.einsum("ctk,csk->cts", q * before, k / before))
    return left, before, before[:, -1:] / before


def _of_columns(q, k, v, decay):
    """Chunks with a decay for each column of the state."""
    y, before, after = _where_moderate(_columns_by_quotients, _columns_by_halving, q, k, v, decay)
    return _Chunk(y, q, before, jnp.einsum("csk,csv->ckv", k, v * after), before[:, -1][:, None])


def _columns_by_halving(q, k, v, decay):
    """What tokens take from each other, and the products of the decays up to and behind each."""
    y, before, after = jnp.sum(q * k, axis=-1, keepdims=True) * v, *_alone(decay)
    while before.shape[1] < q.shape[1]:
        (before_l, before_r), (after_l, after_r) = _halves(before), _halves(after)
        time = before.shape[1]
        q_r, k_l, v_l = (a.reshape(-1, 2, time, a.shape[2])[:, i] for a, i in ((q, 1), (k, 0), (v, 0)))
        taken = before_r * (jnp.einsum("ctk,csk->cts", q_r, k_l) @ (v_l * after_l))
        y = (y.reshape(-1, 2, time, y.shape[2]) + jnp.stack([jnp.zeros_like(taken), taken], 1)).reshape(y.shape)
        before, after = _across(before_l, before_r, after_l, after_r)
    return y, before, after


def _columns_by_quotients(q, k, v, decay):
    """The same, where no product of the decays is too small to be divided by."""
    before = _up_to(decay)
    taken = jnp.tril(jnp.einsum("ctk,csk->cts", q, k)) @ (v / before)
    return before * taken, before, before[:, -1:] / before


def _up_to(decay):
    """The products of the decays up to each token, (chunk, time, channel), by halving."""
    before, time = decay, 1
    while time < decay.shape[1]:
        left, right = jnp.moveaxis(before.reshape(len(decay), -1, 2, time, decay.shape[2]), 2, 0)
        before, time = jnp.stack([left, right * left[:, :, -1:]], 2).reshape(decay.shape), 2 * time
    return before


@jax.custom_batching.custom_vmap
def _moderate(decay):
    """True where quotients of the products of these decays, (..., time, channel), are as good as products: of all at once."""
    return (jnp.min(decay) >= LEAST) & (jnp.min(jnp.prod(decay, axis=-2)) >= LEAST_PRODUCT)


@_moderate.def_vmap
def _moderate_of_all(size, batched, decay):
    """One answer for a whole batch, so that only one of two forms is run."""
    del size, batched
    return _moderate(decay), False


def _where_moderate(quotients, halving, *parts):
    """By quotients if the decays, the last of the parts, allow it, else by halving; short chunks are halved in any case."""
    return _either(quotients, halving, *parts) if parts[-1].shape[1] >= CHUNK else halving(*parts)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _either(quotients, halving, *parts):
    return jax.lax.cond(_moderate(parts[-1]), quotients, halving, *parts)


def _either_forward(quotients, halving, *parts):
    return _either(quotients, halving, *parts), parts


def _either_backward(quotients, halving, parts, cotangents):
    # Each branch goes forward and back by itself: the branch that is not taken would leave zeros for all that it keeps.
    pull = lambda form: lambda parts, cotangents: jax.vjp(form, *parts)[1](cotangents)
    return jax.lax.cond(_moderate(parts[-1]), pull(quotients), pull(halving), parts, cotangents)


_either.defvjp(_either_forward, _either_backward)


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
