"""Two mixers on one sequence, one of them from its end: for sequences that are there as a whole."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, count_parameters
from dualform.compiled import compiled
from dualform.errors import require
from dualform.maps import Beside, Frozen, Summed, Turned, joint
from dualform.mixers import AbstractMixer

JOINS = ("sum", "concatenate")


class Bidirectional(eqx.Module):
    """y_t = forward(x)_t + backward(x in reverse)_t, or the two beside each other.

    It is not causal: it has no step and no state to carry, and takes whole documents. Packed documents stay apart in both
    directions, and absent tokens are passed over.

    **Arguments:** forward, backward: mixers of the same width in; join: "sum" (of the same width out, too) or "concatenate".

    **Raises:** `InputError` where widths do not fit, or for another join.

    **Source:** Schuster & Paliwal 1997, concatenated.
    """

    forward: AbstractMixer
    backward: AbstractMixer
    join: str = eqx.field(default="sum", static=True)

    def __check_init__(self):
        require(self.join in JOINS, f"there is no join {self.join!r}; there are {', '.join(JOINS)}.")
        require(
            self.forward.d_in == self.backward.d_in,
            f"forward takes tokens of width {self.forward.d_in}, backward of {self.backward.d_in}; both read one sequence.",
        )
        require(
            self.join == "concatenate" or self.forward.d_out == self.backward.d_out,
            f"forward gives a width of {self.forward.d_out}, backward of {self.backward.d_out}, which cannot be summed. "
            "Concatenate them.",
        )

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.forward.d_in

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.forward.d_out + (self.backward.d_out if self.join == "concatenate" else 0)

    def init_state(self) -> State:
        """Nothing: a sequence is read as a whole."""
        return ()

    @compiled
    def __call__(
        self,
        x: Float[Array, "time d_in"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time d_out"], State]:
        """The whole sequence; arguments, returns and errors as of a mixer's call, but that there is no state."""
        require(
            state is None or state == (),
            "a bidirectional mixer has no state to go on from: what comes later changes what it gave. Give it the whole "
            "sequence.",
        )
        ahead, _ = self.forward(x, start=start, mask=mask)  # it checks the arguments, too
        turned = lambda a: None if a is None else a[::-1]
        back, _ = self.backward(x[::-1], start=turned(last_tokens(len(x), start, mask)), mask=turned(mask))
        if self.join == "sum":
            return ahead + back[::-1], ()
        return jnp.concatenate([ahead, back[::-1]], axis=1), ()

    def frozen(self, x: Float[Array, "time d_in"], state: Any = None, start: Any = None, mask: Any = None) -> Frozen:
        """The call and both mixers' maps, one of them in reverse."""
        y, after = self(x, state, start=start, mask=mask)
        turned = lambda a: None if a is None else a[::-1]
        ahead = self.forward.frozen(x, None, start, mask)
        back = self.backward.frozen(x[::-1], None, turned(last_tokens(len(x), start, mask)), turned(mask))
        whole = Summed if self.join == "sum" else Beside
        return Frozen(y, after, whole(ahead.map, Turned(back.map)), joint((ahead.kind, back.kind)))

    def step(self, x_t: Any, state: Any, **flags: Any) -> Any:
        """Never: the output at a token needs those after it.

        **Raises:** `InputError`.
        """
        del x_t, state, flags
        require(
            False, "a bidirectional mixer has no step: the output at a token needs those after it. Call it instead."
        )

    def parameters(self) -> int:
        """How many numbers it learns."""
        return count_parameters(self)


def last_tokens(
    time: int, start: Bool[Array, " time"] | None, mask: Bool[Array, " time"] | None
) -> Bool[Array, " time"] | None:
    """The last token of each document but the last one: where, from the end, a document begins."""
    if start is None:
        return None
    here = jnp.ones(time, bool) if mask is None else mask
    place = jnp.where(here, jnp.arange(time), jnp.full(time, time))
    following = jnp.append(jax.lax.cummin(place, reverse=True)[1:], jnp.array([time], place.dtype))
    return here & jnp.append(start & here, jnp.array([False]))[following]
