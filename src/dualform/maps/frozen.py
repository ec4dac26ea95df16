"""What freezing a module at an input gives."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from jaxtyping import Array, Bool, Float

from dualform.arrays import State
from dualform.maps.causal_map import CausalMap

Kind: TypeAlias = Literal["linear given its gates", "frozen nonlinearity"]

LINEAR: Kind = "linear given its gates"
NONLINEAR: Kind = "frozen nonlinearity"


class Frozen(NamedTuple):
    """A module frozen at an input x.

    - y: (time, d_out), the module's own output.  state: what it remembers after the last token.
    - map: (time, d_in) -> (time, d_out); map(x) is y up to rounding, and the rows where there is no token are 0.
    - kind: whether the map is the module's own (*linear given its gates*), or one exact decomposition among others.
    - rows: the rows of y that the module's own call gives, None for all. A model that pools gives one, at its last token; the
      others are the map's own, and no certificate speaks of them.
    """

    y: Float[Array, "time d_out"]
    state: State
    map: CausalMap
    kind: Kind = LINEAR
    rows: Bool[Array, " time"] | None = None


def joint(kinds: Iterable[Kind]) -> Kind:
    """The kind of what is made of parts: linear where each of them is."""
    return LINEAR if all(kind == LINEAR for kind in kinds) else NONLINEAR
