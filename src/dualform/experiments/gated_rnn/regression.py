"""In-context regression: what a trained network does is held beside one step of gradient descent.

    train     AdamW, weight decay strong and annealed to 0: it drives decays to 0 and 1 and lets needless units die
    settle    units that died are cut away, decays within a hundredth of 0 or 1 put there: all read off the student itself
    polish    AdamW on larger batches in antithetic pairs, no weight decay, the learning rate annealed again: the optimum's own
              loss is not 0, so that only more sequences, or less noise, bring more digits
    measure   the polynomial, and the loss beside gradient descent's on the same tasks

Training sees sequences and their targets; gradient descent enters where the result is measured.

**Source:** Sec. 4, Table 2, Figs. 3 and 4 and App. C of Zucchet et al. 2023 (arXiv 2309.01775).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.checkpoints import save_weights
from dualform.discover import monomial_names, polynomial, split_decays
from dualform.discover.decays import set_decays
from dualform.discover.units import keep_units
from dualform.errors import require
from dualform.experiments.gated_rnn.identification import Moment
from dualform.mixers import GatedRNN, LinearAttention
from dualform.tasks import InContextRegression, gradient_descent, last_output, last_output_loss
from dualform.training import FitConfig, Fitted, Run, fit

Show = Callable[[Moment], None]

DEAD = 1e-3
"""A unit whose weights carry less than this share of the strongest unit's is dead."""


