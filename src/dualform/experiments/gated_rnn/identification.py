"""The main job: a gated RNN is trained on an attention head, and reverse-engineered.

    train     AdamW in float32, weight decay annealed to 0; units that do nothing are cut away
    reduce    the trained network judged as it is, then reduced by algebra and judged again (`dualform.discover`)
    polish    a second stage, apart: Levenberg-Marquardt in float64 at the size that training left, judged in turn

The verdict rests on the first two: on gradient descent alone. All of it is a function of the config: a run that was killed
goes on from its last checkpoint and ends with the same numbers.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.checkpoints import save_weights
from dualform.construct import build
from dualform.counts import key_of
from dualform.discover import Stage, discover, measure, prune, relative_loss, saliency, split_decays
from dualform.discover.discovery import Stages
from dualform.discover.units import least_salient
from dualform.discover.verdict import LongRun
from dualform.errors import InputError, require
from dualform.mixers import GatedRNN
from dualform.tasks import Teacher, TeacherStudent
from dualform.training import (
    FitConfig,
    Fitted,
    Progress,
    Run,
    SecondOrder,
    TrainState,
    batched,
    fit,
    levenberg_marquardt,
    mean_squared_error,
    select_units,
    silence_units,
)


@dataclass(frozen=True)
class Identification:
    """What is trained on what, and how.

    - teacher: "default" or another embedded head's name, "gaussian", or a safetensors file.
    - d, rank: of a Gaussian teacher; rank is W_V's, full if None.
    - n, m: hidden and pre-readout units to begin with.
    - time, batch: tokens of a training sequence, sequences of a step.
    - fit: first-order training.
    - by_position: each position's squared error is divided by that position's target power; else all by their mean.
    - shrink: while training, units that together carry no more than this share of the output's power are cut away.
      shrink_from: the share of the steps from which on that is done; before, an idle unit may yet find something to do.
    - second_order: polishing.
    - horizon: for how many tokens the verdict is to hold.
    - seed: of everything; teacher_seed: of a Gaussian teacher, `seed` if None.
    """

    teacher: str = "default"
    d: int = 4
    rank: int | None = None
    n: int = 32
    m: int = 32
    time: int = 32
    batch: int = 64
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=40_000,
            chunk=500,
            warmup=500,
            learning_rate=2.5e-2,
            final_learning_rate=1e-6,
            decay_rate=3.0,
            weight_decay=0.015,
            weight_decay_until=0.5,
        )
    )
    by_position: bool = True
    shrink: float = 1e-7
    shrink_from: float = 0.8
    second_order: SecondOrder = SecondOrder(iterations=20, patience=5)
    horizon: int = 256
    seed: int = 0
    teacher_seed: int | None = None

    def __post_init__(self):
        for name in ("n", "m"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        require(self.fit.steps >= 1, f"steps is {self.fit.steps}; a student needs at least one step of training.")
        for name, of in (("shrink", "the output's power"), ("shrink_from", "the steps")):
            require(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}; it is a share of {of}, below 1.")


class Moment(NamedTuple):
    """Where a run is: its stage, how much of it is done, and what to show beside it."""

    stage: str
    done: int
    total: int
    note: str


def preset(name: str) -> Identification:
    """The configs by name: "default" (a real head), "quick" (the same, smaller), "paper" (Gaussian, n = m = 100)."""
    default = Identification()
    wide = replace(default.fit, steps=25_000, learning_rate=3e-2, weight_decay=0.03, weight_decay_until=0.7)
    return {
        "default": default,
        "quick": replace(default, n=24, m=24, fit=replace(default.fit, steps=15_000)),
        "paper": replace(default, teacher="gaussian", n=100, m=100, fit=wide, shrink=3e-7, shrink_from=0.0),
    }[name]


def recipe_of_the_paper(config: Identification) -> Identification:
    """The same student and teacher with the paper's optimiser and none of our levers, for as many steps."""
    fit = replace(
        config.fit,
        warmup=0,
        learning_rate=1e-3,
        final_learning_rate=1e-6,
        decay_rate=1.0,
        weight_decay=1e-4,
        final_weight_decay=1e-4,
        clip=float("inf"),
    )
    return replace(config, fit=fit, by_position=False, shrink=0.0)


