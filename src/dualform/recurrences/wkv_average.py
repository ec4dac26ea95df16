"""RWKV's running average: weights exp(key) that fade at a fixed rate, and a bonus for the token itself.

The state (a, b, m) holds the weighted sum of the values, the sum of the weights, each divided by exp(m), and m, the largest
exponent so far, faded too: no exponential ever overflows, and none of what is divided by underflows.
"""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.contained import contain
from dualform.recurrences.flags import check_flags, check_time
from dualform.recurrences.softmax import LOWEST

Form: TypeAlias = Literal["naive", "associative"]

State: TypeAlias = tuple[Float[Array, "*n"], ...]
"""a, b and m."""


def join(left: State, right: State, fade: Float[Array, "*n"]) -> State:
    """The state of two stretches of time from their own; `fade` is w times the length of the right one."""
    (a_l, b_l, m_l), (a_r, b_r, m_r) = left, right
    m = jnp.maximum(m_l + fade, m_r)
    e_l, e_r = jnp.exp(m_l + fade - m), jnp.exp(m_r - m)
    return e_l * a_l + e_r * a_r, e_l * b_l + e_r * b_r, m


def empty_state(n: int, dtype) -> State:
    """Nothing remembered: 0, 0 and `LOWEST`."""
    return jnp.zeros(n, dtype), jnp.zeros(n, dtype), jnp.full(n, LOWEST, dtype)


@compiled
def wkv(
    w: Float[Array, " n"],
    u: Float[Array, " n"],
    k: Float[Array, "time n"],
    v: Float[Array, "time n"],
    state: State | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
    form: Form | None = None,
) -> tuple[Float[Array, "time n"], State]:
    """y_t = (a_{t-1} + exp(u + k_t) v_t) / (b_{t-1} + exp(u + k_t)), channel by channel.

        a_t = exp(w) a_{t-1} + exp(k_t) v_t,    b_t = exp(w) b_{t-1} + exp(k_t)

    **Arguments:**

    - w: (n,), the logarithm of the decay, at most 0.  u: (n,), the bonus of the token itself.
    - k: (time, n), finite.  v: (time, n).
    - state: (a, b, m), each (n,), as a call returned it; nothing (0, 0, `LOWEST`) if not given.
    - start: (time,), True where a document begins: what came before is forgotten, exactly.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit, and the output is 0. A `start`
      there is ignored.
    - reverse: from the last token to the first; `start` then marks the first token *met* of each document.
    - form: "naive" (one token after the other, the specification), or "associative" (a parallel prefix).

    **Returns:** y (time, n) and the state after the last token, in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.

    **Source:** Peng et al. 2023 (arXiv 2305.13048), Sec. 3, and the recurrent form with a running maximum of
    its appendix.
    """
    require(
        k.ndim == 2 and v.shape == k.shape and w.shape == u.shape == k.shape[1:],
        f"k and v must be (time, n), w and u (n,); got k {k.shape}, v {v.shape}, w {w.shape}, u {u.shape}.",
    )
    time, n = k.shape
    check_time(time)
    check_flags(time, start, mask)
    wide = accumulator(w.dtype, u.dtype, k.dtype, v.dtype)
    state = empty_state(n, wide) if state is None else state
    found = tuple(part.shape for part in state)
    require(found == ((n,),) * 3, f"the state has shapes {found}; the inputs need {((n,),) * 3}: a, b and m.")
    turn = lambda a: a[::-1] if reverse else a
    k, v = turn(k).astype(wide), turn(v).astype(wide)
    start, mask = (None if flags is None else turn(flags) for flags in (start, mask))
    if mask is not None:
        k, v = (jnp.where(mask[:, None], each, jnp.zeros_like(each)) for each in (k, v))
        start = None if start is None else start & mask
    a, b, m = (part.astype(wide) for part in state)
    state, kept = (a, b, m), None
    if start is not None:
        kept = contain((k, v), state, empty_state(n, wide), start, mask)
        (k, v), state = kept.tokens, kept.state
    run = _naive if choose("wkv", ("naive", "associative"), form, time=time) == "naive" else _associative
    y, final = run(w.astype(wide), u.astype(wide), k, v, state, start, mask)
    if kept is not None:
        y, final = kept.mark(y, mask), kept.mark_state(final)
    return turn(y), final


def _read(state: State, bonus: Array, v: Array) -> Array:
    """The average over a state and the token itself, whose exponent is `bonus`."""
    a, b, m = state
    # The average is the same for any reference, so its gradient passes this one by.
    top = jax.lax.stop_gradient(jnp.maximum(m, bonus))
    before, now = jnp.exp(m - top), jnp.exp(bonus - top)
    return (before * a + now * v) / (before * b + now)


def _naive(w, u, k, v, state, start, mask):
    """The specification, one token after the other."""
    present = jnp.ones(len(k), bool) if mask is None else mask
    begins = jnp.zeros(len(k), bool) if start is None else start
    nothing = empty_state(len(w), k.dtype)

    def step(state, inputs):
        k_t, v_t, start_t, mask_t = inputs
        past = tuple(jnp.where(start_t, none, part) for none, part in zip(nothing, state, strict=True))
        y_t = _read(past, u + k_t, v_t)
        after = join(past, (v_t, jnp.ones_like(k_t), k_t), w)
        state = tuple(jnp.where(mask_t, new, old) for new, old in zip(after, state, strict=True))
        return state, jnp.where(mask_t, y_t, jnp.zeros_like(y_t))

    final, y = jax.lax.scan(step, state, (k, v, begins, present))
    return y, final


def _associative(w, u, k, v, state, start, mask):
    """A parallel prefix of `join`, in which a document's beginning forgets what is to its left."""
    time, n = k.shape
    begins = jnp.zeros(time, bool) if start is None else start
    fades, written = jnp.broadcast_to(w, k.shape), (v, jnp.ones_like(k), k)
    nothing = empty_state(n, k.dtype)
    if mask is not None:  # an absent token writes nothing, and nothing fades
        fades = jnp.where(mask[:, None], fades, jnp.zeros_like(fades))
        written = tuple(jnp.where(mask[:, None], p, none[None]) for p, none in zip(written, nothing, strict=True))
    ahead = lambda first, rest: jnp.concatenate([first[None], rest])
    elements = (ahead(jnp.zeros((), bool), begins), ahead(jnp.zeros_like(w), fades))
    elements += tuple(ahead(first, rest) for first, rest in zip(state, written, strict=True))

    def combine(left, right):
        (begins_l, fade_l, *past), (begins_r, fade_r, *after) = left, right
        joined = join(tuple(past), tuple(after), fade_r)
        chosen = (jnp.where(begins_r[:, None], new, both) for both, new in zip(joined, after, strict=True))
        return begins_l | begins_r, fade_l + fade_r, *chosen

    _, _, *states = jax.lax.associative_scan(combine, elements)
    past = tuple(jnp.where(begins[:, None], none[None], part[:-1]) for none, part in zip(nothing, states, strict=True))
    y = _read(past, u[None] + k, v)
    if mask is None:
        return y, tuple(part[-1] for part in states)
    # Where nothing was met, the state itself: the prefix would have made 0 of -0.
    last = jnp.argmax(jnp.where(mask, jnp.arange(time), -1)) + 1
    final = tuple(jnp.where(jnp.any(mask), part[last], old) for part, old in zip(states, state, strict=True))
    return jnp.where(mask[:, None], y, jnp.zeros_like(y)), final
