"""What is not finite stays in its document: NaN or infinity, in a token or in a carried state, reaches nothing behind a `start`.

Nothing is forgotten by a product: 0 * NaN is NaN, in values and in gradients. So where documents are packed, what is not
finite is taken out before anything is computed with it, and NaN is put in its place in what its document gives.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, TimeMask


class Spoiled(NamedTuple):
    """What a call cannot know, since a token or the state that it was given is not finite.

    - state: whether the carried state is not finite.  token: (time,), which tokens are not, themselves.
    - output: (time,), True from there on to the end of the document.  read: whether any token is there.
    """

    state: Bool[Array, ""]
    token: Bool[Array, " time"]
    output: Bool[Array, " time"]
    read: Bool[Array, ""]


def spoiled(x: Float[Array, "time d"], state: State, start: TimeMask, mask: TimeMask | None) -> Spoiled:
    """Which tokens, and whether the state, are not finite, and which outputs that makes unknown.

    **Arguments:** x: (time, d), not read where mask is False; start, mask: (time,).
    """
    rows = jnp.arange(1, len(x) + 1, dtype=jnp.int32)
    here = jnp.ones(len(x), bool) if mask is None else mask
    token = here & ~jnp.all(jnp.isfinite(x), axis=1)
    whole = [jnp.all(jnp.isfinite(leaf)) for leaf in jtu.tree_leaves(state) if _inexact(leaf)]
    carried = ~jnp.all(jnp.stack([jnp.ones((), bool), *whole]))
    # Of a token: the last one at or before it that is not finite (0 the state, -1 none), and its document's first one.
    last = jax.lax.cummax(jnp.where(token, rows, jnp.where(carried, 0, -1).astype(jnp.int32)))
    first = jax.lax.cummax(jnp.where(start & here, rows, jnp.zeros_like(rows)))
    return Spoiled(carried, token, last >= first, jnp.any(here))


def set_aside(
    x: Float[Array, "time d"], state: State, initial: State, found: Spoiled
) -> tuple[Float[Array, "time d"], State]:
    """Zeros for a token that is not finite, and the initial state for one that is not, but for its integers."""
    whole = lambda a, fresh: jnp.where(found.state, fresh.astype(a.dtype), a) if _inexact(a) else a
    return jnp.where(found.token[:, None], jnp.zeros_like(x), x), jtu.tree_map(whole, state, initial)


def put_back(
    y: Float[Array, "time d_out"], after: State, before: State, found: Spoiled
) -> tuple[Float[Array, "time d_out"], State]:
    """NaN in the outputs and in the state that are not to be known; the state `before` itself where no token was read."""
    unknown = lambda old: jnp.where(found.read, jnp.full_like(old, jnp.nan), old)
    left = lambda new, old: jnp.where(found.output[-1], unknown(old).astype(new.dtype), new) if _inexact(new) else new
    return jnp.where(found.output[:, None], jnp.full_like(y, jnp.nan), y), jtu.tree_map(left, after, before)


def token_by_token(
    f: Callable[[Array], Array], x: Float[Array, "time d"], start: TimeMask | None
) -> Float[Array, "time d_out"]:
    """f(x) of an f that looks at one token at a time: where documents are packed, NaN for those that are not finite.

    Such a token then reaches no gradient of what f is made of, unless its own output is asked for.
    """
    if start is None:
        return f(x)
    fine = jnp.all(jnp.isfinite(x), axis=1, keepdims=True)
    y = f(jnp.where(fine, x, jnp.zeros_like(x)))
    return jnp.where(fine, y, jnp.full_like(y, jnp.nan))


def _inexact(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