class Data(NamedTuple):
    """Three kinds of data that have no token in common.

    - train: what the student is trained on, and the only thing that it sees.
    - ablate: held-out sequences, (512, time, d), on which ablations show what a unit is worth.
    - test: other held-out sequences, the same shape, on which the evidence is measured.
    """

    train: TeacherStudent
    ablate: Float[np.ndarray, "sequence time d"]
    test: Float[np.ndarray, "sequence time d"]


def data_of(teacher: Teacher, config: Identification) -> Data:
    """Training and held-out data: fresh draws where the teacher has no inputs, else parts of its own sequences.

    The last sequence is held out, its first half for ablations and its second for the test (the last two, where it is too
    short for that); of a single sequence, its last two fifths are.

    **Raises:** `InputError` where the teacher's inputs are too few for three windows of `time` tokens apart.
    """
    parts = (None, None, None) if teacher.inputs is None else _parts(teacher.inputs, config.time)
    with_inputs = lambda part: eqx.tree_at(lambda t: t.inputs, teacher, part, is_leaf=lambda leaf: leaf is None)
    train, *held_out = (
        TeacherStudent(with_inputs(part), time=config.time, batch=batch)
        for part, batch in zip(parts, (config.batch, 512, 512), strict=True)
    )
    draw = lambda task, key: np.asarray(task.inputs(key_of(key)), np.float64)
    ablate, test = (draw(task, config.seed + (2 + i) * 2**20) for i, task in enumerate(held_out))
    return Data(train, ablate, test)


