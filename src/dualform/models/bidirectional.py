"""Two mixers on one sequence, one of them from its end: for sequences that are there as a whole."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from dualform.arrays import State
from dualform.errors import require
from dualform.layer import Layer, inside
from dualform.maps import Beside, Frozen, Turned, joint
from dualform.mixers import AbstractMixer
from dualform.segments import Segments

JOINS = ("sum", "concatenate")


class Bidirectional(Layer):
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
    causal: ClassVar[bool] = False
    composite: ClassVar[bool] = True

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

    def checked_state(self, state: Any) -> State:
        """Nothing: a sequence is read as a whole.

        **Raises:** `InputError` for any state.
        """
        require(
            state == (),
            "a bidirectional mixer has no state to go on from: what comes later changes what it gave. Give it the whole "
            "sequence.",
        )
        return state

    def at(self, x, state, segments):
        """Both mixers' maps, one of them in reverse."""
        turned = lambda a: None if a is None else a[::-1]
        ends = last_tokens(len(x), segments.start, segments.mask)
        ahead = inside(self.forward, x, self.forward.init_state(), segments)
        reverse = Segments(turned(ends), turned(segments.mask))
        back = inside(self.backward, x[::-1], self.backward.init_state(), reverse)
        kind, turned_map = joint((ahead.kind, back.kind)), Turned(back.map)
        if self.join == "sum":
            return Frozen(ahead.y + back.y[::-1], state, ahead.map + turned_map, kind)
        return Frozen(jnp.concatenate([ahead.y, back.y[::-1]], axis=1), state, Beside(ahead.map, turned_map), kind)


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
