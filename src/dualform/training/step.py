"""Training steps inside one compiled loop: data, loss, gradient, and the optimiser's move."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from dualform.training.batches import mean_squared_error
from dualform.training.config import FitConfig
from dualform.training.devices import place_batches, place_whole, split, split_batch, whole
from dualform.training.members import Members, each
from dualform.training.optimiser import adamw
from dualform.training.parameters import decayed, trainable
from dualform.training.seen import seen
from dualform.training.state import TrainState, finite


class ChunkMetrics(NamedTuple):
    """What a chunk of steps says of itself.

    - loss: (chunk,), of each step before its update, NaN past the last.  steps: how many there were.
    - finite: whether the state after the last step is free of NaN and infinity.
    """

    loss: Float[Array, " chunk"]
    steps: Int[Array, ""]
    finite: Bool[Array, ""]


def make_chunk(
    sample: Callable[..., tuple[Any, Any]],
    config: FitConfig,
    *,
    loss: Callable[..., Any] = mean_squared_error,
    scale: float | int = 1.0,
    optimiser: optax.GradientTransformation | None = None,
    trainable: Callable[[PyTree], PyTree] = trainable,
    decayed: Callable[[PyTree], PyTree] = decayed,
    mesh: Mesh | None = None,
    carries: bool = False,
    members: Members | None = None,
) -> Callable[..., tuple[TrainState, ChunkMetrics]]:
    """A compiled function that takes a state up to `config.chunk` steps further, and no further than `config.steps`.

    **Arguments:** as `fit`; sample: (key, *batch) -> (x, y); mesh: of the devices that share each batch, on which the state is
    placed (`dualform.training.state.placed`); carries: whether sample and loss are those of a `Carried`: it takes the number of
    the batch instead of a key, and the loss takes and gives what is carried; members: how several trainings at one step are
    taken further, in a state (`stacked`) and metrics whose arrays have an axis of them in front; None for a single one.

    **Returns:** (state, batches=()) -> (state, metrics). The state given is used up: its memory holds the one returned. Of the
    arrays of `batches`, which have a leading axis of steps, each step is given its own. It is compiled once for each set of
    shapes, and found again by the next one that is made of the same functions and config.
    """
    # The seed is in the state: a loop that was compiled serves every seed.
    given = (sample, loss, scale, optimiser, trainable, decayed)
    parts = place_whole(_Parts(replace(config, seed=0), mesh, carries, members, *jtu.tree_map(_as_data, given)), mesh)
    before = 1 if config.accumulate == 1 else 2
    return lambda state, batches=(): _chunk((parts, place_batches(batches, mesh, before)), state)


def _as_data(leaf: Any) -> Any:
    """Arrays of NumPy, of a task's or a scale, as those of JAX, which the loop takes as data."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf


class _Parts(eqx.Module):
    """What a loop is compiled of; arrays in it (of a task's, in `sample`) are data, so that they are not compiled in."""

    config: FitConfig = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True)
    carries: bool = eqx.field(static=True)
    members: Members | None = eqx.field(static=True)
    sample: Any
    loss: Any
    scale: Any
    optimiser: Any
    trainable: Any
    decayed: Any


@eqx.filter_jit(donate="all-except-first")
def _chunk(given: tuple[_Parts, Any], state: TrainState) -> tuple[TrainState, ChunkMetrics]:
    parts, batches = given
    config = parts.config
    step = make_step(
        parts.sample,
        config,
        loss=parts.loss,
        scale=parts.scale,
        optimiser=parts.optimiser,
        trainable=parts.trainable,
        decayed=parts.decayed,
        mesh=parts.mesh,
        carries=parts.carries,
    )
    batch = lambda i: jtu.tree_map(lambda leaf: leaf[i], batches)
    arrays, static = eqx.partition(state, eqx.is_array)
    begins = state.step if parts.members is None else state.step[0]
    steps = jnp.clip(config.steps - begins, 0, config.chunk).astype(jnp.int32)

    def one(arrays: PyTree) -> tuple[PyTree, Array]:
        def body(i, carried):
            arrays, losses = carried
            state, value = step(eqx.combine(arrays, static), *batch(i))
            return eqx.filter(state, eqx.is_array), losses.at[i].set(value)

        first = jnp.zeros((), jnp.int32)
        dtype = jax.eval_shape(lambda arrays: step(eqx.combine(arrays, static), *batch(first))[1], arrays).dtype
        # The number of steps is data, so that a shorter last chunk needs no second compilation.
        return jax.lax.fori_loop(0, steps, body, (arrays, jnp.full(config.chunk, jnp.nan, dtype)))

    arrays, losses = each(one, parts.members)(arrays)
    state = _kept(eqx.combine(arrays, static), parts.mesh)
    fine = each(finite, parts.members)(eqx.filter((state.model, state.optimiser), eqx.is_array))
    return state, whole(ChunkMetrics(losses, jnp.broadcast_to(steps, fine.shape), fine), parts.mesh)


