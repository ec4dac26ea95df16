"""Truncated backpropagation through time: sequences that go on from step to step, with the states that were left behind them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int

from dualform.arrays import State
from dualform.errors import require
from dualform.models import LanguageModel
from dualform.models.language_model import context_of
from dualform.tasks import AbstractTask


class Carried(eqx.Module):
    """Data for `fit`: each step reads the next piece of every sequence of a batch, from the states that the last step left.

    The loss is the task's. Its gradient goes back to the beginning of the piece, and not into the state before it. The states are
    those that the weights of their own step gave, and are kept in checkpoints.

    **Arguments:** task: one that has `piece`, such as `tasks.Text`.

    **Raises:** `InputError` for a task whose sequences are independent.
    """

    task: AbstractTask

    def __check_init__(self):
        jax.eval_shape(self.sample, jnp.zeros((), jnp.int32))

    def sample(self, number: Int[Array, ""]) -> tuple[Any, Array]:
        """The batch of this number: ((inputs, which sequences begin anew), targets)."""
        (x, y), begins = self.task.piece(number)
        return (x, begins), y

    def begin(self, model: Any) -> State:
        """The states before the first token, with a leading axis of sequences.

        **Raises:** `InputError` for a model that goes on from no state, or only so far.
        """
        (x, _), _ = jax.eval_shape(self.sample, jnp.zeros((), jnp.int32))
        limit = context_of(model) if isinstance(model, LanguageModel) else None
        require(
            limit is None,
            f"this model goes on from a state for {limit} tokens alone, its context, and carried sequences have no end. Take a "
            "mixer with a window, such as local_attention, or a recurrent one.",
        )
        return jax.vmap(lambda _: model.init_state())(jnp.arange(len(x)))

    def loss(self, model: Any, x: Any, y: Array, states: State) -> tuple[Float[Array, ""], State]:
        """The mean loss of a piece, and the states behind it."""
        tokens, begins = x
        own = lambda fresh, left: jnp.where(begins.reshape(-1, *[1] * (left.ndim - 1)), fresh.astype(left.dtype), left)
        states = jtu.tree_map(own, self.begin(model), states)
        outputs, after = jax.vmap(model)(tokens, states)
        return self.task.judged(outputs, y)["loss"].mean, after

    def drawn(self, key: Array) -> tuple[Any, Array]:
        """The first batch, whatever the key."""
        del key
        return self.sample(jnp.zeros((), jnp.int32))

    def alone(self, model: Any, x: Any, y: Array) -> Float[Array, ""]:
        """The loss of a batch whose sequences all begin."""
        return self.loss(model, x, y, self.begin(model))[0]
