"""The gated delta rule, S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T, read by queries, y_t = S_t^T q_t.

`naive` is the specification. The chunked form solves, in each chunk, for what every token really writes once those before it
have been accounted for: with L[t, s] the product of the decays behind s up to t,

    u = (I + strictly lower(diag(b) K K^T * L))^-1 diag(b) (V - diag(before) K S),   y = (Q K^T * L) u + diag(before) Q S,

where S is the state before the chunk and before_t the product of its decays up to t. The inverse is taken by halving, with
matrix products alone. Decays are multiplied, never divided by, so a decay of 0 forgets exactly. What does not need the state
is computed for a few chunks of all heads at a time, so that it stays in a cache ("chunked"), or for all at once ("parallel");
then the state is carried from chunk to chunk.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.chunks import BATCH, CHUNK, GROUP, in_groups, products
from dualform.recurrences.contained import contain, rows
from dualform.recurrences.flags import check_decay, check_flags, check_state, check_time

Form: TypeAlias = Literal["chunked", "parallel", "naive"]


@compiled
def naive(
    queries: Float[Array, "time d_k"],
    keys: Float[Array, "time d_k"],
    values: Float[Array, "time d_v"],
    beta: Float[Array, " time"],
    state: Float[Array, "d_k d_v"],
    decay: Float[Array, " time"],
    mask: Bool[Array, " time"],
) -> tuple[Float[Array, "time d_v"], Float[Array, "d_k d_v"]]:
    """The specification: one token after the other; a decay of 0 is a start."""

    def step(state, inputs):
        q_t, k_t, v_t, b_t, a_t, mask_t = inputs
        kept = a_t * state
        written = kept + b_t * jnp.outer(k_t, v_t - k_t @ kept)
        state = jnp.where(mask_t, written, state)
        return state, jnp.where(mask_t, q_t @ state, jnp.zeros_like(v_t))

    state, y = jax.lax.scan(step, state, (queries, keys, values, beta, decay, mask))
    return y, state


def _check_values(*given, decay=None, **options) -> None:
    del given, options
    check_decay("decay", decay)


@partial(compiled, before=_check_values)
def delta(
    queries: Float[Array, "time *head d_k"],
    keys: Float[Array, "time *head d_k"],
    values: Float[Array, "time *head d_v"],
    beta: Float[Array, "time *head"],
    state: Float[Array, "*head d_k d_v"] | None = None,
    *,
    decay: Float[Array, "time *head"] | None = None,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
    chunk: int = CHUNK,
    form: Form | None = None,
) -> tuple[Float[Array, "time *head d_v"], Float[Array, "*head d_k d_v"]]:
    """y_t = S_t^T q_t of S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T, for one head, or for each of several.

    **Arguments:**

    - queries, keys: (time, d_k), or (time, head, d_k); for a stable memory keys have length 1.  values: (time, d_v), or
      (time, head, d_v).
    - beta: (time,), or (time, head), how much of what the key finds is replaced: 0 nothing, 1 all of it, 2 a reflection.
    - state: (d_k, d_v) of each head, what is remembered before the first token; zero if not given.
    - decay: in the shape of beta, a_t in [0, 1] (not its logarithm); 1 if not given.
    - start: (time,), True where a document begins: what came before is forgotten, exactly.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit, and the output is 0. A `start`
      there is ignored.
    - reverse: from the last token to the first; `start` then marks the first token *met* of each document.
    - chunk: tokens in a chunk, a power of two.
    - form: "chunked" (a few chunks after the other), "parallel" (the inside of all chunks at once), or "naive" (one token
      after the other); chosen by `choice.choose` if not given.

    **Returns:** y, in the shape of the values, and the state after the last token, both in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.

    **Source:** Yang et al. 2024 (arXiv 2406.06484) and 2025 (arXiv 2412.06464); the inverse by halving is ours.
    """
    _check(queries, keys, values, beta, state, decay, start, mask, chunk)
    alone = queries.ndim == 2
    if alone:
        queries, keys, values, beta = (a[:, None] for a in (queries, keys, values, beta))
        state, decay = (None if a is None else jnp.expand_dims(a, i) for i, a in enumerate((state, decay)))
    time, heads, d_k = queries.shape
    wide = accumulator(*(a.dtype for a in (queries, keys, values, beta)))
    before: Array = jnp.zeros((heads, d_k, values.shape[2]), wide) if state is None else state.astype(wide)
    turn: Callable[[Array], Array] = lambda a: a[::-1] if reverse else a
    queries, keys, values, beta = (turn(a).astype(wide) for a in (queries, keys, values, beta))
    decay = jnp.ones_like(beta) if decay is None else turn(decay).astype(wide)
    start, mask = (None if a is None else turn(a) for a in (start, mask))
    if mask is not None:
        given = queries, keys, values, beta
        queries, keys, values, beta = (jnp.where(rows(mask, a), a, jnp.zeros_like(a)) for a in given)
        decay = jnp.where(rows(mask, decay), decay, jnp.ones_like(decay))
    kept = None
    if start is not None:
        start = start if mask is None else start & mask
        kept = contain((queries, keys, values, beta, decay), before, jnp.zeros_like(before), start, mask)
        (queries, keys, values, beta, decay), before = kept.tokens, kept.state
        decay = jnp.where(rows(start, decay), jnp.zeros_like(decay), decay)
    chosen = choose("delta", ("chunked", "parallel", "naive"), form, time=time)
    if chosen == "naive":
        present = jnp.ones(time, bool) if mask is None else mask
        each = jax.vmap(naive, in_axes=(1, 1, 1, 1, 0, 1, None), out_axes=(1, 0))
        y, final = each(queries, keys, values, beta, before, decay, present)
    else:
        y, final = _by_chunks(queries, keys, values, beta, before, decay, chunk, parallel=chosen == "parallel")
        if mask is not None:
            y, final = jnp.where(rows(mask, y), y, jnp.zeros_like(y)), jnp.where(jnp.any(mask), final, before)
    if kept is not None:
        y, final = kept.mark(y, mask), kept.mark_state(final)
    return (turn(y[:, 0]), final[0]) if alone else (turn(y), final)


def _check(queries, keys, values, beta, state, decay, start, mask, chunk) -> None:
    shapes = f"queries {queries.shape}, keys {keys.shape}, values {values.shape}"
    require(
        queries.ndim == values.ndim
        and queries.ndim in (2, 3)
        and queries.shape == keys.shape
        and values.shape[:-1] == queries.shape[:-1],
        f"queries and keys must be (time, d_k) and values (time, d_v); got {shapes}. Several heads come after time, in all "
        "of them.",
    )
    time, *heads, d_k = queries.shape
    check_time(time)
    for name, a in (("beta", beta), ("decay", decay)):
        found, needed = getattr(a, "shape", None), (time, *heads)
        require(a is None or found == needed, f"{name} has shape {found}; it must be {needed}, one for each token.")
    check_state("state", state, (*heads, d_k, values.shape[-1]))
    check_flags(time, start, mask)
    check_decay("decay", decay)
    require(
        chunk >= 1 and chunk & (chunk - 1) == 0, f"chunk is {chunk}; it must be at least 1 token, and a power of two."
    )


def _by_chunks(queries, keys, values, beta, state, decay, chunk, parallel):
    """All of time, (time, head, channel), in groups of chunks, one after the other."""
    time, heads, _ = queries.shape
    parts = queries, keys, values, beta, decay
    parts = in_groups(parts, (0, 0, 0, 0, 1), chunk, time if parallel else min(GROUP, BATCH // heads))
    # The gradient keeps the states before the groups, and computes what is inside them again.
    final, y = jax.lax.scan(jax.checkpoint(_group, prevent_cse=False), state, parts)
    return y.reshape(-1, *y.shape[-2:])[:time], final


def _group(state, parts):
    """The last state and y, (chunk, time, head, d_v), of some chunks: what is inside them for all heads at once."""
    chunks, size, heads, *_ = parts[0].shape
    # One axis of chunks and heads together, before time.
    flat = lambda a: jnp.moveaxis(a, 2, 1).reshape(chunks * heads, size, *a.shape[3:])
    deep = lambda a: a.reshape(chunks, heads, *a.shape[1:])

    def step(state, inputs):
        seen_and_read, written, scores, asked, total = inputs
        taken = seen_and_read @ state
        u = written - taken[:, :size]
        return total * state + jnp.einsum("htk,htv->hkv", asked, u), scores @ u + taken[:, size:]

    prepared = tuple(deep(a) for a in _prepare(*(flat(a) for a in parts)))
    final, y = jax.lax.scan(step, state, prepared, unroll=chunks <= GROUP)
    return final, jnp.moveaxis(y, 1, 2)


def _prepare(q, k, v, b, decay):
    """What each chunk needs of its own tokens: (chunk, time, ...)."""
    size, d_k = k.shape[1:]
    against = jnp.einsum("ctk,csk->cts", jnp.concatenate([k, q], 1), k)
    left = products(decay)
    before = left[:, :, 0] * decay[:, :1]
    scale = lambda by, a: by[:, :, None] * a
    inverse = inverted(scale(b, against[:, :size] * left))
    found = inverse @ scale(b, jnp.concatenate([scale(before, k), v], 2))
    return (
        jnp.concatenate([found[:, :, :d_k], scale(before, q)], 1),
        found[:, :, d_k:],
        against[:, size:] * left,
        scale(left[:, -1], k),
        before[:, -1, None, None],
    )


@jax.custom_jvp
def inverted(a: Float[Array, "*batch time time"]) -> Float[Array, "*batch time time"]:
    """(I + strictly lower part of a)^-1 = X, by halving; time must be a power of two. Its differential is -X dA X."""
    return _halved(a)


@inverted.defjvp
def _inverted_jvp(primals, tangents):
    (a,), (moved,) = primals, tangents
    x = inverted(a)
    return x, -(x @ jnp.tril(moved, -1) @ x)


def _halved(a):
    """Of [[A, 0], [C, B]] the inverse is [[A^-1, 0], [-B^-1 C A^-1, B^-1]]: of blocks of 1, of all of 2, of all of 4, ..."""
    *batch, time, _ = a.shape
    inverse, size = jnp.ones((*batch, time, 1, 1), a.dtype), 1
    while size < time:
        count = time // (2 * size)
        blocks = jnp.diagonal(a.reshape(*batch, count, 2 * size, count, 2 * size), axis1=-4, axis2=-2)
        below = jnp.moveaxis(blocks, -1, -3)[..., size:, :size]
        upper, lower = inverse[..., ::2, :, :], inverse[..., 1::2, :, :]
        across = -lower @ below @ upper
        rows = jnp.concatenate([upper, jnp.zeros_like(across)], -1), jnp.concatenate([across, lower], -1)
        inverse, size = jnp.concatenate(rows, -2), 2 * size
    return inverse[..., 0, :, :]
