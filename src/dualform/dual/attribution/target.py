"""What is attributed: an output at a place, or the difference of two."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dualform.dual.frozen import freeze
from dualform.dual.layer import chosen
from dualform.dual.model_forms import first_activations, logit_direction
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

    - x: (time, d).  given: what was handed in, x or tokens by number, (time,).  direction: (d_out,), what the output at place
      `t` is multiplied with.
    """

    model: Any
    x: Float[Array, "time d"]
    given: Float[Array, "time d"] | Int[Array, " time"]
    state: Any
    start: Any
    mask: Any
    t: Int[Array, ""]
    direction: Float[Array, " d_out"]

    def outputs(self, x: Float[Array, "time d"]) -> Float[Array, "time d_out"]:
        """What the model itself gives at another input."""
        return freeze(self.model, x, self.state, start=self.start, mask=self.mask).y

    def score(self, x: Float[Array, "time d"], at: Any = None) -> Float[Array, ""]:
        """The attributed number at another input; where `at` is given, of a walk whose places pass through it."""
        if at is None:
            y = self.outputs(x)
        else:
            y, _ = walk(self.model, x, self.state, start=self.start, mask=self.mask, at=at)
        return y[self.t] @ self.direction.astype(y.dtype)


def question(model: Any, x: Any, target: Target | tuple, state: Any, start: Any, mask: Any) -> Question:
    """The question, checked.

    **Raises:** `InputError` for a place or an output that there is not.
    """
    target, given = as_target(target), x
    x, start, mask = first_activations(model, x, start, mask)
    (t,) = chosen([target.t], len(x), "place")
    rows, d_out = _outputs(model, x, state, start, mask)
    if rows is not None:
        # A model that pools says one thing, of all that it reads: at place t, of the tokens up to there.
        mask = (jnp.ones(len(x), bool) if mask is None else mask) & (jnp.arange(len(x)) <= t)
    direction = jnp.asarray(logit_direction(d_out, target.token, target.against), x.dtype)
    # An array, not a number: one program serves all places.
    return Question(model, x, jnp.asarray(given), state, start, mask, jnp.asarray(t), direction)


@eqx.filter_jit
def _outputs(model, x, state, start, mask) -> tuple[Any, int]:
    """Which rows of the output the model gives, and its width: known once the call is traced, before any number of it is."""
    own = freeze(model, x, state, start=start, mask=mask)
    return own.rows, own.y.shape[1]
