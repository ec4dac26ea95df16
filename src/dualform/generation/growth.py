"""States that grow with what is read: places for a short text at first, twice as many whenever they are taken, up to the bound.

A program is compiled for each size, so that a text of n tokens meets about log2(n / `LEAST`) of them.
"""

from collections.abc import Iterator
from typing import Any, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from dualform.arrays import State
from dualform.counts import count_of
from dualform.errors import require
from dualform.generation.places import read_before
from dualform.growing import grows, places_of_parts

LEAST = 256
"""Places of the smallest state, a chunk's: a program for fewer costs more than they do, beside a model's weights."""


def state_for(model: Any, tokens: SupportsIndex, state: State | None = None) -> State:
    """A state with places for so many tokens, rounded up to a power of 2, and at most those of `init_state()`.

    The model's call and step take it as they take any state, and give one with as many places: a step reads and copies no more
    than these. Where they are taken, a call that goes on is refused; under `jax.jit`, where nobody can look, it gives NaN. A
    `Session`, and all that writes through one, asks for more by itself.

    **Arguments:** model: a mixer or a model; tokens: how many are to be kept, those that were read among them; state: to be given
    more places; an empty one if not given. What has as many places already is given back.

    **Raises:** `InputError` for fewer than 1 token, under `jax.jit`, and for a state that has lost tokens.

        >>> import jax
        >>> from dualform import generation, models
        >>> model = models.llama(key=jax.random.key(0), vocabulary=5, d=8, layers=1, heads=2, kv_heads=2, hidden=8, context=4096)
        >>> logits, state = model(jax.numpy.arange(5), generation.state_for(model, 70))
        >>> state[0][0].keys.shape, generation.state_for(model, 300, state)[0][0].keys.shape
        ((2, 256, 4), (2, 512, 4))
    """
    tokens = count_of("tokens", tokens, 1, "give room for at least 1 token")
    if state is None:
        return first_state(model, None, tokens)
    require(
        not any(isinstance(leaf, Tracer) for leaf in jax.tree_util.tree_leaves(state)),
        "this state is traced, and in a program a state keeps its places. Give it enough before, outside of jax.jit.",
    )
    return grown(state, bounds_of(model), tokens, read_before(state))


def bounds_of(model: Any) -> tuple[int, ...]:
    """How many places each part that may grow has at most."""
    return places_of_parts(jax.eval_shape(model.init_state))


def has_room(state: State, bounds: tuple[int, ...], tokens: int) -> bool:
    """Whether a state has places for so many tokens, or as many as its bounds."""
    return not bounds or all(p >= min(tokens, most) for p, most in zip(places_of_parts(state), bounds, strict=True))


def grown(state: State, bounds: tuple[int, ...], tokens: int, read: int) -> State:
    """The state with places for so many tokens, those that it has where they are enough.

    **Arguments:** bounds: of `bounds_of`; read: how many tokens it has read.

    **Raises:** `InputError` where a token found no place in it.
    """
    if has_room(state, bounds, tokens):
        return state
    left: Iterator[int] = iter(bounds)

    def wider(part: Any) -> Any:
        if not grows(part):
            return part
        most = next(left)
        if part.places >= min(tokens, most):
            return part
        require(
            read <= part.places,
            f"{read:,} tokens were read into a state with places for {part.places:,}: the others are lost. Give it places before "
            "they are taken, and read the text anew.",
        )
        return part.of_places(min(rounded(tokens), most))

    return jax.tree_util.tree_map(wider, state, is_leaf=grows)


def rounded(tokens: int) -> int:
    """How many places a state for so many tokens has, if its bound allows."""
    return max(LEAST, 1 << (tokens - 1).bit_length())


def first_state(model: Any, texts: int | None, tokens: int | None = None) -> State:
    """The state of a text of which nothing was read; of several, each array with an axis of texts before its own.

    **Arguments:** tokens: that it has places for, at least; None: as many as `init_state()`.
    """
    bounds = bounds_of(model)
    places = tuple(most if tokens is None else min(most, rounded(tokens)) for most in bounds)
    if places != bounds:
        state = _empty(model, places)
    else:
        state = model.init_state()
    if texts is None:
        return state
    return jax.tree_util.tree_map(lambda a: jnp.broadcast_to(a[None], (texts, *jnp.shape(a))), state)


@eqx.filter_jit
def _empty(model: Any, places: tuple[int, ...]) -> State:
    """The initial state with so many places in each part: compiled, the others are never made."""
    left = iter(places)
    state = model.init_state()
    return jax.tree_util.tree_map(
        lambda part: part.of_places(next(left)) if grows(part) else part, state, is_leaf=grows
    )
