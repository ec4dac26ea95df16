"""What small trained models remember of a context that several questions share: recurrent ones, and attention under each policy.

Every model has a short convolution first, which brings a key and its value together, and then the same blocks (RMS norms, a
SwiGLU) around its mixer. It is trained on the same sequences: the token forms of tasks of memory (`tasks.memory.TokenMemory`),
mixed in each batch. Softmax attention is trained whole, and then bounded by each policy without training again. The answers are
read by turns, in one state, with the right answers in the history. Chance is one in the number of values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from dualform.experiments.memory import Row, Score, Turn, contender, rows_of
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_least, ours_alone, results_of
from dualform.mixers import (
    GLA,
    LSTM,
    AbstractMixer,
    CausalConvolution,
    DeltaRule,
    Mamba,
    Mamba2,
    MinGRU,
    RetNet,
    SoftmaxAttention,
)
from dualform.models import Block, LanguageModel, RMSNorm
from dualform.tasks.memory import FORMS, TokenMemory
from dualform.training import FitConfig, Job, Run, cross_entropy, fit

WIDTH = 4
"""Tokens that the convolution sees."""
ATTENTION = "softmax attention"
MIXERS = {
    ATTENTION: lambda d, key, time: SoftmaxAttention.make(d, key=key, heads=2, window=time, dtype=jnp.float32),
    "gla": lambda d, key, time: GLA.make(d, key=key, heads=2, dtype=jnp.float32),
    "retnet": lambda d, key, time: RetNet.make(d, key=key, heads=2, dtype=jnp.float32),
    "delta rule": lambda d, key, time: DeltaRule.make(d, key=key, heads=2, dtype=jnp.float32),
    "gated delta rule": lambda d, key, time: DeltaRule.make(d, key=key, heads=2, gated=True, dtype=jnp.float32),
    "mamba": lambda d, key, time: Mamba.make(d, key=key, dtype=jnp.float32),
    "mamba2": lambda d, key, time: Mamba2.make(d, key=key, dtype=jnp.float32),
    "min_gru": lambda d, key, time: MinGRU.make(d, key=key, dtype=jnp.float32),
    "lstm": lambda d, key, time: LSTM.make(d, key=key, dtype=jnp.float32),
}
"""What each model's blocks are around, from width, key and the length of a document."""

