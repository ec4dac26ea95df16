"""A model: a chain of named stages, from the activations of its tokens to its outputs."""

import abc
from typing import Any, ClassVar

from jaxtyping import Array, Float

from dualform.arrays import State
from dualform.layer import Layer, as_layer
from dualform.maps import Frozen
from dualform.models.chain import in_turn, product
from dualform.segments import Segments

Stages = tuple[tuple[str, Any], ...]


class AbstractModel(Layer):
    """y = stage_L(... stage_1(x) ...). Its state is a tuple, one for each stage that remembers.

    A stage is a layer, or a module of a user's own (`layer.Foreign`); each reads what the one before it gives in the dtype of x.
    """

    composite: ClassVar[bool] = True

    @abc.abstractmethod
    def stages(self) -> Stages:
        """The chain, (time, d_in) -> (time, d_out): each stage with its name."""

    @property
    def wide(self) -> bool:
        """As the last stage's outputs are."""
        return as_layer(self.stages()[-1][1]).wide

    def init_state(self) -> State:
        """One state for each stage that remembers."""
        layers = [as_layer(stage) for _, stage in self.stages()]
        return self.joined([layer.init_state() for layer in layers])

    def split(self, state: State) -> tuple[State, ...]:
        """The state of each stage, of the model's own; () for a stage that remembers nothing."""
        left = iter(state)
        return tuple(() if as_layer(stage).tokenwise else next(left) for _, stage in self.stages())

    def joined(self, states: Any) -> State:
        """The model's own state, of those of its stages: the inverse of `split`."""
        kept = zip(self.stages(), states, strict=True)
        return tuple(state for (_, stage), state in kept if not as_layer(stage).tokenwise)

    def passes(self, x, state: State, segments: Segments) -> tuple[tuple[str, Frozen], ...]:
        """Every stage by name, each frozen at what the one before it gives."""
        names, stages = zip(*self.stages(), strict=True)
        return tuple(zip(names, in_turn(stages, self.split(state), x, segments), strict=True))

    def at(self, x, state, segments):
        """The product of the stages' maps."""
        passes = [each for _, each in self.passes(x, state, segments)]
        return Frozen(passes[-1].y, self.joined([each.state for each in passes]), *product(passes))


class AbstractChain(AbstractModel):
    """A causal model from the activations of its input tokens to its outputs, which knows what it takes of a text or of sound."""

    @abc.abstractmethod
    def encode(self, source: Any) -> tuple[Float[Array, "time d_in"], tuple[str, ...]]:
        """What the first stage takes of a text or of sound, and the name of each token, for showing."""
