"""The gated delta rule, S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T, read by queries, y_t = S_t^T q_t.

`naive` is the specification. The chunked form solves, in each chunk, for what every token really writes once those before it
have been accounted for: with L[t, s] the product of the decays behind s up to t,

    u = (I + strictly lower(diag(b) K K^T * L))^-1 diag(b) (V - diag(before) K S),   y = (Q K^T * L) u + diag(before) Q S,

where S is the state before the chunk and before_t the product of its decays up to t. The inverse is taken by halving, with
matrix products alone. Decays are multiplied, never divided by, so a decay of 0 forgets exactly.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.chunks import products
from dualform.recurrences.flags import check_decay, check_flags, check_state, check_time

Form: TypeAlias = Literal["chunked", "naive"]

CHUNK = 64
"""Tokens in a chunk, unless another number is asked for."""


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


def delta(
    queries: Float[Array, "time d_k"],
    keys: Float[Array, "time d_k"],
    values: Float[Array, "time d_v"],
    beta: Float[Array, " time"],
    state: Float[Array, "d_k d_v"] | None = None,
    *,
    decay: Float[Array, " time"] | None = None,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    reverse: bool = False,
    chunk: int = CHUNK,
    form: Form | None = None,
) -> tuple[Float[Array, "time d_v"], Float[Array, "d_k d_v"]]:
    """y_t = S_t^T q_t of S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T, for one head; `jax.vmap` over heads.

    **Arguments:**

    - queries, keys: (time, d_k); for a stable memory keys have length 1.  values: (time, d_v).
    - beta: (time,), how much of what the key finds is replaced: 0 nothing, 1 all of it, 2 a reflection.
    - state: (d_k, d_v), what is remembered before the first token; zero if not given.
    - decay: (time,), a_t in [0, 1] (not its logarithm); 1 if not given.
    - start: (time,), True where a document begins: what came before is forgotten, exactly.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit, and the output is 0. A `start`
      there is ignored.
    - reverse: from the last token to the first; `start` then marks the first token *met* of each document.
    - chunk: tokens in a chunk, a power of two.
    - form: "chunked", or "naive" (one token after the other); chosen by `choice.choose` if not given.

    **Returns:** y (time, d_v) and the state after the last token (d_k, d_v), both in float32 or wider.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.

    **Source:** Yang et al. 2024 (arXiv 2406.06484) and 2025 (arXiv 2412.06464); the inverse by halving is ours.
    """
    _check(queries, keys, values, beta, state, decay, start, mask, chunk)
    time, d_k = queries.shape
    wide = accumulator(*(a.dtype for a in (queries, keys, values, beta)))
    state = jnp.zeros((d_k, values.shape[1]), wide) if state is None else state.astype(wide)
    decay = jnp.ones(time, wide) if decay is None else decay.astype(wide)
    turn: Callable[[Array], Array] = lambda a: a[::-1] if reverse else a
    queries, keys, values, beta = (turn(a).astype(wide) for a in (queries, keys, values, beta))
    decay = turn(decay)
    mask = None if mask is None else turn(mask)
    if start is not None:
        decay = jnp.where(turn(start), jnp.zeros_like(decay), decay)
    if mask is not None:
        queries, keys, values = (jnp.where(mask[:, None], a, jnp.zeros_like(a)) for a in (queries, keys, values))
        beta, decay = jnp.where(mask, beta, jnp.zeros_like(beta)), jnp.where(mask, decay, jnp.ones_like(decay))
    if choose("delta", ("chunked", "naive"), form, time=time) == "naive":
        present = jnp.ones(time, bool) if mask is None else mask
        y, final = naive(queries, keys, values, beta, state, decay, present)
    else:
        y, final = _chunked(queries, keys, values, beta, state, decay, chunk)
        if mask is not None:
            y, final = jnp.where(mask[:, None], y, jnp.zeros_like(y)), jnp.where(jnp.any(mask), final, state)
    return turn(y), final


def _check(queries, keys, values, beta, state, decay, start, mask, chunk) -> None:
    shapes = f"queries {queries.shape}, keys {keys.shape}, values {values.shape}"
    require(
        queries.ndim == values.ndim == 2 and queries.shape == keys.shape and len(values) == len(queries),
        f"queries and keys must be (time, d_k) and values (time, d_v); got {shapes}.",
    )
    time, d_k = queries.shape
    check_time(time)
    for name, a in (("beta", beta), ("decay", decay)):
        found = getattr(a, "shape", None)
        require(a is None or found == (time,), f"{name} has shape {found}; it must be ({time},), one for each token.")
    check_state("state", state, (d_k, values.shape[1]))
    check_flags(time, start, mask)
    check_decay("decay", decay)
    require(
        chunk >= 1 and chunk & (chunk - 1) == 0, f"chunk is {chunk}; it must be at least 1 token, and a power of two."
    )


def _chunked(queries, keys, values, beta, state, decay, chunk):
    time = len(queries)
    size = min(chunk, 1 << (time - 1).bit_length())
    padding = -time % size
    cut = lambda a, fill: jnp.pad(a, ((0, padding), *[(0, 0)] * (a.ndim - 1)), constant_values=fill).reshape(
        -1, size, *a.shape[1:]
    )
    prepared = jax.checkpoint(_prepare)(*(cut(a, 0) for a in (queries, keys, values, beta)), cut(decay, 1))

    def step(state, inputs):
        scores, read, seen, written, asked, total = inputs
        u = written - seen @ state
        return total * state + asked.T @ u, scores @ u + read @ state

    final, y = jax.lax.scan(jax.checkpoint(step), state, prepared)
    return y.reshape(-1, y.shape[-1])[:time], final


def _prepare(q, k, v, b, decay):
    """What each chunk needs of its own tokens, for all chunks at once."""
    left = products(decay)
    before = left[:, :, 0] * decay[:, :1]
    inverse = inverted(b[:, :, None] * jnp.einsum("ctk,csk->cts", k, k) * left) * b[:, None, :]
    scores = jnp.einsum("ctk,csk->cts", q, k) * left
    seen, written = inverse @ (before[:, :, None] * k), inverse @ v
    return scores, before[:, :, None] * q, seen, written, k * left[:, -1, :, None], before[:, -1, None, None]


def inverted(a: Float[Array, "*batch time time"]) -> Float[Array, "*batch time time"]:
    """(I + strictly lower part of a)^-1, by halving; time must be a power of two.

    Of [[A, 0], [C, B]] the inverse is [[A^-1, 0], [-B^-1 C A^-1, B^-1]].
    """
    time = a.shape[-1]
    if time == 1:
        return jnp.ones_like(a)
    half = time // 2
    upper, lower = inverted(a[..., :half, :half]), inverted(a[..., half:, half:])
    across = -lower @ a[..., half:, :half] @ upper
    zeros = jnp.zeros_like(across)
    return jnp.concatenate([jnp.concatenate([upper, zeros], -1), jnp.concatenate([across, lower], -1)], -2)
