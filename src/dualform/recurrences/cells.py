"""A nonlinear recurrence, one step after the other: what LSTM, GRU and tanh RNN run on."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, PyTree

from dualform.arrays import project
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.contained import all_finite
from dualform.recurrences.flags import check_flags, check_time


@compiled
def cell(
    step: Callable[..., tuple[Any, Any]],
    inputs: PyTree[Array],
    state: PyTree[Array],
    *,
    weights: Sequence[Float[Array, "_ _"]] = (),
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
) -> tuple[PyTree[Array], PyTree[Array]]:
    """state_t, out_t = step(state_{t-1}, inputs_t), or step(product, state_{t-1}, inputs_t) where there are weights.

    **Arguments:**

    - step: (state, one token's inputs) -> (state of the same shapes and dtypes, a pytree of outputs).
    - inputs: a pytree of (time, ...).  state: before the first step.
    - weights: matrices (rows, columns) by which a step multiplies, each once: `product(i, a)` is weights[i] @ a, (rows,), of a
      (columns,), in the state's dtype. Their gradients are then one product over all steps; those of matrices that a step
      holds itself are summed up step after step, each time through all of the matrix.
    - start: (time,), True where a document begins: the state is 0 before it.
    - mask: (time,), False where there is no token: the state stays as it is, to the bit; a `start` there is ignored.

    Where there are flags, a step of which the state or the inputs are not finite gives NaN.

    **Returns:** the outputs, (time, ...), and the last state.

    **Raises:** `InputError` where a flag's shape does not fit, there is no time step, or a step does not multiply by each of
    the weights once.
    """
    time = jtu.tree_leaves(inputs)[0].shape[0]
    check_time(time)
    check_flags(time, start, mask)
    if not weights:
        outputs, _, final = _scan(lambda state, t: (*step(state, t), ()), inputs, state, (start, mask))
        return outputs, final
    return _with_products(step, tuple(weights), inputs, state, (start, mask))


def _scan(step, inputs, state, flags) -> tuple[PyTree[Array], PyTree[Array], PyTree[Array]]:
    """Of a step that gives the state after, what is handed out, and what is kept for the derivative: both, and the last state."""
    start, mask = flags
    time = jtu.tree_leaves(inputs)[0].shape[0]

    def bare(state, inputs_t):
        after, out, kept = step(state, inputs_t)
        return after, (out, kept)

    if start is None and mask is None:
        final, (outputs, kept) = jax.lax.scan(bare, state, inputs)
        return outputs, kept, final
    start = jnp.zeros(time, bool) if start is None else start
    mask = jnp.ones(time, bool) if mask is None else mask
    choose = lambda flag, a, b: jtu.tree_map(lambda a, b: jnp.where(flag, a, b), a, b)

    def flagged(state, inputs_t):
        inputs_t, start_t, mask_t = inputs_t
        past = choose(start_t, jtu.tree_map(jnp.zeros_like, state), state)
        # What is not finite, in an absent token too, would reach the gradients of the step.
        sound = all_finite(_inexact((past, inputs_t)), 0)
        after, out, kept = step(*jtu.tree_map(lambda a: jnp.where(sound, a, jnp.zeros_like(a)), (past, inputs_t)))
        mark = lambda a: jnp.where(sound, a, jnp.full_like(a, jnp.nan)) if _inexact(a) else a
        after, out = jtu.tree_map(mark, (after, out))
        return choose(mask_t, after, state), (out, kept)

    final, (outputs, kept) = jax.lax.scan(flagged, state, (inputs, start, mask))
    return outputs, kept, final


def _with_products(step, weights, inputs, state, flags) -> tuple[PyTree[Array], PyTree[Array]]:
    """The recurrence whose derivative in its weights is that of products over all steps at once.

    A step's product is moved by what is added to it, `shift`; a weight moves it by (its own move) @ a, of the a that it is
    multiplied with, for all steps in one product.
    """
    wide = jtu.tree_leaves(state)[0].dtype

    def one(weights, shifts, state, inputs_t):
        taken: list[Any] = [None] * len(weights)

        def product(i, a):
            require(
                taken[i] is None, f"a step multiplies by weights[{i}] twice; hand the matrix in once for each product."
            )
            taken[i] = a
            return project(a, weights[i]).astype(wide) + shifts[i]

        after, out = step(product, state, inputs_t)
        left = [i for i, a in enumerate(taken) if a is None]
        require(not left, f"a step does not multiply by weights {left}; leave them out.")
        return after, out, tuple(taken)

    none = tuple(jnp.zeros(len(w), wide) for w in weights)
    first = jtu.tree_map(lambda a: a[0], inputs)
    one, held = jax.closure_convert(one, weights, none, state, first)

    @jax.custom_jvp
    def run(weights, held, inputs, state, flags):
        def plain(state, inputs_t):
            after, out, _ = one(weights, none, state, inputs_t, *held)
            return after, out, ()

        outputs, _, final = _scan(plain, inputs, state, flags)
        return outputs, final

    @run.defjvp
    def _(primals, tangents):
        weights, held, inputs, state, flags = primals

        def shifted(shifts, held, inputs, state):
            moved = lambda state, t: one(weights, t[1], state, t[0], *held)
            outputs, taken, final = _scan(moved, (inputs, shifts), state, flags)
            return (outputs, final), taken

        time = jtu.tree_leaves(inputs)[0].shape[0]
        shifts = tuple(jnp.zeros((time, len(w)), wide) for w in weights)
        found, derivative, taken = jax.linearize(shifted, shifts, held, inputs, state, has_aux=True)
        moves = tuple(project(a, w).astype(wide) for a, w in zip(taken, tangents[0], strict=True))
        return found, derivative(moves, *tangents[1:4])

    return run(weights, held, inputs, state, flags)


def saturating(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """What a sigmoid or a tanh is given, infinities as half of the largest numbers: it gives the same, and a gradient of 0.

    So an infinite bias is a gate that is exactly open or shut, and no input that is not finite; NaN stays.
    """
    most = jnp.finfo(a.dtype).max / 2
    return jnp.clip(a, -most, most)


def _inexact(tree) -> list[Array]:
    """The real and complex arrays of a pytree."""
    return [leaf for leaf in jtu.tree_leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
