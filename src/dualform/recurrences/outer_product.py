"""An outer-product state that decays, S_t = decay_t * S_{t-1} + k_t v_t^T, read by queries, y_t = S_t^T q_t.

`naive` is the specification. The other forms cut time into chunks; inside a chunk each token takes from those before it, and
between chunks the state is carried: a few chunks of all heads at a time, so that all that they need stays in a cache
("chunked"), or all chunks at once, and a diagonal recurrence over them ("parallel"). Their cost is linear in time.
What is inside a chunk is in `chunks`.
"""

from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.chunks import (
    BATCH,
    CHUNK,
    GROUP,
    OF_A_HEAD,
    OF_COLUMNS,
    OF_ROWS,
    by_moderation,
    in_groups,
    without_decay,
)
from dualform.recurrences.contained import contain, rows
from dualform.recurrences.diagonal_scan import diagonal
from dualform.recurrences.flags import check_decay, check_flags, check_state, check_time

Form: TypeAlias = Literal["chunked", "parallel", "naive"]


@compiled
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


def _check_values(*given, decay=None, value_decay=None, **options) -> None:
    del given, options
    check_decay("decay", decay)
    check_decay("value_decay", value_decay)


@partial(compiled, before=_check_values)
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
      other); chosen by `choice.choose` if not given. Differentiated twice it takes "parallel" or
      "naive"; forward, "naive".

    **Returns:** y, in the shape of the values, and the state after the last token, both in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.

    **Source:** the chunks are those of Yang et al. 2023 (arXiv 2312.06635), the halving inside them is ours.
    """
    decay, on_values = _checked(queries, keys, values, state, decay, value_decay, start, mask, chunk)
    alone = queries.ndim == 2
    if alone:
        queries, keys, values = queries[:, None], keys[:, None], values[:, None]
        state, decay = (None if a is None else jnp.expand_dims(a, i) for i, a in enumerate((state, decay)))
    time, heads, d_k = queries.shape
    given = (queries, keys, values, *(() if decay is None else (decay,)))
    wide = accumulator(*(a.dtype for a in given))
    held: Any = jnp.zeros((heads, d_k, values.shape[2]), wide) if state is None else state.astype(wide)
    turn = lambda a: a[::-1] if reverse else a
    decay, start, mask = (None if a is None else turn(a) for a in (decay, start, mask))
    queries, keys, values = (turn(a).astype(wide) for a in (queries, keys, values))
    decay = None if decay is None else decay.astype(wide)
    if mask is not None:
        # Queries too, or what they hold where there is no token, NaN included, would reach the keys' gradients.
        queries, keys, values = (jnp.where(rows(mask, a), a, jnp.zeros_like(a)) for a in (queries, keys, values))
        decay = None if decay is None else jnp.where(rows(mask, decay), decay, jnp.ones_like(decay))
    kept = None
    if start is not None:
        start = start if mask is None else start & mask
        tokens = (queries, keys, values, *(() if decay is None else (decay,)))
        kept = contain(tokens, held, jnp.zeros_like(held), jnp.asarray(start), mask)
        (queries, keys, values, *decays), held = kept.tokens, kept.state
        decay = decays[0] if decays else None
    chosen = choose("outer", ("chunked", "parallel", "naive"), form, time=time)
    if chosen == "naive":
        decay = jnp.ones((time, heads), wide) if decay is None else decay
        shaped = decay[..., None, None] if decay.ndim == 2 else decay[:, :, None] if on_values else decay[..., None]
        nothing = jnp.zeros(time, bool)
        start, mask = nothing if start is None else start, ~nothing if mask is None else mask
        each = jax.vmap(naive, in_axes=(1, 1, 1, 0, 1, None, None), out_axes=(1, 0))
        y, final = each(queries, keys, values, held, shaped, start, mask)
    else:
        y, final = _by_chunks(
            queries, keys, values, held, decay, on_values, start, mask, chunk, parallel=chosen == "parallel"
        )
    if kept is not None:
        y, final = kept.mark(y, mask), kept.mark_state(final)
    return (turn(y[:, 0]), final[0]) if alone else (turn(y), final)


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
    if start is not None:
        decay = jnp.where(rows(start, decay), jnp.zeros_like(decay), decay)
    if decay is None:
        forms, parts = (without_decay,), (queries, keys, values)
    else:
        forms = OF_A_HEAD if decay.ndim == 2 else OF_COLUMNS if on_values else OF_ROWS
        decay = decay[..., None] if decay.ndim == 2 else decay
        parts = queries, keys, values, decay
    parts = in_groups(parts, (0, 0, 0, 1), chunk, time if parallel else min(GROUP, BATCH // heads))
    if parallel:
        y, final = _group(jax.checkpoint(forms[-1]), state, tuple(a[0] for a in parts), _by_diagonal)
    else:
        # Short sequences are halved in any case: one program for them.
        found: Any = _in_turn(forms if time >= CHUNK else forms[-1:], state, parts)
        y, final = found
    y = y.reshape(-1, *y.shape[-2:])[:time]
    if mask is not None:
        y, final = jnp.where(rows(mask, y), y, jnp.zeros_like(y)), jnp.where(jnp.any(mask), final, state)
    return y, final


def _run(forms, state, parts):
    """y and the last state, group by group, and the states before each group."""

    def by(inside):
        def step(state, parts):
            y, after = _group(inside, state, parts, _one_by_one)
            return after, (y, state)

        return lambda state, parts: jax.lax.scan(step, state, parts)

    final, (y, before) = _of_forms(forms, by, parts)(state, parts)
    return y, final, before


def _of_forms(forms, by, parts):
    """`by` of the only form; of two, of the first where the decays, the last of the parts, are moderate."""
    return by(forms[0]) if len(forms) == 1 else partial(by_moderation, by(forms[0]), by(forms[1]), parts[-1])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _in_turn(forms, state, parts) -> Any:
    """y and the last state. The gradient keeps the states before the groups, and computes what is inside them again."""
    y, final, _ = _run(forms, state, parts)
    return y, final


def _in_turn_forward(forms, state, parts):
    y, final, before = _run(forms, state, parts)
    return (y, final), (parts, before)


def _in_turn_backward(forms, kept, cotangents):
    def by(inside):
        def step(g, inputs):
            parts, before, g_y = inputs
            _, pull = jax.vjp(lambda state, parts: _group(inside, state, parts, _one_by_one), before, parts)
            return pull((g_y, g))

        return lambda kept, g_y, g: jax.lax.scan(step, g, (*kept, g_y), reverse=True)

    return _of_forms(forms, by, kept[0])(kept, *cotangents)


_in_turn.defvjp(_in_turn_forward, _in_turn_backward)


def _group(inside, state, parts, carried) -> tuple[Array, Array]:
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
