"""A network that repeats what it read: what it remembers of the symbols as one vector, and what it says from such a vector."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from dualform.mixers import registry
from dualform.models import LanguageModel
from dualform.tasks.repeat import Repeat


class Repeated(NamedTuple):
    """A sequence of the task, in its two halves; of a batch, each with an axis of it in front.

    - symbols: (time,), what is to be remembered.  length: how many of them there are; what is behind them is not read.
    - inputs, targets: (time,), what is read from the cue on, and what is to be said; below 0 behind the last symbol.
    """

    symbols: Int[Array, " time"]
    length: Int[Array, ""]
    inputs: Int[Array, " time"]
    targets: Int[Array, " time"]


def halves(x: Int[Array, " twice"], y: Int[Array, " twice"]) -> Repeated:
    """A sequence of `Repeat` in its two halves."""
    time = len(x) // 2
    length = jnp.sum(y >= 0).astype(jnp.int32)
    behind = length + jnp.arange(time, dtype=jnp.int32)
    return Repeated(x[:time], length, x[behind], y[behind])


def network(mixer: str, n: int, task: Repeat, *, key: Array, **options: Any) -> LanguageModel:
    """One layer of a mixer between an embedding as wide as its state and a linear readout, float32."""
    keys = jr.split(key)
    layer = registry()[mixer](n, key=keys[0], dtype=jnp.float32, **options)
    model = LanguageModel.make((layer,), task.vocabulary, key=keys[1], dtype=jnp.float32)
    # Of variance 1, as torch's embeddings: what is read drives the gates from the first step on.
    return eqx.tree_at(lambda model: model.embedding, model, model.embedding * n**0.5)


def remembered(model: Any, symbols: Int[Array, " time"], length: Int[Array, ""]) -> Float[Array, " n"]:
    """The state after the last symbol, all of its arrays as one vector."""
    _, state = model(symbols, mask=jnp.arange(len(symbols), dtype=jnp.int32) < length)
    return ravel_pytree(state)[0]


def said(model: Any, h: Float[Array, " n"], inputs: Int[Array, " time"]) -> Float[Array, "time vocabulary"]:
    """The logits from a state on, each symbol read as it should have been said.

    Whether all that it says is right is the same as where it reads what it says itself: up to its first mistake both are alike.
    """
    _, restore = ravel_pytree(model.init_state())
    return model(inputs, restore(h))[0]


def all_right(logits: Float[Array, "time vocabulary"], targets: Int[Array, " time"]) -> Array:
    """Whether every symbol is said as it should be."""
    return jnp.all((jnp.argmax(logits, axis=-1).astype(targets.dtype) == targets) | (targets < 0))


def drawn(task: Repeat, key: Array) -> Repeated:
    """A batch of training's sequences."""
    return jax.vmap(halves)(*task.sample(key))


def held_out(task: Repeat, split: str) -> Repeated:
    """All sequences of a split, in one batch."""
    x, y = (jnp.concatenate(parts) for parts in zip(*task.held_out(split), strict=True))
    return jax.vmap(halves)(x, y)