LEARNED = 0.9
"""The share of right answers from which on attention that keeps everything has learned the task."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {
        "models": (ATTENTION, "gla"),
        "items": {"kv": 4},
        "turns": 2,
        "length": 12,
        "d": 32,
        "layers": 2,
        "steps": 1000,
        "batch": 32,
        "count": 128,
        "states": (6,),
        "policies": ("full", "window+4", "tova", "h2o", "snapkv"),
    },
    "full": {
        "models": (ATTENTION, "gated delta rule", "gla", "min_gru"),
        "items": {"kv": 16, "needle": 8},
        "turns": 5,
        "length": 48,
        "d": 64,
        "layers": 2,
        "steps": 2500,
        "batch": 16,
        "count": 256,
        "states": (16, 32),
        "policies": ("full", "window+4", "tova", "tova-head", "h2o", "snapkv"),
    },
}


def tasks_of(items: Mapping[str, int], length: int, turns: int, batch: int) -> dict[str, TokenMemory]:
    """The task of each form, with its number of items."""
    return {form: TokenMemory(form, count, turns, length, batch=batch) for form, count in items.items()}


def fresh(name: str, vocabulary: int, time: int, d: int, layers: int, key: Array) -> LanguageModel:
    """A block of a short convolution, then blocks of a mixer, in float32."""
    keys = jr.split(key, 2 * layers + 3)

    def block(mixer: AbstractMixer, key: Array) -> Block:
        return Block.make(mixer, key=key, mlp="swiglu", hidden=2 * d, dtype=jnp.float32)

    near = block(CausalConvolution.make(d, key=keys[1], width=WIDTH, dtype=jnp.float32), keys[2])
    places = range(3, 2 * layers + 3, 2)
    blocks = (near, *(block(MIXERS[name](d, keys[i], time), keys[i + 1]) for i in places))
    norm = RMSNorm.make(d, dtype=jnp.float32)
    return LanguageModel.make(blocks, vocabulary, key=keys[0], norm=norm, dtype=jnp.float32)


def sample(key: Array, tasks: Mapping[str, TokenMemory]) -> tuple[Array, Array]:
    """A batch in which every task has its share, filled up to the longest: tokens, and targets, -1 where nothing is asked."""
    longest = max(task.time for task in tasks.values())
    drawn = [task.sample(k) for task, k in zip(tasks.values(), jr.split(key, len(tasks)), strict=True)]
    filled = lambda a, value: jnp.pad(a, ((0, 0), (0, longest - a.shape[1])), constant_values=value)
    return (
        jnp.concatenate([filled(tokens, 0) for tokens, _ in drawn]),
        jnp.concatenate([filled(targets, -1) for _, targets in drawn]),
    )


@eqx.filter_jit
def by_turns(model: LanguageModel, tokens: Array) -> Array:
    """The likeliest token after each one, every sequence in one state."""
    return jax.vmap(lambda row: jnp.argmax(model(row)[0], axis=-1))(tokens)


def asked(model: LanguageModel, task: TokenMemory, count: int, key: Array) -> list[Turn]:
    """Whether each answer of `count` fresh sequences is right."""
    tokens, targets = replace(task, batch=count).sample(jr.fold_in(key, FORMS.index(task.form)))
    said, targets = np.asarray(by_turns(model, tokens)), np.asarray(targets)
    return [
        Turn(i, turn, "right", str(said[i, place]), float(said[i, place] == targets[i, place]))
        for i in range(len(targets))
        for turn, place in enumerate(np.flatnonzero(targets[i] >= 0))
    ]


def rows_for(name: str, model: LanguageModel, tasks: Mapping[str, TokenMemory], config: Mapping[str, Any]) -> list[Row]:
    """The rows of a trained model: of softmax attention one for each policy and size, of others one."""
    key, rows = jr.key(config["seed"] + 2**21), []
    for form, task in tasks.items():
        for by in config["policies"] if name == ATTENTION else ("full",):
            for size in config["states"] if by != "full" else (0,):
                one, kept = contender(model, by, size, task.time)
                found = asked(one, task, config["count"], key)
                rows += rows_of(form, f"attention, {by}" if name == ATTENTION else name, kept, found)
    return rows


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One model: trained on all tasks at once, then asked fresh sequences under each policy."""
    tasks = tasks_of(config["items"], config["length"], config["turns"], config["batch"])
    vocabulary, longest = max(t.vocabulary for t in tasks.values()), max(t.time for t in tasks.values())
    seed, steps = config["seed"], config["steps"]
    weights = jr.key(seed + 2**20)  # apart from the seed of the training data
    model = fresh(config["model"], vocabulary, longest, config["d"], config["layers"], weights)
    settings = FitConfig(
        steps=steps,
        chunk=min(250, steps),
        warmup=min(100, steps // 10),
        learning_rate=3e-3,
        final_learning_rate=1e-5,
        weight_decay=0.1,
        b2=0.99,
        seed=seed,
    )
    run = Run.create(folder / "run", config)
    fitted = fit(model, partial(sample, tasks=tasks), settings, loss=cross_entropy, run=run)
    if fitted.status == "interrupted":
        raise KeyboardInterrupt
    rows = rows_for(config["model"], fitted.model, tasks, config)
    return {
        "parameters": fitted.model.parameters(),
        "train_loss": fitted.history[-1]["loss"],
        "rows": [{**row._asdict(), "turns": [list(score or ()) for score in row.turns]} for row in rows],
        "seconds": fitted.seconds,
    }


def _run(workshop: Workshop, preset: str) -> Findings:
    grid, function = GRIDS[preset], "dualform.experiments.tova.small_memory:job"
    sizes = {name: value for name, value in grid.items() if name != "models"} | {"seed": 0}
    jobs = [Job(name.replace(" ", "-"), function, {"model": name, **sizes}) for name in grid["models"]]
    done, failed = results_of(workshop.sweep("small-memory", jobs))
    rows = [_row(each) for _, result in done for each in result["rows"]]
    rows.sort(key=lambda row: list(grid["items"]).index(row.task))
    items = "; ".join(f"{form}: {count} items" for form, count in grid["items"].items())
    why = (
        f"{grid['layers']} layers, {grid['d']} wide, {grid['steps']:,} steps of {grid['batch']} sequences of each task; contexts "
        f"of {grid['length']} tokens ({items}), {grid['turns']} questions by turns. Each score is of {grid['count']} fresh "
        "examples, with Wilson's interval of 95%; rows of one task have the same examples. Chance is one in 16."
    )
    models = {
        config["model"]: {k: result[k] for k in ("parameters", "train_loss", "seconds")} for config, result in done
    }
    data = {
        "models": models,
        "rows": [{**row._asdict(), "turns": [list(each or ()) for each in row.turns]} for row in rows],
    }
    return Findings(list(map(_number, rows)), data, 1, why, failed)


def _row(stored: Mapping[str, Any]) -> Row:
    """A row as it was before it went through JSON."""
    return Row(**{**stored, "turns": tuple(Score(*each) if each else None for each in stored["turns"])})


def _number(row: Row) -> Number:
    """The mean over turns; attention that keeps everything has to have learned the task, or no policy loses anything."""
    first, last = (
        f"{s.value:.0%} ({s.low:.0%} to {s.high:.0%})" for s in (row.turns[0], row.turns[-1]) if s is not None
    )
    states = "all" if row.states is None else row.states
    name, turns = f"{row.task}: {row.name}, states: {states}; right answers", f"first turn {first}, last {last}"
    if row.name == "attention, full":
        return at_least(name, None, row.mean, LEARNED, f"the task is learned, so that a policy can lose it; {turns}")
    return ours_alone(name, row.mean, turns)


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "the whole result",
        "the paper bounds pretrained models of 7 billion parameters; here small models are trained for memory",
    ),
)

SMALL_MEMORY = Experiment("What small models remember, by policy", UNKNOWNS, _run, beyond=True)
