"""Beyond the paper: depth against steps of gradient descent, and associative recall, for stacks of several mixers.

Each is one small run of several trainings, resumable to the chunk, with one result.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from dualform.errors import require
from dualform.experiments.gated_rnn.identification import Moment
from dualform.experiments.gated_rnn.regression import Show, paired_losses, train_stage
from dualform.mixers import GRU, LSTM, AbstractMixer, GatedRNN, LinearAttention
from dualform.models import Stack
from dualform.tasks import AssociativeRecall, InContextRegression, recall_accuracy, recall_loss, steps_loss
from dualform.training import FitConfig, Run, fit

LAYERS = ("gated_rnn", "linear_attention", "lstm", "gru")


@dataclass(frozen=True)
class Depth:
    """Stacks of one or two layers on the regression task, beside steps of gradient descent.

    - mixers, layers: each mixer in each depth.  width: hidden units (and pre-readout units) of a layer, which is also the
      width between layers.
    - pairs, d_x, d_y, batch: the task's.  fit: of each.  steps: gradient descent is shown with 1 to so many.
    - validation: tasks that a loss is measured on.  seed: of everything.
    """

    mixers: tuple[str, ...] = ("gated_rnn", "linear_attention")
    layers: tuple[int, ...] = (1, 2)
    width: int = 32
    pairs: int = 12
    d_x: int = 3
    d_y: int = 3
    batch: int = 128
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=4000, chunk=500, warmup=200, learning_rate=3e-3, final_learning_rate=1e-5, weight_decay=0.01
        )
    )
    steps: int = 4
    validation: int = 2**16
    seed: int = 0

    def __post_init__(self):
        _check_layers(self.mixers)
        for name in ("width", "steps", "validation"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        require(min(self.layers, default=0) >= 1, f"layers is {self.layers}; each stack needs at least one layer.")


def depth_against_steps(config: Depth, folder: Path, *, on_progress: Show | None = None) -> dict[str, Any]:
    """Beyond the paper: does a second layer bring what a second step of gradient descent brings?

    **Returns:** "steps": {"steps", "rate", "loss"} for each count, the rate the best of a grid; "stacks": {"mixer", "layers",
    "parameters", "loss", "standard_error", "seconds"} for each stack.
    """
    run = Run.create(folder, {"depth": config})
    if (finished := run.read_json("result.json")) is not None:
        return finished
    show = on_progress or (lambda moment: None)
    task = InContextRegression(config.pairs, config.d_x, config.d_y, batch=config.batch)
    stacks, kinds = [], [(mixer, layers) for mixer in config.mixers for layers in config.layers]
    for i, (mixer, layers) in enumerate(kinds):
        model = stack(mixer, layers, config.width, task.d, task.d_y, config.seed)
        name = f"{mixer}-{layers}"
        fitted = train_stage(model, task, config.fit, config.seed, run, name, None)
        losses = paired_losses(fitted.model, task, config.validation, config.seed + 2**21)[0]
        spread = float(losses.std() / len(losses) ** 0.5)
        found = {"mixer": mixer, "layers": layers, "parameters": model.parameters(), "loss": float(losses.mean())}
        stacks.append(found | {"standard_error": spread, "seconds": fitted.seconds})
        show(Moment("depth", i + 1, len(kinds), f"{name}: loss {found['loss']:.4f}"))
    result = {"steps": descent(task, config.steps), "stacks": stacks}
    run.write_json("result.json", result)
    return result


def descent(task: InContextRegression, most: int) -> list[dict[str, Any]]:
    """The least loss of 1 to `most` steps, and the rate that has it, on a grid of 200 rates up to 2.5 eta*."""
    etas = np.linspace(0, 2.5, 201)[1:] * task.optimal_rate()
    found = []
    for steps in range(1, most + 1):
        losses = steps_loss(task, steps, etas, samples=20_000)
        best = int(np.argmin(losses))
        found.append({"steps": steps, "rate": float(etas[best]), "loss": float(losses[best])})
    return found


def stack(mixer: str, layers: int, width: int, d_in: int, d_out: int, seed: int) -> Stack:
    """Layers of one kind between a linear embedding and a linear readout, in float32."""
    _check_layers((mixer,))
    make: dict[str, Callable[[Array], AbstractMixer]] = {
        "gated_rnn": lambda key: GatedRNN.make(width, key=key, n=width, m=width, dtype=jnp.float32),
        "linear_attention": lambda key: LinearAttention.make(width, key=key, heads=1, dtype=jnp.float32),
        "lstm": lambda key: LSTM.make(width, key=key, dtype=jnp.float32),
        "gru": lambda key: GRU.make(width, key=key, dtype=jnp.float32),
    }

    @eqx.filter_jit
    def build(key: Array) -> Stack:
        keys = jr.split(key, layers + 1)
        return Stack.make(tuple(make[mixer](key) for key in keys[1:]), d_in, d_out, key=keys[0], dtype=jnp.float32)

    return build(jr.key(seed))


def _check_layers(mixers: tuple[str, ...]) -> None:
    unknown = [mixer for mixer in mixers if mixer not in LAYERS]
    require(not unknown, f"there is no mixer {', '.join(unknown)} here; there are {', '.join(LAYERS)}.")


@dataclass(frozen=True)
class Recall:
    """One layer of each mixer on associative recall.

    - mixers; width of the layer (hidden and pre-readout units).
    - vocabulary, pairs, embedding, embedded: the task's, `embedded` its width of random vectors.
    - batch, fit: of each.  validation: sequences that accuracy is measured on.  seed: of everything.
    """

    mixers: tuple[str, ...] = LAYERS
    width: int = 64
    vocabulary: int = 8
    pairs: int = 6
    embedding: str = "one_hot"
    embedded: int | None = None
    batch: int = 128
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=3000, chunk=500, warmup=200, learning_rate=3e-3, final_learning_rate=1e-5, weight_decay=0.01
        )
    )
    validation: int = 2**14
    seed: int = 0

    def __post_init__(self):
        _check_layers(self.mixers)
        for name in ("width", "validation"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")

    def task(self, batch: int) -> AssociativeRecall:
        """The task in batches of `batch` sequences."""
        return AssociativeRecall(self.vocabulary, self.pairs, self.embedding, self.embedded, batch, self.seed)


def recall_comparison(config: Recall, folder: Path, *, on_progress: Show | None = None) -> dict[str, Any]:
    """Beyond the paper: which recurrent networks recall by association, as attention does.

    **Returns:** "chance": the accuracy of 1 guess in `pairs`, the query unheard; "mixers": {"mixer", "parameters", "loss" in
    nats, "accuracy", "standard_error" of the accuracy, "seconds"} for each.
    """
    run = Run.create(folder, {"recall": config})
    if (finished := run.read_json("result.json")) is not None:
        return finished
    show = on_progress or (lambda moment: None)
    task, results = config.task(config.batch), []
    x, y = eqx.filter_jit(config.task(config.validation).sample)(jr.key(config.seed + 2**21))
    for i, mixer in enumerate(config.mixers):
        model = stack(mixer, 1, config.width, task.d, config.vocabulary, config.seed)
        fit_config = replace(config.fit, seed=config.seed)
        fitted = fit(model, task.sample, fit_config, loss=recall_loss, run=run, stage=mixer)
        if fitted.status == "interrupted":
            raise KeyboardInterrupt
        loss, accuracy = (float(eqx.filter_jit(f)(fitted.model, x, y)) for f in (recall_loss, recall_accuracy))
        spread = (accuracy * (1 - accuracy) / len(y)) ** 0.5
        found = {"mixer": mixer, "parameters": model.parameters(), "loss": loss, "accuracy": accuracy}
        results.append(found | {"standard_error": spread, "seconds": fitted.seconds})
        show(Moment("recall", i + 1, len(config.mixers), f"{mixer}: accuracy {accuracy:.3f}"))
    result = {"chance": 1 / config.pairs, "mixers": results}
    run.write_json("result.json", result)
    return result
