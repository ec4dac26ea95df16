"""One query against many keys as a recurrence: the last output of the softmax scan alone, in constant memory."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.choice import choose
from dualform.recurrences.flags import check_time
from dualform.recurrences.softmax import LOWEST, State, join

Each: TypeAlias = tuple[Array, Array, Array]
"""m, u and w of each token, or of one stretch."""
Form: TypeAlias = Literal["blocks", "associative", "naive"]


@compiled
def many_to_one(
    scores: Float[Array, "source head"],
    values: Float[Array, "source head d_v"],
    state: State | None = None,
    *,
    mask: Bool[Array, " source"] | None = None,
    form: Form | None = None,
    block: int = 64,
) -> tuple[Float[Array, "head d_v"], State]:
    """o = sum_s exp(score_s) v_s / sum_s exp(score_s), for each head: a row of softmax attention, as the end of a recurrence.

    The state (m, u, w) holds the largest score so far and, divided by exp(m), the sum of the weights and the weighted sum of
    the values. States of stretches of the past join to that of the whole (`join`), in any grouping.

    **Arguments:**

    - scores: (source, head), finite: a query's products with the keys.  values: (source, head, d_v).
    - state: (m, u, w) of what was read before; nothing if not given.
    - mask: (source,), False where there is no token.
    - form: "blocks" (each stretch of `block` at once, joined one after the other), "associative" (joined pairwise, as a tree),
      or "naive" (one token after the other, the specification).

    **Returns:** o (head, d_v), 0 where nothing was read at all, and the state.

    **Raises:** `InputError` where the shapes do not fit, or there is no token.

    **Source:** Feng et al. 2024 (arXiv 2405.13956), Sec. 3.1 and 3.2, and its block by block form.
    """
    require(
        scores.ndim == 2 and values.ndim == 3 and values.shape[:2] == scores.shape,
        f"scores must be (source, head) and values (source, head, d_v); got {scores.shape} and {values.shape}.",
    )
    check_time(len(scores))
    require(block >= 1, f"block is {block}; join at least 1 token at once.")
    wide = accumulator(scores.dtype, values.dtype)
    heads, d_v = values.shape[1:]
    nothing = jnp.full(heads, LOWEST, wide), jnp.zeros(heads, wide), jnp.zeros((heads, d_v), wide)
    state = nothing if state is None else state
    found, expected = tuple(part.shape for part in state), tuple(part.shape for part in nothing)
    require(found == expected, f"the state has shapes {found}; the inputs need {expected}: m, u and w.")
    each = scores.astype(wide), jnp.ones(scores.shape, wide), values.astype(wide)
    if mask is not None:
        rows = lambda a: mask.reshape(-1, *[1] * (a.ndim - 1))
        each = jtu.tree_map(lambda a, lost: jnp.where(rows(a), a, lost[None]), each, nothing)
    form_used = choose("many_to_one", ("blocks", "associative", "naive"), form, time=len(scores))
    read = {"blocks": lambda e: _blocks(e, nothing, block), "associative": _tree, "naive": _steps}[form_used]
    m, u, w = join(jtu.tree_map(lambda part: part.astype(wide), state), read(each))
    empty = u == 0
    return w / jnp.where(empty, jnp.ones_like(u), u)[:, None], (m, u, w)


def _steps(each: Each) -> Each:
    """One token after the other: the state is all that is held."""
    first, rest = jtu.tree_map(lambda part: part[0], each), jtu.tree_map(lambda part: part[1:], each)
    state, _ = jax.lax.scan(lambda state, one: (join(state, one), None), first, rest)
    return state


def _tree(each: Each) -> Each:
    """Joined pairwise: as many rounds as the length has binary digits."""
    return jtu.tree_map(lambda part: part[-1], jax.lax.associative_scan(join, each))


def _blocks(each: Each, nothing: Each, block: int) -> Each:
    """The state of each block from sums over it, then one block after the other."""
    missing = -len(each[0]) % block

    def cut(part: Array, lost: Array) -> Array:
        filled = jnp.concatenate([part, jnp.broadcast_to(lost[None], (missing, *lost.shape))])
        return filled.reshape(-1, block, *part.shape[1:])

    def add(state: Each, inputs: Each) -> tuple[Each, None]:
        m, u, w = inputs
        top = jnp.max(m, axis=0)
        e = jnp.exp(m - top[None])
        own = top, jnp.sum(e * u, axis=0), jnp.sum(e[..., None] * w, axis=0)
        return join(state, own), None

    state, _ = jax.lax.scan(add, nothing, jtu.tree_map(cut, each, nothing))
    return state
