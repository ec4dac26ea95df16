"""The scores of a model on what is held out."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from dualform.arrays import State
from dualform.tasks import AbstractTask
from dualform.tasks.scores import Scores


def measure(task: AbstractTask, model: Any, batches: Iterable[tuple[Array, Array]]) -> dict[str, float]:
    """The scores of a model over batches, each sequence, frame or token as much as any other.

    **Returns:** by name; "loss" is one of them.
    """
    return _mean(_scores(task, model, jnp.asarray(x), jnp.asarray(y)) for x, y in batches)


def measure_carried(task: AbstractTask, model: Any, pieces: Iterable[tuple[Array, Array]]) -> dict[str, float]:
    """The scores of a model over pieces of one sequence, each read from the state that the piece before it left.

    **Arguments:** pieces: of the inputs and targets of one sequence, (time, ...), from its beginning.

    **Returns:** by name, as of `measure`.
    """

    def each():
        state = model.init_state()
        for x, y in pieces:
            scores, state = _scores_from(task, model, jnp.asarray(x), jnp.asarray(y), state)
            yield scores

    return _mean(each())


def _mean(found: Iterable[Scores]) -> dict[str, float]:
    totals: dict[str, tuple[float, float]] = {}
    for scores in found:
        for name, score in scores.items():
            total, over = totals.get(name, (0.0, 0.0))
            totals[name] = (total + float(score.total), over + float(score.over))
    return {name: total / over if over else 0.0 for name, (total, over) in totals.items()}


@eqx.filter_jit
def _scores(task: AbstractTask, model: Any, x: Array, y: Array) -> Scores:
    return task.scores(model, x, y)


@eqx.filter_jit
def _scores_from(task: AbstractTask, model: Any, x: Array, y: Array, state: State) -> tuple[Scores, State]:
    outputs, state = model(x, state)
    return task.judged(outputs[None], y[None]), state
