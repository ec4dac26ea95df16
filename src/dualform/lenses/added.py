"""A model with something done at every token behind some of its blocks, or to what they remember: an edit that all forms know.

An edit of `lenses.trace` is of one call. What is done here is part of the model: its steps, sessions, batches, gradients and dual
form know it, and states of the model go on in the changed one, and back.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from dualform.arrays import State
from dualform.errors import require
from dualform.layer import Layer, as_layer, inside
from dualform.maps import LINEAR, NONLINEAR, Frozen, Held, Identity
from dualform.models.chain import Chain, Composition, core
from dualform.models.tokenwise import AbstractTokenwise
from dualform.segments import Segments

M = TypeVar("M", bound=eqx.Module)


class Added(AbstractTokenwise):
    """y_t = x_t + b.

    **Arguments:** b (d,).

    **Raises:** `InputError` where b is no vector.
    """

    b: Float[Array, " d"] = eqx.field(converter=jnp.asarray)

    def __check_init__(self):
        require(self.b.ndim == 1, f"what is added has shape {self.b.shape}; it must be (d,).")

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return len(self.b)

    @property
    def d_out(self) -> int:
        """As wide."""
        return len(self.b)

    @property
    def kind(self):
        """Nothing is frozen."""
        return LINEAR

    def at(self, x, state, segments):
        """The identity, and b at every token."""
        b = jnp.broadcast_to(self.b.astype(x.dtype)[None], x.shape)
        return Frozen(x + b, state, Identity() + Held(b))


class Behind(Composition):
    """y = after(block(x)).

    **Arguments:** block: any; after: a layer that looks at one token at a time, of the block's width in and out.

    **Raises:** `InputError` where the widths differ.
    """

    block: Layer
    after: AbstractTokenwise

    def __check_init__(self):
        widths = self.block.d_out, self.after.d_in, self.after.d_out
        require(
            len(set(widths)) == 1,
            f"the block gives tokens of width {widths[0]}; what stands behind it takes {widths[1]} and gives {widths[2]}.",
        )

    @property
    def whole(self) -> Layer:
        """One after the other."""
        return Chain((self.block, self.after))

    @property
    def mixer(self) -> Any:
        """The block's."""
        return getattr(self.block, "mixer")  # noqa: B009 - only some blocks have one


class StateAdded(Layer):
    """y_t, S_t = layer(x_t, S_{t-1} + change): a constant added to the state before each token.

    Where a document begins, it is added to the initial state. Tokens are read one after the other, also in a call. Frozen,
    nothing is carried: its map holds the output, which is all bias then.

    **Arguments:** layer: with a state; change: as its state, None for what stays as it is.
    """

    layer: Any
    change: PyTree

    @property
    def d_in(self) -> int:
        """The layer's."""
        return self.layer.d_in

    @property
    def d_out(self) -> int:
        """The layer's."""
        return self.layer.d_out

    @property
    def kind(self):
        """What the layer does is frozen whole."""
        return NONLINEAR

    def init_state(self) -> State:
        """The layer's."""
        return as_layer(self.layer).init_state()

    def at(self, x, state, segments):
        """Token by token."""
        initial = self.init_state()
        chosen = lambda flag, a, b: jtu.tree_map(lambda one, other: jnp.where(flag, one, other), a, b)

        def one(state, given):
            x_t, start, mask = given
            before = state if start is None else chosen(start, initial, state)
            y, after, *_ = inside(self.layer, x_t[None], plus(before, self.change), Segments())
            return after if mask is None else chosen(mask, after, state), y[0]

        state, y = jax.lax.scan(one, state, (x, segments.start, segments.mask))
        return Frozen(y, state, Held(y))


def plus(state: State, change: PyTree) -> State:
    """A state, or that of several texts with an axis of them in front, with so much added; what has None stays."""

    def add(more, leaf):
        if more is None:
            return leaf
        return leaf + more.astype(leaf.dtype).reshape((1,) * (leaf.ndim - more.ndim) + more.shape)

    return jtu.tree_map(add, change, state, is_leaf=lambda each: each is None)


def with_behind(model: M, layers: Mapping[str, AbstractTokenwise]) -> M:
    """The model with these layers behind its blocks.

    The places inside such a block are named "block 2.block.mixer.out" and so on.

    **Arguments:** model: with `blocks`; layers: by the place that they change, "block 2.out".

    **Raises:** `InputError` for a model without blocks, a place that is no block's output, and a layer of another width.
    """
    return _replaced(model, {place: lambda block, layer=layer: Behind(block, layer) for place, layer in layers.items()})


def with_states_added(model: M, changes: Mapping[str, PyTree]) -> M:
    """The model with a constant added to some blocks' states before each token.

    **Arguments:** model: with `blocks`; changes: by place, "block 2.state"; see `StateAdded`.

    **Raises:** `InputError` for a model without blocks, and a place that is no block's state.
    """
    return _replaced(
        model, {place: lambda block, change=change: _in_core(block, change) for place, change in changes.items()}
    )


def _in_core(block: Any, change: PyTree) -> Any:
    """The block with its part that carries (`chain.core`) changed."""
    way = core(block)
    return way[0].put(block, _in_core(way[0].of(block), change)) if way else StateAdded(block, change)


def _replaced(model: M, made: Mapping[str, Any]) -> M:
    blocks: Any = getattr(model, "blocks", None)
    require(blocks is not None, f"a {type(model).__name__} has no blocks; a LanguageModel or SequenceModel has.")
    places = {f"block {i + 1}.{what}": i for i in range(len(blocks)) for what in ("out", "state")}
    changed = list(blocks)
    for place, make in made.items():
        require(place in places, f"there is no place {place!r} of a block; there are {', '.join(places)}.")
        changed[places[place]] = make(changed[places[place]])
    return dataclasses.replace(model, blocks=tuple(changed))  # pyright: ignore[reportArgumentType] - a module is a dataclass
