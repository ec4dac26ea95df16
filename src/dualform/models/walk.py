"""A model run with its named places open: what passes each of them may be looked at, and changed.

The places of a stage NAME: `NAME.in`, `NAME.out`; of each part of one that is made of layers also `NAME.PART.in` and
`NAME.PART.out` (a block's `mixer`, `mlp`, `norm` and `mlp_norm`); and, of a stage that remembers, `NAME.state@t`, its state after
token t. A place is a layer around a layer (`Watched`), so that a walk is the model's own pass.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import State, TimeMask
from dualform.compiled import compiled
from dualform.layer import Layer, as_layer, inside
from dualform.maps import Frozen, Held, present
from dualform.models.chain import AbstractMade, core, in_turn
from dualform.models.model import AbstractModel
from dualform.segments import Segments

At = Callable[[str, Any], Any]
"""Called at every place with its name and what passes there; what it returns goes on."""


class AbstractAround(Layer):
    """A layer in another's place, of its widths and its state."""

    layer: eqx.AbstractVar[Any]
    composite: ClassVar[bool] = True

    @property
    def d_in(self) -> int:
        """The layer's."""
        return self.layer.d_in

    @property
    def d_out(self) -> int:
        """The layer's."""
        return self.layer.d_out

    @property
    def tokenwise(self) -> bool:
        """As the layer is."""
        return as_layer(self.layer).tokenwise

    def init_state(self) -> State:
        """The layer's."""
        return as_layer(self.layer).init_state()

    def as_part(self, x, state, segments):
        """As it is."""
        return self.at(x, state, segments)


class Watched(AbstractAround):
    """A layer, with what goes in and comes out at its places, and its state after some tokens. Its map takes nothing.

    **Arguments:** cuts: the tokens after which the state is a place of `stage`, in order; mask: where there are tokens; what
    passes is 0 elsewhere.
    """

    layer: Any
    name: str = eqx.field(static=True)
    look: At = eqx.field(static=True)
    cuts: Sequence[int] = eqx.field(static=True, default=())
    stage: str = eqx.field(static=True, default="")
    mask: TimeMask | None = None

    def at(self, x, state, segments):
        """The whole sequence, or stretch by stretch with the state handed on through its place."""
        x, outputs, first = self.look(f"{self.name}.in", present(x, self.mask)), [], 0
        run = _opened_pass if isinstance(self.layer, AbstractMade) else _pass
        for end in [*(cut + 1 for cut in self.cuts), len(x)]:
            if end > first:
                part = lambda a, first=first, end=end: None if a is None else a[first:end]
                here = Segments(*map(part, (segments.start, segments.mask)))
                y, state = run(self.layer, x[first:end], state, here)
                outputs.append(y)
            if end - 1 in self.cuts:
                state = self.look(f"{self.stage}.state@{end - 1}", state)
            first = end
        y = outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs)
        y = self.look(f"{self.name}.out", present(y, self.mask))
        return Frozen(y, state, Held(y))


class Opened(AbstractAround):
    """A layer whose map gives `change` whatever it takes: so the map of what it is a part of shows what becomes of that."""

    layer: Any
    change: Float[Array, "time d_out"]

    def at(self, x, state, segments):
        """The layer's own pass, but for the map."""
        return inside(self.layer, x, state, segments)._replace(map=Held(self.change))


def _opened_pass(layer: Any, x: Float[Array, "time d"], state: State, segments: Segments) -> tuple[Array, State]:
    """What a layer gives, the places of its parts looked at."""
    return inside(layer, x, state, segments)[:2]


_pass = compiled(_opened_pass)
"""What a layer gives that has no places inside: one program, as its call is."""


def watched(
    layer: Any, name: str, look: At, mask: TimeMask | None, cuts: Sequence[int] = (), stage: str | None = None
) -> Watched:
    """A layer with all its places, and those of its parts; its state is looked at in the one part that carries."""
    carries, stage = core(layer)[:1], name if stage is None else stage
    if isinstance(layer, AbstractMade):
        for part in layer.parts():
            own = cuts if part in carries else ()
            layer = part.put(layer, watched(part.of(layer), f"{name}.{part.name}", look, mask, own, stage))
    return Watched(layer, name, look, () if carries else cuts, stage, mask)


def opened(layer: Any, change: Float[Array, "time d_out"]) -> Layer:
    """A layer with the part that carries (`core`) opened."""
    way = core(layer)
    return way[0].put(layer, opened(way[0].of(layer), change)) if way else Opened(layer, change)


def read_by_core(layer: Any, x: Float[Array, "time d"], state: State, segments: Segments) -> Float[Array, "time d_in"]:
    """What the part of a layer that carries (`core`) reads; x itself where it is no part."""
    found: dict[str, Any] = {}
    inside(watched(layer, "", lambda place, value: found.setdefault(place, value), segments.mask), x, state, segments)
    return found[core_place(layer, "", "in")]


def core_place(layer: Any, name: str, end: str) -> str:
    """The place at which the part of a layer that carries (`core`) reads ("in") or gives ("out")."""
    return ".".join((name, *(part.name for part in core(layer)), end))


def walk(
    model: AbstractModel,
    x: Float[Array, "time d"],
    state: State | None = None,
    *,
    start=None,
    mask=None,
    at: At,
    cuts: Mapping[str, Sequence[int]] | None = None,
) -> tuple[Float[Array, "time d_out"], tuple[State, ...]]:
    """What a model gives, with `at` called at every place on the way.

    **Arguments:** x: what its first stage takes; state, start, mask: as of its call; cuts: for a stage's name, the tokens
    after which its state is a place, too, in order.

    **Returns:** the last stage's output, and every stage's state.
    """
    x, state, segments = model.checked(x, state, start, mask)
    stages = [watched(stage, name, at, segments.mask, (cuts or {}).get(name, ())) for name, stage in model.stages()]
    passes = in_turn(stages, model.split(state), x, segments)
    return passes[-1].y, tuple(each.state for each in passes)


def places(model: AbstractModel) -> tuple[str, ...]:
    """The names of a model's places, in order, but for those of states."""
    return tuple(place for name, stage in model.stages() for place in _places(stage, name))


def _places(layer: Any, name: str) -> list[str]:
    within = layer.parts() if isinstance(layer, AbstractMade) else ()
    inner = [place for part in within for place in _places(part.of(layer), f"{name}.{part.name}")]
    return [f"{name}.in", *inner, f"{name}.out"]