@dataclass(frozen=True)
class Regression:
    """What is trained on which tasks, and how.

    - mixer: "gated_rnn", or "linear_attention" (one head, d keys), the peer.
    - n, m: hidden and pre-readout units to begin with (of a gated RNN).
    - pairs, d_x, d_y, noise: the task's.
    - batch, fit: of the first stage.  polish_batch, polish: of the second.
    - validation: tasks that the result is measured on.
    - seed: of everything.

    **Raises:** `InputError` where the mixer is unknown or a size is below 1.
    """

    mixer: str = "gated_rnn"
    n: int = 80
    m: int = 80
    pairs: int = 12
    d_x: int = 3
    d_y: int = 3
    noise: float = 0.0
    batch: int = 256
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=6000,
            chunk=500,
            warmup=200,
            learning_rate=1e-2,
            final_learning_rate=1e-4,
            decay_rate=10.0,
            weight_decay=3.0,
        )
    )
    polish_batch: int = 4096
    polish: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=2500, chunk=250, warmup=100, learning_rate=2e-3, final_learning_rate=1e-6, weight_decay=0.0
        )
    )
    validation: int = 2**19
    seed: int = 0

    def __post_init__(self):
        known = ("gated_rnn", "linear_attention")
        require(self.mixer in known, f"there is no mixer {self.mixer!r} here; there are {', '.join(known)}.")
        for name in ("n", "m", "polish_batch", "validation"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")

    def task(self, batch: int | None = None, antithetic: bool = False) -> InContextRegression:
        """The task, in batches of `batch` sequences (the first stage's if not given)."""
        batch = self.batch if batch is None else batch
        return InContextRegression(self.pairs, self.d_x, self.d_y, self.noise, batch, antithetic=antithetic)


def train_regression(config: Regression, folder: Path, *, on_progress: Show | None = None) -> dict[str, Any]:
    """Train one student in a run folder, and measure it.

    **Arguments:** folder: the run's; made if it is not there, gone on with if it is, read back if it is finished.
    on_progress: called after each chunk of training.

    **Returns:** what `result.json` holds: `measure`'s entries, and "mixer", "n", "m", "steps", "seed", "seconds".

    **Raises:** `InputError` and `FileError` for a folder that cannot be used, `DivergedError` for training that diverges.
    """
    run = Run.create(folder, {"regression": config})
    if (finished := run.read_json("result.json")) is not None:
        return finished
    fitted = first_order(config, run, on_progress)
    student = settled(fitted.model) if isinstance(fitted.model, GatedRNN) else fitted.model
    polished = train_stage(
        student, config.task(config.polish_batch), config.polish, config.seed, run, "polish", on_progress
    )
    begin = time.perf_counter()
    save_weights(folder / "weights.safetensors", polished.model)
    result = {
        **measure(polished.model, config.task(), config.validation),
        "first_order": measure(fitted.model, config.task(), max(config.validation // 8, 1)),
        "mixer": config.mixer,
        "n": config.n,
        "m": config.m,
        "steps": fitted.steps + polished.steps,
        "seed": config.seed,
        "seconds": fitted.seconds + polished.seconds + time.perf_counter() - begin,
    }
    run.write_json("result.json", result)
    return result


def first_order(config: Regression, run: Run | None = None, on_progress: Show | None = None) -> Fitted:
    """The first stage alone: a student from random weights."""
    key = jr.key(config.seed)
    task = config.task()

    def make(key: Array) -> GatedRNN | LinearAttention:
        if config.mixer == "gated_rnn":
            return GatedRNN.make(task.d, key=key, n=config.n, m=config.m, d_out=task.d_y, dtype=jnp.float32)
        whole = LinearAttention.make(task.d, key=key, heads=1, dtype=jnp.float32)
        return LinearAttention(whole.w_v[:, : task.d_y], whole.w_k, whole.w_q)

    return train_stage(eqx.filter_jit(make)(key), task, config.fit, config.seed, run, "train", on_progress)


def train_stage(
    model: Any, task: InContextRegression, config: FitConfig, seed: int, run: Run | None, stage: str, show: Show | None
) -> Fitted:
    """One stage of training on the task, from `model`; its losses are divided by that of predicting 0."""

    def on_chunk(progress) -> None:
        if show is not None:
            show(Moment(stage, progress.step, progress.steps, f"loss {progress.loss * task.target_power / 2:.5f}"))

    # A stage of its own draws from a key of its own: else the polish would see the first sequences again.
    seed = seed if stage == "train" else seed + 2**20
    fitted = fit(
        model,
        task.sample,
        replace(config, seed=seed),
        loss=last_output_loss,
        scale=task.target_power / 2,
        on_chunk=on_chunk,
        run=run,
        stage=stage,
    )
    if fitted.status == "interrupted":
        raise KeyboardInterrupt
    return fitted


def settled(rnn: GatedRNN, margin: float = 0.01) -> GatedRNN:
    """Without its dead units, and with decays at exactly 0 and 1 where all that live are within `margin` of them.

    Decays that are settled are given, not trained; where one lies between, all stay as they are and go on being trained.
    """
    rnn = keep_units(rnn, *alive(rnn))
    split = split_decays(rnn, margin)
    if len(split.between):
        return rnn
    exact = set_decays(rnn, split).given_decay
    assert exact is not None
    dtype = rnn.w_m_in.dtype
    return GatedRNN(
        w_m_in=rnn.w_m_in,
        w_x_in=rnn.w_x_in,
        w_m_out=rnn.w_m_out,
        w_x_out=rnn.w_x_out,
        readout=rnn.readout,
        decay=jnp.asarray(np.asarray(exact), dtype),
    )


def alive(rnn: GatedRNN, share: float = DEAD) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the hidden and of the pre-readout units whose weights carry at least `share` of the strongest's.

    What a unit carries is the product of the norms of what goes in and of what reads it.
    """
    norm = lambda a, axis: np.linalg.norm(np.asarray(a, np.float64), axis=axis)
    hidden = norm(rnn.w_m_in, 1) * norm(rnn.w_x_in, 1) * np.hypot(norm(rnn.w_m_out, 0), norm(rnn.w_x_out, 0))
    readout = norm(rnn.w_m_out, 1) * norm(rnn.w_x_out, 1) * norm(rnn.readout, 0)
    large = lambda carried: np.flatnonzero(carried >= share * carried.max())
    return large(hidden), large(readout)


def measure(
    model: GatedRNN | LinearAttention, task: InContextRegression, tasks: int = 2**19, *, seed: int = 2**21
) -> dict[str, Any]:
    """A network beside one step of gradient descent at the best rate.

    **Arguments:** tasks: how many fresh ones the losses are means over.  seed: of them; not one that training uses.

    **Returns:**

    - "rate": eta*.  "coefficients": of x_i^2 y_1 in the first output, (d_x,).  "learned_rate": the mean of all coefficients
      x_i^2 y_j in output j.  "coefficient_error": the largest relative distance of the first to eta*.  "residual_norm": of
      all other coefficients of the first output.
    - "loss", "standard_error", "exact_loss": the network's, and that of one step in closed form.
    - "gap", "gap_standard_error": the loss less that of one step on the same tasks, over the exact loss.  One step is the
      optimal linear attention layer.
    - "validation_loss", "validation_step_loss": both with twice the variance of W*.
    - "memory_units", "forget_units", "other_units", "readout_units", of a gated RNN.
    """
    found = {**_coefficients(model, task), **_losses(model, task, tasks, seed)}
    if isinstance(model, GatedRNN):
        split = split_decays(model)
        counts = {"memory_units": split.memory, "forget_units": split.forget, "other_units": split.between}
        found |= {name: len(units) for name, units in counts.items()} | {"readout_units": model.readout.shape[1]}
    return found


def _coefficients(model: GatedRNN | LinearAttention, task: InContextRegression) -> dict[str, Any]:
    names = {name: i for i, name in enumerate(monomial_names(task.d))}
    found, eta = polynomial(model), task.optimal_rate()
    place = lambda j: [names[f"x{i + 1}^2 x{task.d_x + j + 1}"] for i in range(task.d_x)]
    first = found[0, place(0)]
    return {
        "rate": eta,
        "learned_rate": float(np.mean([found[j, place(j)] for j in range(task.d_y)])),
        "coefficients": first.tolist(),
        "coefficient_error": float(np.max(np.abs(first / eta - 1))),
        "residual_norm": float(np.linalg.norm(np.delete(found[0], place(0)))),
    }


def _losses(model: Any, task: InContextRegression, tasks: int, seed: int) -> dict[str, float]:
    ours, step = paired_losses(model, task, tasks, seed)
    exact, count = task.one_step_loss(), len(ours)
    validation = task.validation()
    ours_doubled, step_doubled = paired_losses(model, validation, max(tasks // 4, 1), seed + 1, task.optimal_rate())
    return {
        "loss": float(ours.mean()),
        "standard_error": float(ours.std() / count**0.5),
        "exact_loss": exact,
        "gap": float((ours - step).mean() / exact),
        "gap_standard_error": float((ours - step).std() / count**0.5 / exact),
        "validation_loss": float(ours_doubled.mean()),
        "validation_step_loss": float(step_doubled.mean()),
    }


def paired_losses(
    model: Any, task: InContextRegression, tasks: int, seed: int, eta: float | None = None
) -> tuple[Float[np.ndarray, " task"], Float[np.ndarray, " task"]]:
    """Of each fresh task, the loss of the network and of one step of gradient descent.

    Their difference varies far less than they do, since the same tasks are hard for both.

    **Arguments:** tasks: at least so many, rounded up to whole batches of 8,192.  eta: the best rate if not given.
    """
    batch = min(tasks, 8192)
    task = InContextRegression(task.pairs, task.d_x, task.d_y, task.noise, batch, task.variance)
    rate = task.optimal_rate() if eta is None else eta
    half = lambda found, y: 0.5 * jnp.mean(jnp.square(found - y), axis=1)

    @eqx.filter_jit
    def run(model: Any, keys: Array) -> tuple[Array, Array]:
        def one(key: Array) -> tuple[Array, Array]:
            x, y = task.sample(key)
            return half(last_output(model, x), y), half(gradient_descent(x, rate, d_x=task.d_x), y)

        return jax.lax.map(one, keys)

    ours, step = run(model, jr.split(jr.key(seed), -(-tasks // batch)))
    return np.asarray(ours, np.float64).ravel(), np.asarray(step, np.float64).ravel()
