"""The architectures of Figs. 3, 4 and 5, and one function that trains any of them on any of the paper's two tasks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from dualform.arrays import count_parameters
from dualform.errors import InputError, require
from dualform.mixers import GRU, LSTM, DenseGatedRNN, GatedRNN, LinearAttention, LRUInOut, LRUInSkip, LRUOut
from dualform.models import Stack
from dualform.tasks import InContextRegression, Teacher, TeacherStudent, gradient_descent, last_output_loss
from dualform.training import FitConfig, fit_ensemble, mean_squared_error

_CELLS: dict[str, Callable[..., Any]] = {
    "lru_out": LRUOut.make,
    "lru_in_out": LRUInOut.make,
    "lru_in_skip": LRUInSkip.make,
    "lstm": LSTM.make,
    "gru": GRU.make,
}
_GATED: dict[str, Callable[..., Any]] = {"gated_rnn": GatedRNN.make, "dense_gated_rnn": DenseGatedRNN.make}
ARCHITECTURES = {
    "gated_rnn": "gated RNN",
    "dense_gated_rnn": "gated RNN (dense)",
    "lru_out": "LRU Out",
    "lru_in_out": "LRU In-Out",
    "lru_in_skip": "LRU In-Skip",
    "lstm": "LSTM",
    "gru": "GRU",
    "linear_attention": "linear attention",
}
"""Names, and what the pictures call them."""


@dataclass(frozen=True)
class Training:
    """One architecture trained from several seeds.

    - architecture: a name in `ARCHITECTURES`.  layers: 1 or 2; the gated RNNs and linear attention stand alone, as in the
      paper: no embedding around them.
    - width: hidden units, and for a gated RNN pre-readout units.  readout: pre-readout units where they differ.
    - task: "teacher" (linear attention with Gaussian weights, one for each seed) or "regression".
    - d: width of a teacher's token; regression has 6.  rank: of the teacher's W_V.  zeros: share of its weights set to 0.
    - steps, batch, learning_rate, weight_decay: AdamW with clip 1, warm-up of a twentieth of the steps, learning rate to a
      thousandth and weight decay to 0 by a half cosine.
    - seeds: of initial weights, data and teacher.  rates: factors of the learning rate, one for each seed; 1 if empty.
    """

    architecture: str
    width: int
    layers: int = 1
    readout: int | None = None
    task: str = "teacher"
    d: int = 6
    rank: int | None = None
    zeros: float = 0.0
    steps: int = 4000
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seeds: tuple[int, ...] = (0,)
    rates: tuple[float, ...] = ()

    def fit_config(self) -> FitConfig:
        """What training is told."""
        return FitConfig(
            steps=self.steps,
            chunk=min(250, self.steps),
            warmup=self.steps // 20,
            learning_rate=self.learning_rate,
            final_learning_rate=1e-3 * self.learning_rate,
            weight_decay=self.weight_decay,
            decay_rate=3.0 if self.architecture == "gated_rnn" else 1.0,
        )


def make_network(training: Training, d_in: int, d_out: int, key: Array) -> Any:
    """The untrained network, float32."""
    name, keys = training.architecture, jr.split(key, training.layers + 1)
    if name in _GATED:
        require(training.layers == 1, f"{name} is compared with one layer; got layers = {training.layers}.")
        sizes = {"n": training.width, "m": training.readout or training.width}
        if name == "gated_rnn":
            return GatedRNN.make(d_in, key=key, d_out=d_out, dtype=jnp.float32, **sizes)
        network = DenseGatedRNN.make(d_in, key=key, dtype=jnp.float32, **sizes)
        return eqx.tree_at(lambda rnn: rnn.readout, network, network.readout[:d_out])
    if name == "linear_attention":
        weights = jr.normal(key, (3, d_in, d_in), jnp.float32) / d_in**0.5
        return LinearAttention(weights[0][:d_out], weights[1], weights[2])
    if name not in _CELLS:
        raise InputError(f"there is no architecture {name!r}; there are {', '.join(ARCHITECTURES)}.")
    layers = tuple(_CELLS[name](training.width, key=k, dtype=jnp.float32) for k in keys[1:])
    return Stack.make(layers, d_in, d_out, key=keys[0], dtype=jnp.float32)


def make_teacher(training: Training, seed: int) -> Teacher:
    """The teacher of one seed: Gaussian, of the rank asked for, with a share of its entries set to 0."""
    teacher = Teacher.gaussian(training.d, key=jr.key(seed), rank=training.rank, dtype=jnp.float32)
    if training.zeros == 0:
        return teacher
    attention, key = teacher.attention, jr.fold_in(jr.key(seed), 7)
    keep = jr.bernoulli(key, 1 - training.zeros, (3, training.d, training.d)).astype(jnp.float32)
    weights = (attention.w_v[0] * keep[0], attention.w_k[0] * keep[1], attention.w_q[0] * keep[2])
    return Teacher(LinearAttention(*weights), None, f"{teacher.name} zeros={training.zeros:g}", teacher.source)


def train(training: Training) -> tuple[list[Any], list[dict[str, Any]]]:
    """Train one network for each seed.

    **Returns:** the networks, and for each what is kept: seed, width, parameters, train_loss, validation_loss (relative to
    the target's power for a teacher; half the squared error, with the doubled variance of the paper's validation, for
    regression), diverged, seconds; of regression also loss, on the training distribution, and gap, that less the loss of one
    optimal step of gradient descent on the same tasks.
    """
    begin = {"teacher": _teacher_tasks, "regression": _regression_tasks}
    require(training.task in begin, f"there is no task {training.task!r}; there are {', '.join(begin)}.")
    tasks, scales, sample, loss, validate = begin[training.task](training)
    d_in, d_out = (training.d, training.d) if training.task == "teacher" else (6, 3)
    networks = [make_network(training, d_in, d_out, jr.fold_in(jr.key(seed), 1)) for seed in training.seeds]
    fitted = fit_ensemble(
        networks,
        sample,
        training.fit_config(),
        seeds=training.seeds,
        tasks=tasks,
        scales=scales,
        rates=training.rates or None,
        loss=loss,
    )
    rows = []
    for i, seed in enumerate(training.seeds):
        rows.append(
            {
                "seed": seed,
                "learning_rate": training.learning_rate * (training.rates[i] if training.rates else 1.0),
                "parameters": count_parameters(fitted.models[i]),
                "train_loss": float(fitted.losses[i, -1]),
                **validate(fitted.models[i], tasks[i], scales[i], jr.fold_in(jr.key(seed), 2)),
                "diverged": fitted.diverged[i],
                "curve": [float(f"{value:.4g}") for value in fitted.losses[i]],
                "seconds": fitted.seconds / len(training.seeds),  # compilation shared
            }
        )
    return fitted.models, rows


def training_from(config: Mapping[str, Any], **fixed: Any) -> Training:
    """A `Training` from what JSON holds of it, and fields that are the same for a whole sweep."""
    fields: dict[str, Any] = {**fixed, **config}
    lists = {name: tuple(fields[name]) for name in ("seeds", "rates") if name in fields}
    return Training(**{**fields, **lists})


def job(config: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """`train` as a sweep's job: the fields of `Training` in, its rows out."""
    del folder
    return train(training_from(config))[1]


