"""What is attributed: an output at a place, or the difference of two."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dualform.dual.layer import chosen
from dualform.dual.model_form import first_activations, logit_direction
from dualform.errors import require
from dualform.models.walk import walk


class Target(NamedTuple):
    """Output `token` at place `t`, less output `against` there if it is given."""

    t: int
    token: int
    against: int | None = None


def as_target(target: Any) -> Target:
    """(t, token) or (t, token, against) as a `Target`.

    **Raises:** `InputError` for anything else.
    """
    require(
        isinstance(target, tuple) and 2 <= len(target) <= 3,
        f"a target is (t, token) or (t, token, against), whole numbers; got {target!r}.",
    )
    return Target(*target)


class Question(NamedTuple):
    """A model, what its first stage takes, and what is attributed: what every method is given.

    - x: (time, d).  direction: (d_out,), what the output at place `t` is multiplied with.
    """

    model: Any
    x: Float[Array, "time d"]
    state: Any
    start: Any
    mask: Any
    t: Int[Array, ""]
    direction: Float[Array, " d_out"]

    def score(self, x: Float[Array, "time d"], at=lambda place, value: value) -> Float[Array, ""]:
        """The attributed number at another input, places passing through `at`."""
        y, _ = walk(self.model, x, self.state, start=self.start, mask=self.mask, at=at)
        return y[self.t] @ self.direction.astype(y.dtype)


def question(model: Any, x: Any, target: Target | tuple, state: Any, start: Any, mask: Any) -> Question:
    """The question, checked.

    **Raises:** `InputError` for a place or an output that there is not.
    """
    target = as_target(target)
    x, start, mask = first_activations(model, x, start, mask)
    (t,) = chosen([target.t], len(x), "place")
    d_out = _d_out(model, x, state, start, mask)
    direction = jnp.asarray(logit_direction(d_out, target.token, target.against), x.dtype)
    # An array, not a number: one program serves all places.
    return Question(model, x, state, start, mask, jnp.asarray(t), direction)


@eqx.filter_jit
def _d_out(model, x, state, start, mask) -> int:
    """The width of the output, known once the run is traced: no number of it is computed."""
    y, _ = walk(model, x, state, start=start, mask=mask, at=lambda place, value: value)
    return y.shape[1]
