"""Where documents begin in a sequence, and where there is a token at all."""

from typing import TypedDict

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from dualform.arrays import TimeMask


class Flags(TypedDict):
    """What every recurrence takes: see `Segments`."""

    start: TimeMask | None
    mask: TimeMask | None


class Segments(eqx.Module):
    """The documents of one sequence, and its gaps.

    - start: (time,), a document begins at this token; None where none does.
    - mask: (time,), False where there is no token; None where all are there.
    """

    start: Bool[Array, " time"] | None = None
    mask: Bool[Array, " time"] | None = None

    @property
    def flags(self) -> Flags:
        """Both, as keyword arguments of a recurrence."""
        return {"start": self.start, "mask": self.mask}

    def among(self, tokens: Bool[Array, " time"]) -> tuple["Segments", Bool[Array, ""] | None]:
        """The documents and gaps that some of the tokens see, the others passed over.

        **Arguments:** tokens: (time,), True for these.

        **Returns:** the segments, mask: these tokens, as far as they are there, start: at the first of them in each document that
        begins here; and whether the last document has none of them, so that what they remember is forgotten, None where no
        document begins.
        """
        here = tokens if self.mask is None else tokens & self.mask
        if self.start is None:
            return Segments(None, here), None
        document = jnp.cumsum(self.start.astype(jnp.int32))
        seen = jax.lax.cummax(jnp.where(here, document, jnp.zeros_like(document)))
        before = jnp.concatenate([jnp.zeros_like(seen[:1]), seen[:-1]])
        return Segments(here & (document > before), here), document[-1] > seen[-1]

    def visible(self, time: int) -> Bool[Array, "time source"]:
        """Which tokens each may take from: itself and those before it in its document, where there are tokens at all."""
        present = jnp.ones(time, bool) if self.mask is None else self.mask
        document = jnp.cumsum(jnp.zeros(time, int) if self.start is None else (self.start & present).astype(int))
        return jnp.tril(document[:, None] == document[None]) & present[:, None] & present[None]