def make_step(
    sample: Callable[..., tuple[Any, Any]],
    config: FitConfig,
    *,
    loss: Callable[..., Any] = mean_squared_error,
    scale: float | int | Array = 1.0,
    optimiser: optax.GradientTransformation | None = None,
    trainable: Callable[[PyTree], PyTree] = trainable,
    decayed: Callable[[PyTree], PyTree] = decayed,
    mesh: Mesh | None = None,
    carries: bool = False,
) -> Callable[..., tuple[TrainState, Array]]:
    """One training step, not compiled: (state, *batch, rate=None) -> (state, loss before the update).

    **Arguments:** as `make_chunk`.  rate: what the weights' move is multiplied by, 1 if not given.
    """
    optimiser = adamw(config, decayed) if optimiser is None else optimiser

    def step(state: TrainState, *batch: Any, rate: Array | None = None) -> tuple[TrainState, Array]:
        key = jr.fold_in(state.key, state.step)
        weights, rest = eqx.partition(state.model, trainable(state.model))

        def value_of(weights: PyTree, key: Array, number: Array, carried: PyTree, *batch: Any) -> tuple[Array, PyTree]:
            x, y = split_batch(sample(number if carries else key, *batch), mesh)
            model, cast = seen(weights, rest, config, key, decayed)
            if not carries:
                return loss(model, cast(x), y) / scale, carried
            value, left = loss(model, cast(x), y, carried)
            return value / scale, jtu.tree_map(lambda new, old: new.astype(old.dtype), left, carried)

        grad, number = jax.value_and_grad(value_of, has_aux=True), state.step * config.accumulate
        (value, carried), gradient = _accumulated(grad, config.accumulate, weights, key, number, state.carried, batch)
        # optax mixes dtypes, also where the user asks JAX to refuse that
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            update, after = optimiser.update(gradient, state.optimiser, weights)
            if rate is not None:
                update = jtu.tree_map(lambda leaf: leaf * rate.astype(leaf.dtype), update)
            weights = optax.apply_updates(weights, update)
        after = jtu.tree_map(lambda new, old: new.astype(old.dtype), after, state.optimiser)
        return _kept(TrainState(eqx.combine(weights, rest), after, state.step + 1, state.key, carried), mesh), value

    return step


def _kept(state: TrainState, mesh: Mesh | None) -> TrainState:
    """The state as it stays on the devices of a mesh: see `placed`."""
    if mesh is None:
        return state
    kept = whole(replace(state, optimiser=None, carried=None), mesh)
    return replace(kept, optimiser=split(state.optimiser, mesh), carried=split_batch(state.carried, mesh))


def _accumulated(
    grad: Callable[..., Any], count: int, weights: PyTree, key: Array, number: Array, carried: PyTree, batch: Any
) -> Any:
    """The mean of loss and gradient over `count` batches, each gone through by itself, in the memory of one.

    **Returns:** ((loss, what the last one leaves), gradient).
    """
    if count == 1:
        return grad(weights, key, number, carried, *batch)

    def one(i: Array, carried: PyTree) -> Any:
        own = jtu.tree_map(lambda leaf: leaf[i], batch)
        (value, left), gradient = grad(weights, jr.fold_in(key, i), number + i, carried, *own)
        return (value, gradient), left

    def add(i: Array, before: Any) -> Any:
        now, left = one(i, before[1])
        return jtu.tree_map(jnp.add, before[0], now), left

    shapes, _ = jax.eval_shape(one, jnp.zeros((), jnp.int32), carried)
    zeros = jtu.tree_map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, left = jax.lax.fori_loop(0, count, add, (zeros, carried))
    value, gradient = jtu.tree_map(lambda leaf: leaf / count, total)
    return (value, left), gradient
