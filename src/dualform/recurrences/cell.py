"""A nonlinear recurrence, one step after the other: what LSTM, GRU and tanh RNN run on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, PyTree

from dualform.compiled import compiled
from dualform.recurrences.contained import all_finite
from dualform.recurrences.flags import check_flags, check_time


@compiled
def cell(
    step: Callable[[Any, Any], tuple[Any, Any]],
    inputs: PyTree[Array],
    state: PyTree[Array],
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
) -> tuple[PyTree[Array], PyTree[Array]]:
    """state_t, out_t = step(state_{t-1}, inputs_t).

    **Arguments:**

    - step: (state, one token's inputs) -> (state of the same shapes and dtypes, a pytree of outputs).
    - inputs: a pytree of (time, ...).  state: before the first step.
    - start: (time,), True where a document begins: the state is 0 before it.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit; a `start` there is ignored.

    Where there are flags, a step of which the state or the inputs are not finite gives NaN.

    **Returns:** the outputs, (time, ...), and the last state.

    **Raises:** `InputError` where a flag's shape does not fit, or there is no time step.
    """
    time = jtu.tree_leaves(inputs)[0].shape[0]
    check_time(time)
    check_flags(time, start, mask)
    if start is None and mask is None:
        final, outputs = jax.lax.scan(step, state, inputs)
        return outputs, final
    start = jnp.zeros(time, bool) if start is None else start
    mask = jnp.ones(time, bool) if mask is None else mask
    choose = lambda flag, a, b: jtu.tree_map(lambda a, b: jnp.where(flag, a, b), a, b)

    def flagged(state, inputs_t):
        inputs_t, start_t, mask_t = inputs_t
        past = choose(start_t, jtu.tree_map(jnp.zeros_like, state), state)
        # What is not finite, in an absent token too, would reach the gradients of the step.
        sound = all_finite(_inexact((past, inputs_t)), 0)
        after, out = step(*jtu.tree_map(lambda a: jnp.where(sound, a, jnp.zeros_like(a)), (past, inputs_t)))
        mark = lambda a: jnp.where(sound, a, jnp.full_like(a, jnp.nan)) if _inexact(a) else a
        after, out = jtu.tree_map(mark, (after, out))
        return choose(mask_t, after, state), out

    final, outputs = jax.lax.scan(flagged, state, (inputs, start, mask))
    return outputs, final


def saturating(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """What a sigmoid or a tanh is given, infinities as half of the largest numbers: it gives the same, and a gradient of 0.

    So an infinite bias is a gate that is exactly open or shut, and no input that is not finite; NaN stays.
    """
    most = jnp.finfo(a.dtype).max / 2
    return jnp.clip(a, -most, most)


def _inexact(tree) -> list[Array]:
    """The real and complex arrays of a pytree."""
    return [leaf for leaf in jtu.tree_leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
