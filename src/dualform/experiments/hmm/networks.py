"""The networks that read hidden Markov models, how they are trained, and how far they fit."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.checkpoints import load
from dualform.experiments.reproduction import Workshop, results_of
from dualform.experiments.trained import FUNCTION, Trained, trained, trained_run
from dualform.lenses import trace
from dualform.models.architecture import Architecture
from dualform.tasks.hmm import HiddenMarkov, distances
from dualform.training import Job
from dualform.training.config import FitConfig
from dualform.training.recipe import WEIGHTS, Recipe

RECURRENT = ("gru", "tanh_rnn", "lstm")
"""One layer of cells, as the paper's network, and an affine readout."""

LINEAR: dict[str, Mapping[str, Any]] = {
    "mamba": {},
    "gla": {"heads": 2},
    "delta_rule": {"heads": 2, "negative": True},
    "min_gru": {},
}
"""Linear recurrences, in blocks as a transformer's: two of each."""


GIVEN = 3e-3
"""The learning rate of all models, where none is searched."""


class Size(NamedTuple):
    """What all networks of a preset share.

    - width: units of a cell, or the width of blocks.  time: tokens of a sequence.  steps: of training.  states: of a model.
    """

    width: int
    time: int
    steps: int
    states: int = 3


def architecture(name: str, size: Size) -> Architecture:
    """The model of a name: a cell's, a linear recurrence's, or "transformer-2", of two blocks."""
    if name in RECURRENT:
        return Architecture((name,), size.width, 1, "none", "none", {"n": size.width}, plain=True)
    if name in LINEAR:
        return Architecture((name,), size.width, 2, "swiglu", "rms", LINEAR[name])
    layers = int(name.split("-")[1])
    return Architecture(("softmax_attention",), size.width, layers, "swiglu", "rms", {"heads": 2, "context": size.time})


def recipe(name: str, family: str, size: Size, target: str = "belief", observations: int = 2) -> Recipe:
    """How one network is trained; "transformer-2-block-4" is fed what it said every 4 tokens."""
    block = int(name.partition("-block-")[2] or 0)
    return Recipe(
        task="hmm",
        settings={
            "family": family,
            "states": size.states,
            "observations": observations,
            "target": target,
            "time": size.time,
            "batch": 32,
            "held": 1024,
            "feedback": block,
        },
        model=architecture(name.partition("-block-")[0], size),
        fit=FitConfig(steps=size.steps, chunk=size.steps // 10, warmup=size.steps // 10, weight_decay=0.0),
    )


def task_of(told: Recipe) -> HiddenMarkov:
    """The task of a recipe."""
    task = told.open_task()
    assert isinstance(task, HiddenMarkov)
    return task


def trained_at(
    workshop: Workshop, sweep: str, recipes: Mapping[str, Recipe], seeds: int, rate: float | None
) -> tuple[dict[str, Trained], list[str]]:
    """Trainings at one learning rate for all, which is not searched; with none given, as `trained` searches it.

    **Returns:** what `trained` does.
    """
    if rate is None:
        return trained(workshop, sweep, recipes, seeds)
    named = {(name, seed): f"{name}-rate={rate:g}-seed={seed}" for name in recipes for seed in range(seeds)}
    jobs = []
    for (name, seed), job in named.items():
        fit = replace(recipes[name].fit, learning_rate=rate, final_learning_rate=rate / 100)
        jobs.append(Job(job, FUNCTION, replace(recipes[name], fit=fit, seed=seed).told()))
    rows = workshop.sweep(sweep, jobs)
    results = {row.name: results_of([row])[0][0][1] for row in rows if row.status == "done"}
    found = {}
    for name in recipes:
        done = [results[named[name, seed]] for seed in range(seeds) if named[name, seed] in results]
        if done:
            found[name] = Trained(rate, {rate: done[0]["validation"]["loss"]}, done)
    return found, results_of(rows)[1]


def model_of(workshop: Workshop, sweep: str, name: str, found: Trained, seed: int = 0) -> Any:
    """The best weights of one training, in float32."""
    return load(trained_run(workshop, sweep, name, found.rate, seed) / WEIGHTS).model


def apart(task: HiddenMarkov, model: Any, split: str = "test") -> Float[np.ndarray, " time"]:
    """The mean distance from what is exact, at each token."""
    return np.concatenate([_apart(task, model, *batch) for batch in task.held_out(split)]).mean(axis=0)


@eqx.filter_jit
def _apart(task: HiddenMarkov, model: Any, x: Array, y: Array) -> Float[Array, "batch time"]:
    return distances(task.outputs(model, x), y[..., task.d_out :], task.probabilities)


def blocks_of(name: str) -> tuple[int, int]:
    """How many layers a transformer has, and of how many tokens its blocks are, 0 for none; 0 layers of what is none."""
    if not name.startswith("transformer-"):
        return 0, 0
    layers, _, block = name.removeprefix("transformer-").partition("-block-")
    return int(layers), int(block or 0)


def hidden_states(model: Any, x: Float[Array, "batch time d_in"]) -> Float[np.ndarray, "batch time d"]:
    """What the last layer or block of a model gives, before its readout."""
    stage = [name for name, _ in model.stages() if name.startswith(("layer", "block"))][-1]
    place = f"{stage}.out"
    states = eqx.filter_jit(
        jax.vmap(lambda model, x: trace(model, x, record=[place]).recorded[place], in_axes=(None, 0))
    )
    return np.asarray(states(model, x), np.float64)


def tokens_of(
    task: HiddenMarkov, split: str
) -> tuple[Float[Array, "batch time d_in"], Float[np.ndarray, "batch time state"]]:
    """A split whole: its tokens, and the exact beliefs of the hidden model."""
    x = jnp.concatenate([x for x, _ in task.held_out(split)])
    hidden = task.hidden
    beliefs = jax.jit(jax.vmap(lambda x: hidden.beliefs(x[:, : hidden.d_in])))
    return x, np.asarray(beliefs(x), np.float64)
