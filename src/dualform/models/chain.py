"""Layers made of layers: one after the other, side by side, and beside the stream that they are added to.

Their maps are products and sums of their parts'. What such a layer remembers is what its parts remember: of one that remembers,
its state as it is; of several, a tuple.
"""

import abc
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx

from dualform.arrays import State
from dualform.errors import require
from dualform.layer import Layer, as_layer, inside
from dualform.maps import CausalMap, Frozen, Identity, joint
from dualform.segments import Segments


class Part(NamedTuple):
    """A part of a layer: what it is called in it, its field there, and its place in a field of several."""

    name: str
    field: str
    number: int | None = None

    def of(self, layer: Any) -> Any:
        """The part."""
        value = getattr(layer, self.field)
        return value if self.number is None else value[self.number]

    def put(self, layer: Any, part: Any) -> Any:
        """The layer with another part in its place."""
        made = object.__new__(type(layer))
        for field in dataclasses.fields(layer):
            value = getattr(layer, field.name)
            if field.name == self.field:
                value = part if self.number is None else (*value[: self.number], part, *value[self.number + 1 :])
            object.__setattr__(made, field.name, value)
        return made


class AbstractMade(Layer):
    """A layer that is made of layers."""

    composite: ClassVar[bool] = True

    def parts(self) -> tuple[Part, ...]:
        """Its layers: those in its fields, by the field's name; in a field of several, numbered from 1."""
        found = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Layer):
                found.append(Part(field.name, field.name))
            elif isinstance(value, tuple):
                numbered = [i for i, each in enumerate(value) if isinstance(each, Layer)]
                found += [Part(f"{field.name} {i + 1}", field.name, i) for i in numbered]
        return tuple(found)


class Chain(AbstractMade):
    """y = last(... first(x) ...).

    **Raises:** `InputError` where there is no layer.
    """

    layers: tuple[Any, ...] = eqx.field(converter=tuple)

    def __check_init__(self):
        require(len(self.layers) >= 1, "a chain needs at least one layer.")

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.layers[0].d_in

    @property
    def d_out(self) -> int:
        """Width of what the last one gives."""
        return self.layers[-1].d_out

    @property
    def tokenwise(self) -> bool:
        """Where all of them are."""
        return all(as_layer(layer).tokenwise for layer in self.layers)

    @property
    def wide(self) -> bool:
        """As what the last one gives."""
        return as_layer(self.layers[-1]).wide

    def init_state(self) -> State:
        """The layers'."""
        return joined(self.layers, [as_layer(layer).init_state() for layer in self.layers])

    def at(self, x, state, segments):
        """The product of the maps."""
        passes = in_turn(self.layers, split(self.layers, state), x, segments)
        return Frozen(passes[-1].y, joined(self.layers, [each.state for each in passes]), *product(passes))


class Sum(AbstractMade):
    """y = first(x) + second(x) + ...: layers side by side on one input.

    **Raises:** `InputError` where there is no layer; when it is called, where they do not give one width.
    """

    layers: tuple[Any, ...] = eqx.field(converter=tuple)

    def __check_init__(self):
        require(len(self.layers) >= 1, "a sum needs at least one layer.")

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.layers[0].d_in

    @property
    def d_out(self) -> int:
        """Width of an output."""
        return self.layers[0].d_out

    @property
    def tokenwise(self) -> bool:
        """Where all of them are."""
        return all(as_layer(layer).tokenwise for layer in self.layers)

    def init_state(self) -> State:
        """The layers'."""
        return joined(self.layers, [as_layer(layer).init_state() for layer in self.layers])

    def at(self, x, state, segments):
        """The sum of the maps."""
        given = zip(self.layers, split(self.layers, state), strict=True)
        first, *others = [inside(layer, x, before, segments) for layer, before in given]
        y, whole = first.y, first.map
        for other in others:
            widths = y.shape[1], other.y.shape[1]
            require(
                widths[0] == widths[1], f"layers of a sum give widths of {widths[0]} and {widths[1]}; they must be one."
            )
            y, whole = y + other.y, whole + other.map
        after = joined(self.layers, [first.state, *(other.state for other in others)])
        return Frozen(y, after, whole, joint((first.kind, *(other.kind for other in others))))


