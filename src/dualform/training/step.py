"""Training steps inside one compiled loop: data, loss, gradient, clipping, AdamW."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from dualform.training.batches import mean_squared_error
from dualform.training.config import FitConfig, learning_rate_at, weight_decay_at
from dualform.training.state import TrainState, decayed, finite, name_of, trainable


class ChunkMetrics(NamedTuple):
    """What a chunk of steps says of itself.

    - loss: (chunk,), of each step before its update, NaN past the last.  steps: how many there were.
    - finite: whether the state after the last step is free of NaN and infinity.
    """

    loss: Float[Array, " chunk"]
    steps: Int[Array, ""]
    finite: Bool[Array, ""]


def make_chunk(
    sample: Callable[[Array], tuple[Any, Any]],
    config: FitConfig,
    *,
    loss: Callable[[Any, Any, Any], Array] = mean_squared_error,
    scale: float | int = 1.0,
    trainable: Callable[[PyTree], PyTree] = trainable,
    decayed: Callable[[PyTree], PyTree] = decayed,
) -> Callable[[TrainState], tuple[TrainState, ChunkMetrics]]:
    """A compiled function that takes a state up to `config.chunk` steps further, and no further than `config.steps`.

    **Arguments:** as `fit`.

    **Returns:** state -> (state, metrics). The state given is used up: its memory holds the one returned. It is compiled
    once for each set of shapes.
    """
    step = make_step(sample, config, loss=loss, scale=scale, trainable=trainable, decayed=decayed)

    @eqx.filter_jit(donate="all")
    def chunk(state: TrainState) -> tuple[TrainState, ChunkMetrics]:
        arrays, static = eqx.partition(state, eqx.is_array)
        dtype = jax.eval_shape(lambda arrays: step(eqx.combine(arrays, static))[1], arrays).dtype
        steps = jnp.clip(config.steps - state.step, 0, config.chunk).astype(jnp.int32)

        def body(i, carried):
            arrays, losses = carried
            state, value = step(eqx.combine(arrays, static))
            return eqx.filter(state, eqx.is_array), losses.at[i].set(value)

        # The number of steps is data, so that a shorter last chunk needs no second compilation.
        arrays, losses = jax.lax.fori_loop(0, steps, body, (arrays, jnp.full(config.chunk, jnp.nan, dtype)))
        state = eqx.combine(arrays, static)
        return state, ChunkMetrics(losses, steps, finite((state.model, state.moments)))

    return chunk


def make_step(
    sample: Callable[..., tuple[Any, Any]],
    config: FitConfig,
    *,
    loss: Callable[[Any, Any, Any], Array] = mean_squared_error,
    scale: float | int = 1.0,
    trainable: Callable[[PyTree], PyTree] = trainable,
    decayed: Callable[[PyTree], PyTree] = decayed,
) -> Callable[..., tuple[TrainState, Array]]:
    """One training step, not compiled: (state, *more, rate=None) -> (state, loss before the update).

    **Arguments:** as `fit`; sample: (key, *more) -> (x, y).  rate: what the learning rate is multiplied by, 1 if not given.
    """

    def step(state: TrainState, *more: Any, rate: Array | None = None) -> tuple[TrainState, Array]:
        x, y = sample(jr.fold_in(state.key, state.step), *more)
        weights, rest = eqx.partition(state.model, trainable(state.model))
        value, gradient = jax.value_and_grad(lambda weights: loss(eqx.combine(weights, rest), x, y) / scale)(weights)
        weights, moments = adamw(config, gradient, weights, state.moments, state.step, decayed(state.model), rate)
        return TrainState(eqx.combine(weights, rest), moments, state.step + 1, state.key), value

    return step


def adamw(
    config: FitConfig,
    gradient: PyTree,
    weights: PyTree,
    moments: optax.ScaleByAdamState,
    step: Int[Array, ""],
    decayed: PyTree,
    factor: Array | None = None,
) -> tuple[PyTree, optax.ScaleByAdamState]:
    """One update, that of optax's `adamw` after `clip_by_global_norm`, with both schedules read at `step`.

    `nu` moves at `config.decay_rate` times the learning rate.

    **Arguments:** decayed: True where weight decay acts, one flag for each leaf of the model.  factor: of the learning rate.

    **Returns:** the weights and the moments after it.
    """
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jtu.tree_leaves(gradient)))
    shrink = jnp.where(norm > config.clip, config.clip / norm, jnp.ones_like(norm))
    gradient = jtu.tree_map(lambda g: g * shrink.astype(g.dtype), gradient)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes, also where the user asks JAX to refuse that
        direction, after = optax.scale_by_adam(config.b1, config.b2, config.epsilon).update(gradient, moments)
    assert isinstance(after, optax.ScaleByAdamState)
    rate, decay = learning_rate_at(config, step), weight_decay_at(config, step)
    rate = rate if factor is None else rate * factor.astype(rate.dtype)

    def move(path, weight, direction, decayed):
        if weight is None:
            return None
        pull = decay.astype(weight.dtype) * weight if decayed else jnp.zeros((), weight.dtype)
        own = rate * config.decay_rate if name_of(path) == "nu" else rate
        return weight - own.astype(weight.dtype) * (direction + pull)

    return jtu.tree_map_with_path(move, weights, direction, decayed, is_leaf=lambda leaf: leaf is None), after
