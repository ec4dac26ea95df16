"""A model that is a chain of named stages, and what its stages have in common."""

import abc
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, accumulator
from dualform.maps import CausalMap, Scale, present
from dualform.models.block import check_call
from dualform.models.stepped import AbstractStepped, check_activations
from dualform.models.tokenwise import AbstractTokenwise


class AbstractChain(AbstractStepped):
    """y = stage_L(... stage_1(x) ...): a causal model from the activations of its input tokens to its outputs.

    A stage is a mixer, or a module that does something to each token by itself and has no `init_state`. The state is a tuple,
    one for each stage that has one.
    """

    @property
    @abc.abstractmethod
    def d_in(self) -> int:
        """Width of a token."""

    @abc.abstractmethod
    def stages(self) -> tuple[tuple[str, Any], ...]:
        """The chain, each stage with its name."""

    @abc.abstractmethod
    def encode(self, source: Any) -> tuple[Float[Array, "time d_in"], tuple[str, ...]]:
        """What the first stage takes of a text or of sound, and the name of each token, for showing."""

    def init_state(self) -> State:
        """One state for each stage that has one."""
        return tuple(stage.init_state() for _, stage in self.stages() if hasattr(stage, "init_state"))

    def __call__(
        self,
        x: Float[Array, "time d_in"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time d_out"], State]:
        """The whole sequence at once; arguments, returns and errors as of a mixer's call."""
        name = type(self).__name__
        check_activations(x, self.d_in, name)
        state = self.init_state() if state is None else state
        check_call(len(x), start, mask, self, state, name)
        left, after, dtype = iter(state), [], x.dtype
        x = present(x, mask)
        for _, stage in self.stages():
            if hasattr(stage, "init_state"):
                x, now = stage(x, next(left), start=start, mask=mask)
                after.append(now)
            else:
                x = stage(x)
            x = present(x.astype(dtype), mask)
        return x, tuple(after)


class ReLU(AbstractTokenwise):
    """y_t = max(x_t, 0). Frozen, the open set stays."""

    def __call__(self, x: Float[Array, "time d"]) -> Float[Array, "time d"]:
        """Each token by itself."""
        return jnp.maximum(x, jnp.zeros_like(x))

    def map_at(self, x: Float[Array, "time d"]) -> CausalMap:
        """The open set."""
        return Scale((x > 0).astype(x.dtype))


def wide_of(x: Array, *others: Array) -> jnp.dtype:
    """The dtype in which a stage works."""
    return accumulator(x.dtype, *(other.dtype for other in others))
