"""What every model of activations has: a step made of its call, and a count of its parameters."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, count_parameters
from dualform.errors import require
from dualform.mixers.mixer import flag_of, one_step


class AbstractStepped(eqx.Module):
    """A model that is called as a mixer is, (time, d_in) -> (time, d_out) with a state; its step is a call of one token."""

    def step(
        self,
        x_t: Float[Array, " d_in"],
        state: State,
        *,
        start: Bool[Array, ""] | bool | None = None,
        mask: Bool[Array, ""] | bool | None = None,
    ) -> tuple[Float[Array, " d_out"], State]:
        """One token, (d_in,) -> (d_out,), in constant memory; of a model that pools, the output of all that was read so far."""
        return one_step(self, x_t, state, flag_of(start), flag_of(mask))

    def parameters(self) -> int:
        """How many numbers it learns."""
        return count_parameters(self)


def check_activations(x: Any, d_in: int, what: str) -> None:
    """Raise `InputError` unless x is one sequence of real activations of that width; `what` takes it."""
    require(
        getattr(x, "ndim", 0) == 2 and x.shape[1] == d_in,
        f"{what} takes one sequence, (time, {d_in}); got shape {getattr(x, 'shape', None)}. For a batch use jax.vmap.",
    )
    require(
        jnp.issubdtype(x.dtype, jnp.floating),
        f"{what} takes real floating-point activations; got {x.dtype}. Embed token ids first, or cast.",
    )