class Residual(AbstractMade):
    """y = x + layer(x).

    **Raises:** `InputError`, when it is called, where what the layer gives is not as wide as what it takes.
    """

    layer: Any

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.layer.d_in

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.layer.d_in

    @property
    def tokenwise(self) -> bool:
        """Where the layer is."""
        return as_layer(self.layer).tokenwise

    def init_state(self) -> State:
        """The layer's."""
        return as_layer(self.layer).init_state()

    def at(self, x, state, segments):
        """The identity beside the layer's map."""
        y, after, map, kind, _ = inside(self.layer, x, state, segments)
        require(
            y.shape == x.shape,
            f"what is added to tokens of width {x.shape[1]} must be as wide; the layer gives {y.shape[1]}.",
        )
        return Frozen(x + y, after, Identity() + map, kind)


class Composition(AbstractMade):
    """A layer that is a chain, a sum or a residual stream of its own parts, and says which: `whole`."""

    @property
    @abc.abstractmethod
    def whole(self) -> Layer:
        """The layer, put together."""

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.whole.d_in

    @property
    def d_out(self) -> int:
        """Width of an output."""
        return self.whole.d_out

    @property
    def tokenwise(self) -> bool:
        """Where all of it is."""
        return self.whole.tokenwise

    def init_state(self) -> State:
        """What its parts remember."""
        return self.whole.init_state()

    def at(self, x, state, segments):
        """As it is put together."""
        return self.whole.at(x, state, segments)


def chain(*layers: Any) -> Layer:
    """The layers that are there, one after the other; None stands for one that is not."""
    present = tuple(layer for layer in layers if layer is not None)
    return present[0] if len(present) == 1 else Chain(present)


def core(layer: Any) -> tuple[Part, ...]:
    """The way to the one part of a layer that carries from token to token, as a block's mixer does; () to the layer itself."""
    if not isinstance(layer, AbstractMade):
        return ()
    carrying = [part for part in layer.parts() if not as_layer(part.of(layer)).tokenwise]
    return (carrying[0], *core(carrying[0].of(layer))) if len(carrying) == 1 else ()


def remembers(layer: Any) -> bool:
    """Whether a layer has one state that can be looked at: its own, or that of the one part of it that carries."""
    return not as_layer(layer).tokenwise and (bool(core(layer)) or not isinstance(layer, AbstractMade))


def core_of(layer: Any) -> Any:
    """That part: a block's mixer; the layer itself where several of its parts carry, or it is not made of layers."""
    for part in core(layer):
        layer = part.of(layer)
    return layer


def in_turn(layers: Iterable[Any], states: Iterable[State], x, segments: Segments) -> list[Frozen]:
    """Every layer frozen at what the one before it gives."""
    passes: list[Frozen] = []
    for layer, before in zip(layers, states, strict=True):
        passes.append(inside(layer, x, before, segments))
        x = passes[-1].y
    return passes


def product(passes: Sequence[Frozen]) -> tuple[CausalMap, Any]:
    """The map that passes are, one after the other, and its kind."""
    whole = passes[0].map
    for each in passes[1:]:
        whole = each.map @ whole
    return whole, joint(each.kind for each in passes)


def joined(layers: Sequence[Any], states: Sequence[State]) -> State:
    """The state of layers together: of one that remembers, its own; of several, a tuple."""
    kept = tuple(state for layer, state in zip(layers, states, strict=True) if not as_layer(layer).tokenwise)
    return kept[0] if len(kept) == 1 else kept


def split(layers: Sequence[Any], state: State) -> tuple[State, ...]:
    """The state of each layer, () for one that remembers nothing: the inverse of `joined`."""
    remember = [not as_layer(layer).tokenwise for layer in layers]
    left = iter((state,) if sum(remember) == 1 else state)
    return tuple(next(left) if here else () for here in remember)
