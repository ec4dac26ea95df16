"""One compiled program for each question that the laws ask of a mixer; weights, tokens, states and flags are its data.

Nearly all the time of a law goes into compiling. So a question (the call, the steps, the gradients, the dual form) is compiled
once for a mixer and a length, always with both flags and a state, and then answered for many cases: `lax.map` runs the program
of a single call over the rows, one after the other, and what it gives is what that call gives.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

import dualform

ROWS = {16: 64, 10**9: 1}
"""Up to so many tokens, so many rows at once: one shape for all cases of a length, the last of them repeated."""


class Cases(NamedTuple):
    """Calls of mixers of one structure, stacked: a leading axis of cases in everything but `static`."""

    static: Any
    weights: Any
    x: Any
    state: Any
    start: Any
    mask: Any

    def take(self, rows: Any) -> "Cases":
        """The cases of these numbers, in this order; a case may come more than once."""
        rows = np.asarray(rows)
        return Cases(self.static, *jtu.tree_map(lambda a: a[rows], tuple(self[1:])))


def cases(mixer: Any, x: Any, state: Any = None, start: Any = None, mask: Any = None) -> Cases:
    """One call, x (time, d), or several at once, x (case, time, d).

    `mixer` is one for all cases, or a list with one for each. A state that is not given is the initial one; flags that are
    not given say that no document begins and that every token is there.
    """
    one = x.ndim == 2
    lift = lambda tree: jtu.tree_map(lambda a: a[None] if one else a, tree)
    x = np.asarray(lift(x))
    mixers = list(mixer) if isinstance(mixer, list | tuple) else [mixer]
    state = stack([m.init_state() for m in mixers]) if state is None else lift(state)
    weights, statics = zip(*(eqx.partition(m, _is_data) for m in mixers), strict=True)
    flags = lambda given, default: np.full(x.shape[:2], default) if given is None else np.asarray(lift(given), bool)
    repeat = lambda a: np.repeat(a, len(x), axis=0) if len(a) < len(x) else a
    weights, state = jtu.tree_map(repeat, (stack(weights), jtu.tree_map(_array, state)))
    return Cases(statics[0], weights, x, state, flags(start, False), flags(mask, True))


def _is_data(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _array(leaf: Any) -> Any:
    """A NumPy array, which costs nothing to cut and stack; a random key stays what it is."""
    return leaf if _is_key(leaf) else np.asarray(leaf)


def stack(trees: Any) -> Any:
    """One tree with a leading axis from several of one structure."""
    return jtu.tree_map(lambda *leaves: (jnp if _is_key(leaves[0]) else np).stack(leaves), *trees)


@partial(jax.jit, static_argnums=(0, 1))
def _answer(question, static, rows):
    return jax.lax.map(lambda row: question(eqx.combine(row[0], static), *row[1:]), rows)


def ask(question: Any, asked: Cases, *more: Any) -> Any:
    """The answers of `question(mixer, x, state, start, mask, *more)` to every case, stacked, in NumPy arrays."""
    size = next(rows for time, rows in ROWS.items() if asked.x.shape[1] <= time)
    parts, count = [], len(asked.x)
    for first in range(0, count, size):
        rows = np.minimum(np.arange(first, first + size), count - 1)
        part = jtu.tree_map(lambda a, rows=rows: a[rows], (*asked[1:], *more))
        answer = jtu.tree_map(_array, _answer(question, asked.static, part))
        parts.append(jtu.tree_map(lambda a, first=first: a[: count - first], answer))
    return parts[0] if len(parts) == 1 else jtu.tree_map(lambda *leaves: np.concatenate(leaves), *parts)


def call(mixer, x, state, start, mask):
    """The parallel form: outputs and the last state."""
    return mixer(x, state, start=start, mask=mask)


def steps(mixer, x, state, start, mask):
    """The recurrent form, one token after the other: outputs, and the state after each token."""

    def step(state, token):
        y_t, state = mixer.step(token[0], state, start=token[1], mask=token[2])
        return state, (y_t, state)

    return jax.lax.scan(step, state, (x, start, mask))[1]


def plain_call(mixer, x, state, start, mask):
    """The parallel form without flags."""
    del start, mask
    return mixer(x, state)


def plain_steps(mixer, x, state, start, mask):
    """The recurrent form without flags: outputs, and the last state alone."""
    del start, mask

    def step(state, x_t):
        y_t, state = mixer.step(x_t, state)
        return state, y_t

    return jax.lax.scan(step, state, x)[::-1]


def dual_form_in_blocks(mixer, x, state, start, mask, block=32):
    """The dual form, in blocks of source tokens, the last of them shorter; and the rows of its `aggregate()`."""
    form = dualform.dual_form(mixer, x, state, start=start, mask=mask, block=block)
    residuals = jnp.stack([form.residual, form.map_residual])
    return form.y, form.contributions, form.bias, form.weights, residuals, form.aggregate()[0]


def dual_form(mixer, x, state, start, mask):
    """The dual form, in two blocks of source tokens, and the rows of its `aggregate()`."""
    return dual_form_in_blocks(mixer, x, state, start, mask, len(x) // 2)


def pull_back(mixer, x, state, start, mask, cotangents):
    """The gradients of weights, tokens and first state that the cotangents of outputs and last state give."""
    inexact, rest = eqx.partition((mixer, x, state), eqx.is_inexact_array)

    def values(inexact):
        mixer, x, state = eqx.combine(inexact, rest)
        return eqx.filter(mixer(x, state, start=start, mask=mask), eqx.is_inexact_array)

    return jax.vjp(values, inexact)[1](cotangents)[0]


def squares(mixer, x, state, start, mask):
    """Outputs, last state, and the gradients of their summed squares with respect to weights, tokens and first state."""

    def score(args):
        mixer, x, state = args
        y, final = mixer(x, state, start=start, mask=mask)
        powers = [jnp.sum(y * y), *(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jtu.tree_leaves(final))]
        return sum(power.astype(float) for power in powers), (y, final)

    (_, values), gradients = eqx.filter_value_and_grad(score, has_aux=True)((mixer, x, state))
    return values, gradients


def init_state(mixer, x, state, start, mask):
    """The state before the first token."""
    del x, state, start, mask
    return mixer.init_state()


@partial(jax.jit, static_argnums=0)
def _batched(static, weights, x, state, start, mask):
    sequences = lambda weights: jax.vmap(lambda *each: call(eqx.combine(weights, static), *each))(x, state, start, mask)
    return jax.vmap(sequences)(weights)


def batched(asked: Cases, weights: Any) -> Any:
    """Every mixer of these weights on every one of these calls, by vmap over sequences inside vmap over mixers."""
    return jtu.tree_map(_array, _batched(asked.static, weights, *asked[2:]))


@partial(jax.jit, static_argnums=0)
def _ensemble(static, weights, *given):
    return jax.vmap(lambda weights, *each: call(eqx.combine(weights, static), *each))(weights, *given)


def ensemble(asked: Cases) -> Any:
    """All of these calls at once, by vmap over mixers, each with its own tokens."""
    return jtu.tree_map(_array, _ensemble(*asked))
