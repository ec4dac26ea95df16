"""Every recurrence in every form, called in one way: run(shared, tokens, state, start, mask) -> (outputs, state)."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dualform.recurrences import convolution, delta, dense, diagonal, outer, selective, softmax_scan, window, wkv
from dualform.recurrences.attention import attend
from dualform.recurrences.cells import cell


class Numbers(NamedTuple):
    """An array of what may be any number; of shares: decays, steps and the like, in [0, 1]; or of vectors of length 1 at most."""

    shape: tuple[int, ...]
    share: bool = False
    short: bool = False


free = lambda *shape: Numbers(shape)
share = lambda *shape: Numbers(shape, True)


class Recurrence(NamedTuple):
    """One that is called as run(shared, tokens, state, start, mask).

    - shared: what is the same for all tokens.  tokens: what each token has, without the axis of time.  state: before them.
    """

    run: Callable[..., Any]
    shared: tuple[Numbers, ...]
    tokens: tuple[Numbers, ...]
    state: tuple[Numbers, ...]


def _diagonal(form, shared, tokens, state, start, mask):
    return diagonal(tokens[0], tokens[1], state[0], start=start, mask=mask, form=form)


def _diagonal_complex(form, shared, tokens, state, start, mask):
    both = lambda a: jax.lax.complex(a[0], a[1])
    decay = tuple(a / 2**0.5 for a in tokens[:2])  # of modulus 1 at most
    h, final = diagonal(both(decay), both(tokens[2:]), both(state), start=start, mask=mask, form=form)
    return (h.real, h.imag), (final.real, final.imag)


def _outer(form, name, shared, tokens, state, start, mask):
    decay = {} if name is None else {name: tokens[3]}
    q, k, v = tokens[:3]
    return outer(q, k, v, state[0], **decay, start=start, mask=mask, form=form)


def _delta(form, shared, tokens, state, start, mask):
    q, k, v, b, a = tokens
    return delta(q, k, v, b, state[0], decay=a, start=start, mask=mask, form=form)


def _selective(form, shared, tokens, state, start, mask):
    x, steps, b, c = tokens
    return selective(x, steps, -shared[0], b, c, state[0], start=start, mask=mask, form=form)


def _wkv(form, shared, tokens, state, start, mask):
    k, v = tokens
    return wkv(-shared[0], shared[1], k, v, state, start=start, mask=mask, form=form)


def _softmax(form, shared, tokens, state, start, mask):
    scores, values = tokens
    return softmax_scan(scores, values, state, start=start, mask=mask, form=form)


def _convolution(shared, tokens, state, start, mask):
    return convolution(tokens[0], shared[0], state[0], start=start, mask=mask)


def _window(shared, tokens, state, start, mask):
    return window(tokens[0], 2, state[0], start=start, mask=mask)


def _dense(shared, tokens, state, start, mask):
    return dense(shared[0] / 2, tokens[0], state[0], start=start, mask=mask)


def _cell(shared, tokens, state, start, mask):
    def step(product, h, x_t):
        h = jnp.tanh(product(0, h) + x_t)
        return h, h

    y, final = cell(step, tokens[0].astype(state[0].dtype), state[0], weights=(shared[0],), start=start, mask=mask)
    return (y if mask is None else jnp.where(mask[:, None], y, jnp.zeros_like(y))), final


def _attend(shared, tokens, state, start, mask):
    time = len(tokens[0])
    place = jnp.arange(time, dtype=jnp.int32)
    first = jnp.zeros_like(place) if start is None else jax.lax.cummax(jnp.where(start, place, 0))
    q, k, v = (a[:, None] for a in tokens)
    return attend(q, k, v, first, place, span=time, block=4)[:, 0], ()


_DECAYS = {"none": (None, ()), "head": ("decay", ()), "rows": ("decay", (2,)), "columns": ("value_decay", (2,))}
_QKV = (free(2), free(2), free(2))

RECURRENCES: dict[str, Recurrence] = {
    **{
        f"diagonal {form}": Recurrence(partial(_diagonal, form), (), (share(2), free(2)), (free(2),))
        for form in ("scan", "associative", "naive")
    },
    **{
        f"complex diagonal {form}": Recurrence(
            partial(_diagonal_complex, form), (), (share(2), share(2), free(2), free(2)), (free(2), free(2))
        )
        for form in ("scan", "associative", "naive")
    },
    **{
        f"outer {kind} {form}": Recurrence(
            partial(_outer, form, name), (), _QKV if name is None else (*_QKV, share(*shape)), (free(2, 2),)
        )
        for kind, (name, shape) in _DECAYS.items()
        for form in ("chunked", "parallel", "naive")
    },
    **{
        f"delta {form}": Recurrence(
            partial(_delta, form), (), (free(2), Numbers((2,), short=True), free(2), share(), share()), (free(2, 2),)
        )
        for form in ("chunked", "parallel", "naive")
    },
    **{
        f"selective {form}": Recurrence(
            partial(_selective, form), (share(2, 2),), (free(2), share(2), free(2), free(2)), (free(2, 2),)
        )
        for form in ("fused", "naive")
    },
    **{
        f"wkv {form}": Recurrence(
            partial(_wkv, form), (share(2), free(2)), (free(2), free(2)), (free(2), share(2), free(2))
        )
        for form in ("associative", "naive")
    },
    **{
        f"softmax_scan {form}": Recurrence(
            partial(_softmax, form), (), (free(2), free(2, 2)), (free(2), share(2), free(2, 2))
        )
        for form in ("associative", "naive")
    },
    "convolution": Recurrence(_convolution, (free(3, 2),), (free(2),), (free(2, 2),)),
    "window": Recurrence(_window, (), (free(2),), (free(2, 2),)),
    "dense": Recurrence(_dense, (share(2, 2),), (free(2),), (free(2),)),
    "cell": Recurrence(_cell, (share(2, 2),), (free(2),), (free(2),)),
    "attend": Recurrence(_attend, (), _QKV, ()),
}


def specification(name: str) -> Recurrence:
    """The naive form of a recurrence; of one that has a single form, that one."""
    naive = " ".join([*name.split()[:-1], "naive"])
    return RECURRENCES.get(naive, RECURRENCES[name])


def numbers(name: str, time: int, draw: Callable[[tuple[int, ...], Numbers], Any]) -> tuple[Any, Any, Any]:
    """What all tokens share, the tokens and the state, each array drawn by its shape and what it is of."""
    recurrence = RECURRENCES[name]
    each = lambda parts, *axes: tuple(draw((*axes, *part.shape), part) for part in parts)
    return each(recurrence.shared), each(recurrence.tokens, time), each(recurrence.state)


@functools.cache
def program(name: str) -> Callable[..., Any]:
    """A compiled function of the numbers, the flags and the tokens to read: what these give, the state, and gradients."""

    @jax.jit
    def run(given, start, mask, read):
        def total(given):
            y, final = RECURRENCES[name].run(*given, start, mask)
            kept = jax.tree_util.tree_map(
                lambda a: jnp.where(read.reshape(-1, *[1] * (a.ndim - 1)), a, jnp.zeros_like(a)), y
            )
            sums = [jnp.sum(jnp.sin(a)) for a in jax.tree_util.tree_leaves((kept, final))]
            return sum(sums[1:], sums[0]), (kept, final)

        return jax.value_and_grad(total, has_aux=True)(given)

    return run
