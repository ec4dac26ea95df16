"""A running average whose weights are exp(score): softmax attention with a query that never changes.

The state (m, u, w) holds the largest score so far, and, each divided by exp(m), the sum of the weights and the weighted sum
of the values.
"""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.contained import contain
from dualform.recurrences.flags import check_flags, check_time

Form: TypeAlias = Literal["associative", "naive"]

LOWEST = -1e30
"""The largest score of nothing: finite, so that differences are, and below every score that may occur."""

State: TypeAlias = tuple[Float[Array, "*head"], Float[Array, "*head"], Float[Array, "*head d_v"]]
"""m, u and w."""


def join(left: State, right: State) -> State:
    """The state of two stretches of time from their own: what makes the recurrence associative (any leading axes).

    **Source:** Feng et al. 2024 (arXiv 2405.13956), Sec. 3.2.
    """
    (m_l, u_l, w_l), (m_r, u_r, w_r) = left, right
    m = jnp.maximum(m_l, m_r)
    e_l, e_r = jnp.exp(m_l - m), jnp.exp(m_r - m)
    return m, e_l * u_l + e_r * u_r, e_l[..., None] * w_l + e_r[..., None] * w_r


@compiled
def softmax_scan(
    scores: Float[Array, "time head"],
    values: Float[Array, "time head d_v"],
    state: State | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
    form: Form | None = None,
) -> tuple[Float[Array, "time head d_v"], State]:
    """y_t = sum_{s<=t} exp(score_s) v_s / sum_{s<=t} exp(score_s), for each head.

    **Arguments:**

    - scores: (time, head), finite.  values: (time, head, d_v).
    - state: (m, u, w), of shapes (head,), (head,), (head, d_v); nothing (`LOWEST`, 0, 0) if not given.
    - start: (time,), True where a document begins: what came before is forgotten, exactly.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit, and the output is 0. A `start`
      there is ignored.
    - reverse: from the last token to the first; `start` then marks the first token *met* of each document.
    - form: "associative" (a parallel prefix), or "naive" (one token after the other, the specification).

    **Returns:** y (time, head, d_v) and the state after the last token, in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.
    """
    require(
        scores.ndim == 2 and values.ndim == 3 and values.shape[:2] == scores.shape,
        f"scores must be (time, head) and values (time, head, d_v); got {scores.shape} and {values.shape}.",
    )
    time, heads = scores.shape
    check_time(time)
    check_flags(time, start, mask)
    wide = accumulator(scores.dtype, values.dtype)
    if state is None:
        state = jnp.full(heads, LOWEST, wide), jnp.zeros(heads, wide), jnp.zeros(values.shape[1:], wide)
    expected = ((heads,), (heads,), values.shape[1:])
    found = tuple(part.shape for part in state)
    require(found == expected, f"the state has shapes {found}; the inputs need {expected}: m, u and w.")
    turn = lambda a: a[::-1] if reverse else a
    scores, values = turn(scores).astype(wide), turn(values).astype(wide)
    start, mask = (None if flags is None else turn(flags) for flags in (start, mask))
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, jnp.zeros_like(scores))
        values = jnp.where(mask[:, None, None], values, jnp.zeros_like(values))
        start = None if start is None else start & mask
    m, u, w = (part.astype(wide) for part in state)
    state, kept = (m, u, w), None
    if start is not None:
        nothing = jnp.full_like(m, LOWEST), jnp.zeros_like(u), jnp.zeros_like(w)
        kept = contain((scores, values), state, nothing, start, mask)
        (scores, values), state = kept.tokens, kept.state
    if choose("softmax_scan", ("naive", "associative"), form, time=time) == "naive":
        y, final = _naive(scores, values, state, start, mask)
    else:
        y, final = _associative(scores, values, state, start, mask)
    if kept is not None:
        y, final = kept.mark(y, mask), kept.mark_state(final)
    return turn(y), final


def _naive(scores, values, state, start, mask) -> tuple[Array, Any]:
    """The specification, one token after the other."""
    present = jnp.ones(len(scores), bool) if mask is None else mask
    begins = jnp.zeros(len(scores), bool) if start is None else start

    def step(state, inputs):
        score_t, v_t, start_t, mask_t = inputs
        m, u, w = state
        past = jnp.where(start_t, jnp.full_like(m, LOWEST), m), jnp.where(start_t, 0.0, u), jnp.where(start_t, 0.0, w)
        after = join(past, (score_t, jnp.ones_like(score_t), v_t))
        state = tuple(jnp.where(mask_t, new, old) for new, old in zip(after, state, strict=True))
        return state, jnp.where(mask_t, after[2] / after[1][:, None], jnp.zeros_like(v_t))

    state, y = jax.lax.scan(step, state, (scores, values, begins, present))
    return y, state


def _associative(scores, values, state, start, mask) -> tuple[Array, Any]:
    """A parallel prefix of `join`, in which a document's beginning forgets what is to its left."""
    time, wide = len(scores), scores.dtype
    rows = lambda flags, a: flags.reshape(-1, *[1] * (a.ndim - 1))
    m, u, w = scores, jnp.ones_like(scores), values
    if mask is not None:
        m, u = jnp.where(mask[:, None], m, jnp.full_like(m, LOWEST)), jnp.where(mask[:, None], u, jnp.zeros_like(u))
    begins = jnp.zeros(time, bool) if start is None else start
    elements = (jnp.concatenate([jnp.zeros(1, bool), begins]),) + tuple(
        jnp.concatenate([first[None], rest]) for first, rest in zip(state, (m, u, w), strict=True)
    )

    def combine(left, right):
        begins_l, *past = left
        begins_r, *after = right
        joined = join(tuple(past), tuple(after))
        chosen = (jnp.where(rows(begins_r, b), b, a) for a, b in zip(joined, after, strict=True))
        return begins_l | begins_r, *chosen

    _, m, u, w = (part[1:] for part in jax.lax.associative_scan(combine, elements))
    if mask is not None:
        # An average of nothing is not read: where there is no token, u may be 0.
        u = jnp.where(mask[:, None], u, jnp.ones((), wide))
    y = w / u[..., None]
    final = m[-1], u[-1], w[-1]
    if mask is None:
        return y, final
    # u was changed above only where there is no token; the last one may be such a place.
    last = jnp.argmax(jnp.where(mask, jnp.arange(time), -1))
    final = tuple(jnp.where(jnp.any(mask), part[last], old) for part, old in zip((m, u, w), state, strict=True))
    return jnp.where(mask[:, None, None], y, jnp.zeros_like(y)), final
