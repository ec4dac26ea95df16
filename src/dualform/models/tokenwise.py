"""What a model does to each token by itself: norms, MLPs, matrices; how they are frozen is written once."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float

from dualform.maps import NONLINEAR, CausalMap, Frozen, masked, present
from dualform.maps.frozen import Kind


class AbstractTokenwise(eqx.Module):
    """A layer that looks at one token at a time, (time, d_in) -> (time, d_out), and remembers nothing."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "time d_in"]) -> Float[Array, "time d_out"]:
        """Each token by itself."""

    @abc.abstractmethod
    def map_at(self, x: Float[Array, "time d_in"]) -> CausalMap:
        """With all that chooses it frozen at x, the map that it is: at x itself it gives the call, up to rounding."""

    @property
    def kind(self) -> Kind:
        """What freezing it means; a layer that is linear says so."""
        return NONLINEAR

    def frozen(
        self,
        x: Float[Array, "time d_in"],
        state: Any = None,
        start: Any = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> Frozen:
        """The call and the map; rows where there is no token are 0, whatever x holds there."""
        del state, start
        x = present(x, mask)
        return Frozen(present(self(x), mask), (), masked(self.map_at(x), mask), self.kind)