@eqx.filter_jit
def _loss_of(network, task, key, loss):
    return loss(network, *task.sample(key))


def _teacher_tasks(training: Training):
    tasks = [TeacherStudent(make_teacher(training, seed), batch=training.batch) for seed in training.seeds]
    scales = [task.target_power(jr.key(seed)) for task, seed in zip(tasks, training.seeds, strict=True)]

    def validate(network, task, scale, key):
        keys = jr.split(key, 32)
        losses = [float(_loss_of(network, task, k, mean_squared_error)) / scale for k in keys]
        return {"validation_loss": float(np.mean(losses))}

    return tasks, scales, lambda key, task: task.sample(key), mean_squared_error, validate


def _regression_tasks(training: Training):
    task = InContextRegression(batch=training.batch)
    count = len(training.seeds)

    def validate(network, task, scale, key):
        del task, scale
        draw = InContextRegression(batch=4096)
        rate, found = draw.optimal_rate(), {}
        for name, one, split in (("loss", draw, 0), ("validation_loss", draw.validation(), 1)):
            keys = jr.split(jr.fold_in(key, split), 16)
            losses = np.array([[float(value) for value in _beside_one_step(network, one, k, rate)] for k in keys])
            found[name] = float(losses[:, 0].mean())
            found |= {"gap": float((losses[:, 0] - losses[:, 1]).mean())} if name == "loss" else {}
        return found

    def sample(key, task):
        return jax.tree_util.tree_map(lambda a: a.astype(jnp.float32), task.sample(key))

    return [task] * count, [0.5] * count, sample, last_output_loss, validate


@eqx.filter_jit
def _beside_one_step(network, task, key, rate):
    """The losses of the network and of one step of gradient descent on the same tasks."""
    x, y = (a.astype(jnp.float32) for a in task.sample(key))
    return last_output_loss(network, x, y), 0.5 * jnp.mean(jnp.square(gradient_descent(x, rate, d_x=task.d_x) - y))