def _parts(inputs: Float[Array, "sequence time d"], time: int):
    """Inputs for training, for ablations and for the test, without a token in common."""
    count, length = inputs.shape[:2]
    if count == 1 and length >= 5 * time:
        first, second = length - 2 * (length // 5), length - length // 5
        return inputs[:, :first], inputs[:, first:second], inputs[:, second:]
    if count > 1 and length >= 2 * time:
        return inputs[:-1], inputs[-1:, : length // 2], inputs[-1:, length // 2 :]
    if count > 2 and length >= time:
        return inputs[:-2], inputs[-2:-1], inputs[-1:]
    raise InputError(
        f"the teacher's inputs are {count} sequence(s) of {length} tokens: too few to train on some windows of {time} tokens "
        f"and to test on others. Give one sequence of {5 * time} tokens, two of {2 * time}, three of {time}, or more."
    )


def identify(
    config: Identification,
    folder: Path,
    *,
    paper_recipe: bool = False,
    on_progress: Callable[[Moment], None] | None = None,
) -> dict[str, Any]:
    """Train and reverse-engineer one student in a run folder, then polish it, apart.

    **Arguments:**

    - folder: the run's; made if it is not there, gone on with if it is, read back if it is finished.
    - paper_recipe: also train the student by the paper's recipe, for as many steps, and measure it.
    - on_progress: called as stages go on.

    **Returns:** what `result.json` holds. The verdict and the numbers at its top are those of the trained network and its
    reduction; "trained", "reduced" and "polished" hold each network's own verdict, reasons and numbers.

    **Raises:** `InputError` and `FileError` for a teacher or folder that cannot be used or that another process works in,
    `DivergedError` for training that diverges.
    """
    show = on_progress or (lambda moment: None)
    teacher = Teacher.find(config.teacher, d=config.d, rank=config.rank, seed=_teacher_seed(config))
    data = data_of(teacher, config)
    run = Run.create(folder, {"identification": config, "paper_recipe": paper_recipe, "teacher": _digest(teacher)})
    with run.alone():
        result = run.read_json("result.json")
        if result is None:
            result = _identified(config, teacher, data, run, paper_recipe, show)
            run.write_json("result.json", result)
        return result


def _identified(
    config: Identification,
    teacher: Teacher,
    data: Data,
    run: Run,
    paper_recipe: bool,
    show: Callable[[Moment], None],
) -> dict[str, Any]:
    """The result of one run: train, judge, polish, judge."""
    folder = run.path
    teacher.save(folder / "teacher.safetensors")
    fitted = train_student(config, data.train, run, on_progress=show)
    trained = time.perf_counter()
    save_weights(folder / "student.safetensors", fitted.model)
    judge = lambda rnn, on_stage: discover(
        rnn, teacher.attention, data.ablate, test=data.test, horizon=config.horizon, seed=config.seed, on_stage=on_stage
    )
    done: list[Stage] = []

    def stage(one: Stage) -> None:
        done.append(one)
        show(Moment("reduce", len(done), 5, f"{one.name}: {one.hidden_units} units, loss {one.relative_loss:.1e}"))

    found = judge(fitted.model, stage)
    save_weights(folder / "weights.safetensors", found.reduced.network)
    save_weights(folder / "recovered.safetensors", found.reduced.recovered.attention)
    run.keep_metrics("polish", 0)  # polishing is done again as a whole after an interruption
    second = polish(
        fitted.model,
        data.train,
        data.ablate,
        config.second_order,
        run,
        seed=config.seed,
        horizon=config.horizon,
        on_progress=show,
    )
    polished = judge(second.rnn, None)
    save_weights(folder / "polished.safetensors", polished.given.network)
    result = found.result()
    result = {
        **result,
        "trained": result.pop("given"),
        "polished": {**polished.given.result(), "stages": [asdict(one) for one in second.done]},
        "construction": smallest_construction(teacher),
        "steps": fitted.steps,
        "seed": config.seed,
        "teacher": teacher.name,
        # Wall clocks: the numbers that an interrupted run does not share with an unbroken one.
        "training_seconds": fitted.seconds,
        "seconds": fitted.seconds + time.perf_counter() - trained,
    }
    if paper_recipe:
        plain = train_student(recipe_of_the_paper(config), data.train, run, "paper recipe", on_progress=show)
        evidence = asdict(measure(plain.model, teacher.attention, data.test))
        result["paper_recipe"] = {**evidence, "seconds": plain.seconds}
    return result


def smallest_construction(teacher: Teacher) -> dict[str, int]:
    """The counts of the smallest construction that we have for this teacher: what a student can be reduced to."""
    certificate = build(teacher.attention, "low_rank", tolerance=1e-6).certificate  # the weights are float32
    return {name: getattr(certificate, name) for name in ("memory_units", "forget_units", "readout_units")}


def _digest(teacher: Teacher) -> str:
    """What tells one teacher from another: the SHA-256 of its weights and inputs."""
    digest = hashlib.sha256()
    for leaf in jax.tree_util.tree_leaves(teacher):
        digest.update(np.asarray(leaf).tobytes() if eqx.is_array(leaf) else repr(leaf).encode())
    return digest.hexdigest()


def _teacher_seed(config: Identification) -> int:
    return config.seed if config.teacher_seed is None else config.teacher_seed


def array_sizes(units: int) -> tuple[int, ...]:
    """The few sizes that arrays take while units are cut away: `units`, halved again and again, and one step between.

    Every size is compiled once; between two of them, idle units stay. Nothing is known here of what the student must end
    with.
    """
    sizes, k = {units}, 1
    while (size := int(np.ceil(units / 2 ** (k / 2)))) > 4:
        sizes.add(size)
        k += 1
    return tuple(sorted(sizes))


def loss_by_position(powers: Float[np.ndarray, " time"]) -> Callable[[Any, Array, Array], Array]:
    """The mean over positions of the squared error over that position's target power.

    The state of an attention grows with every token, and so do its outputs: the plain mean hardly sees the first ones,
    which tell the instantaneous map.
    """
    weight = jnp.asarray(1 / np.maximum(powers, 1e-30), jnp.float32)[None, :, None]
    return lambda model, x, y: jnp.mean(jnp.square(batched(model, x) - y) * weight)


def train_student(
    config: Identification,
    task: TeacherStudent,
    run: Run,
    stage: str = "train",
    *,
    on_progress: Callable[[Moment], None] | None = None,
) -> Fitted:
    """First-order training of a fresh student; units that do nothing are cut away between chunks.

    **Arguments:** task: what it is trained on.  run: gets checkpoints and metrics, under the name `stage`.
    """
    show = on_progress or (lambda moment: None)
    keys = jr.split(key_of(config.seed))
    attention = task.teacher.attention
    make = lambda key: GatedRNN.make(
        attention.d_in, key=key, n=config.n, m=config.m, d_out=attention.d_out, dtype=jnp.float32
    )
    student, draw = eqx.filter_jit(make)(keys[0]), eqx.filter_jit(task.inputs)
    sizes, powers = array_sizes(max(config.n, config.m)), np.asarray(task.target_powers(key_of(config.seed)))

    def cut(state: TrainState) -> TrainState:
        if int(state.step) < config.shrink_from * config.fit.steps:
            return state
        x = np.asarray(draw(jr.fold_in(keys[1], int(state.step))), np.float64)
        assert isinstance(state.model, GatedRNN)
        matters = saliency(state.model, x)
        idle = [least_salient(s, config.shrink) for s in matters]
        size = next(size for size in sizes if size >= max(len(s) - len(i) for s, i in zip(matters, idle, strict=True)))
        state = silence_units(state, *idle)
        if size >= max(map(len, matters)):
            return state
        return select_units(state, *(np.sort(np.argsort(-s, kind="stable")[:size]) for s in matters))

    def on_chunk(progress: Progress) -> None:
        split = split_decays(without_silent(progress.model))
        note = f"loss {progress.loss:.1e}   at 1 {len(split.memory)}, at 0 {len(split.forget)}, between {len(split.between)}"
        show(Moment(stage, progress.step, progress.steps, note))

    fitted = fit(
        student,
        task.sample,
        replace(config.fit, seed=config.seed),
        loss=loss_by_position(powers) if config.by_position else mean_squared_error,
        scale=1.0 if config.by_position else float(np.mean(powers)),
        run=run,
        stage=stage,
        reshape=cut if config.shrink else None,
        on_chunk=on_chunk,
    )
    if fitted.status == "interrupted":
        raise KeyboardInterrupt
    return fitted._replace(model=without_silent(fitted.model))


def without_silent(rnn: GatedRNN) -> GatedRNN:
    """The same function without the units that `training.silence_units` has silenced."""
    alive = lambda weights, axis: np.flatnonzero(np.any(np.asarray(weights) != 0, axis=axis))
    return select_units(rnn, alive(rnn.w_m_in, 1), alive(rnn.readout, 0))


def polish(
    rnn: GatedRNN,
    task: TeacherStudent,
    ablate: Float[np.ndarray, "sequence time d"],
    config: SecondOrder,
    run: Run,
    *,
    seed: int,
    horizon: int = 256,
    on_progress: Callable[[Moment], None] | None = None,
) -> Stages:
    """Second-order training of what first-order training left, on fresh data of the same kind.

    Units that an ablation does not miss go first (a tenth of the loss, together), since the cost grows with the cube of
    the parameters. Nothing is added and nothing is forced: decays move in [0, 1] as the loss has it.

    **Arguments:** ablate: held-out sequences (sequence, time, d).  run: gets the losses as metrics of the stage "polish".
    horizon: how many tokens the cost in the long run is measured over.

    **Returns:** the network, and both stages with what each cost on the held-out sequences.
    """
    show, attention = on_progress or (lambda moment: None), task.teacher.attention
    stages = Stages(rnn, attention, ablate, LongRun.of(attention, ablate, horizon, seed + 1))
    stages.add("prune", prune(rnn, ablate, 0.1 * relative_loss(rnn, attention, ablate)))

    def iteration(i: int, loss: float) -> None:
        run.append_metrics({"stage": "polish", "step": i + 1, "loss": loss})
        show(Moment("polish", i, config.iterations, f"loss {loss:.1e}"))

    power = task.target_power(key_of(seed))
    found = levenberg_marquardt(stages.rnn, _in_float64(task), power, config, seed=seed, on_iteration=iteration)
    show(Moment("polish", config.iterations, config.iterations, f"loss {found.relative_loss:.1e}"))
    stages.add("polish", found.rnn)
    return stages


def _in_float64(task: TeacherStudent) -> Callable[[Array], tuple[Array, Array]]:
    """The task's samples in float64, 256 sequences each; to be called where float64 is enabled."""
    with jax.enable_x64(True):
        widen = lambda a: jnp.asarray(np.asarray(a), jnp.float64)
        wide = TeacherStudent(jax.tree_util.tree_map(widen, task.teacher), time=task.time, batch=256)
        return eqx.filter_jit(wide.sample)
