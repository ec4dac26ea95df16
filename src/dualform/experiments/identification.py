"""The main job: a gated RNN is trained on an attention head, and reverse-engineered.

    train     AdamW in float32, weight decay strong and annealed, units that die cut away
    polish    Levenberg-Marquardt in float64, decays trained too, until the loss is gone or stays
    discover  judge; merge, prune, split, reduce, and judge again (`dualform.discover`)

All of it is a function of the config: a run that was killed goes on from its last checkpoint and ends with the same
numbers.
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

from dualform.construct import build
from dualform.discover import (
    Stage,
    discover,
    measure,
    prune,
    relative_loss,
    saliency,
    split_decays,
)
from dualform.discover.units import grow, least_salient
from dualform.errors import require
from dualform.mixers import GatedRNN
from dualform.tasks import Teacher, TeacherStudent
from dualform.training import (
    FitConfig,
    Fitted,
    Polished,
    Progress,
    Run,
    SecondOrder,
    TrainState,
    fit,
    levenberg_marquardt,
    save_weights,
    select_units,
)


@dataclass(frozen=True)
class Identification:
    """What is trained on what, and how.

    - teacher: "default" or another embedded head's name, "gaussian", or a safetensors file.
    - d, rank: of a Gaussian teacher; rank is W_V's, full if None.
    - n, m: hidden and pre-readout units to begin with.
    - time, batch: tokens of a training sequence, sequences of a step.
    - fit: first-order training.  shrink: units are cut away while that costs less than this share of the loss.
    - second_order: polishing.  rounds: of polishing, at most.
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
            steps=4000,
            chunk=250,
            warmup=200,
            learning_rate=1e-2,
            final_learning_rate=1e-5,
            decay_rate=3.0,
            weight_decay=0.3,
        )
    )
    shrink: float = 0.02
    second_order: SecondOrder = SecondOrder()
    rounds: int = 4
    seed: int = 0
    teacher_seed: int | None = None

    def __post_init__(self):
        for name in ("n", "m", "rounds"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        require(self.fit.steps >= 1, f"steps is {self.fit.steps}; a student needs at least one step of training.")


class Moment(NamedTuple):
    """Where a run is: its stage, how much of it is done, and what to show beside it."""

    stage: str
    done: int
    total: int
    note: str


def preset(name: str) -> Identification:
    """The configs by name: "default" (a real head), "quick" (the same, smaller), "paper" (Gaussian, n = m = 100)."""
    default = Identification()
    return {
        "default": default,
        "quick": replace(default, n=24, m=24, fit=replace(default.fit, steps=2000)),
        "paper": replace(default, teacher="gaussian", n=100, m=100, fit=replace(default.fit, weight_decay=0.6)),
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
    return replace(config, fit=fit, shrink=0.0)


def identify(
    config: Identification,
    folder: Path,
    *,
    paper_recipe: bool = False,
    on_progress: Callable[[Moment], None] | None = None,
) -> dict[str, Any]:
    """Train, polish and reverse-engineer one student, in a run folder.

    **Arguments:**

    - folder: the run's; made if it is not there, gone on with if it is, read back if it is finished.
    - paper_recipe: also train the student by the paper's recipe, for as many steps, and measure it.
    - on_progress: called as stages go on.

    **Returns:** what `result.json` holds.

    **Raises:** `InputError` and `FileError` for a teacher or folder that cannot be used, `DivergedError` for training that
    diverges.
    """
    show = on_progress or (lambda moment: None)
    teacher = Teacher.find(config.teacher, d=config.d, rank=config.rank, seed=_teacher_seed(config))
    train, test = _tasks(teacher, config)
    run = Run.create(folder, {"identification": config, "paper_recipe": paper_recipe, "teacher": _digest(teacher)})
    if (finished := run.read_json("result.json")) is not None:
        return finished
    teacher.save(folder / "teacher.safetensors")
    inputs = np.asarray(
        TeacherStudent(train.teacher, time=config.time, batch=512).inputs(jr.key(config.seed)), np.float64
    )
    held_out = np.asarray(test.inputs(jr.key(config.seed + 2**20)), np.float64)
    power = train.target_power(jr.key(config.seed))
    fitted = _train(config, train, power, run, "train", show)
    trained = time.perf_counter()
    first = measure(fitted.model, teacher.attention, held_out)
    save_weights(folder / "student.safetensors", fitted.model)
    run.keep_metrics("polish", 0)  # polishing is done again as a whole after an interruption
    student = polish(fitted.model, config, train, power, inputs, run, show)
    save_weights(folder / "polished.safetensors", student)
    done: list[Stage] = []

    def stage(one: Stage) -> None:
        done.append(one)
        show(Moment("reduce", len(done), 5, f"{one.name}: {one.hidden_units} units, loss {one.relative_loss:.1e}"))

    found = discover(student, teacher.attention, inputs, test=held_out, seed=config.seed, on_stage=stage)
    save_weights(folder / "weights.safetensors", found.reduced.network)
    save_weights(folder / "recovered.safetensors", found.reduced.recovered.attention)
    result = {
        **found.result(),
        "first_order": asdict(first),
        "construction": _smallest_construction(teacher),
        "steps": fitted.steps,
        "seed": config.seed,
        "teacher": teacher.name,
        # A wall clock: the one number that an interrupted run does not share with an unbroken one.
        "seconds": fitted.seconds + time.perf_counter() - trained,
    }
    if paper_recipe:
        plain = _train(recipe_of_the_paper(config), train, power, run, "paper recipe", show)
        result["paper_recipe"] = {**asdict(measure(plain.model, teacher.attention, held_out)), "seconds": plain.seconds}
    run.write_json("result.json", result)
    return result


def _smallest_construction(teacher: Teacher) -> dict[str, int]:
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


def _tasks(teacher: Teacher, config: Identification) -> tuple[TeacherStudent, TeacherStudent]:
    """Training and test data. Of several real sequences the last is kept for the test; of one, both are windows."""
    with_inputs = lambda inputs: eqx.tree_at(lambda t: t.inputs, teacher, inputs, is_leaf=lambda leaf: leaf is None)
    seen, unseen = teacher, teacher
    if teacher.inputs is not None and len(teacher.inputs) > 1:
        seen, unseen = with_inputs(teacher.inputs[:-1]), with_inputs(teacher.inputs[-1:])
    return (
        TeacherStudent(seen, time=config.time, batch=config.batch),
        TeacherStudent(unseen, time=config.time, batch=512),
    )


def array_sizes(units: int, d: int) -> tuple[int, ...]:
    """The few sizes that arrays take while units die: 1.7 and 3.4 times the compact construction's hidden units, and all.

    Every size is compiled once; between two of them, dead units stay.
    """
    few = int(np.ceil(1.7 * (d * (d + 1) // 2 + d)))
    return tuple(sorted({min(few, units), min(2 * few, units), units}))


def _train(
    config: Identification, task: TeacherStudent, power: float, run: Run, stage: str, show: Callable[[Moment], None]
) -> Fitted:
    """First-order training, units that die cut away between chunks."""
    keys = jr.split(jr.key(config.seed))
    attention = task.teacher.attention
    make = lambda key: GatedRNN.make(
        attention.d_in, key=key, n=config.n, m=config.m, d_out=attention.d_out, dtype=jnp.float32
    )
    student, draw = eqx.filter_jit(make)(keys[0]), eqx.filter_jit(task.inputs)
    sizes = array_sizes(max(config.n, config.m), attention.d_in)

    def cut(state: TrainState) -> TrainState:
        x = np.asarray(draw(jr.fold_in(keys[1], int(state.step))), np.float64)
        assert isinstance(state.model, GatedRNN)
        matters, loss = saliency(state.model, x), relative_loss(state.model, attention, x)
        alive = max(len(s) - len(least_salient(s, config.shrink * loss)) for s in matters)
        now = max(len(s) for s in matters)
        size = next((size for size in sizes if size >= alive), now)
        if size >= now:
            return state
        hidden, readout = (np.sort(np.argsort(-s, kind="stable")[:size]) for s in matters)
        return select_units(state, hidden, readout)

    def on_chunk(progress: Progress) -> None:
        split = split_decays(progress.model)
        note = f"loss {progress.loss:.1e}   at 1 {len(split.memory)}, at 0 {len(split.forget)}, between {len(split.between)}"
        show(Moment(stage, progress.step, progress.steps, note))

    fitted = fit(
        student,
        task.sample,
        replace(config.fit, seed=config.seed),
        scale=power,
        run=run,
        stage=stage,
        reshape=cut if config.shrink else None,
        on_chunk=on_chunk,
    )
    if fitted.status == "interrupted":
        raise KeyboardInterrupt
    return fitted


def polish(
    rnn: GatedRNN,
    config: Identification,
    task: TeacherStudent,
    power: float,
    inputs: Float[np.ndarray, "sequence time d"],
    run: Run,
    show: Callable[[Moment], None],
) -> GatedRNN:
    """Second-order training in rounds: fill up to a working size, polish, prune.

    A round that stalls gets four more units of each kind than the one before, never more than the student began with.
    """
    teacher, data = task.teacher, _in_float64(task)
    second = config.second_order
    rnn = prune(rnn, inputs, 1e-3 * relative_loss(rnn, teacher.attention, inputs))
    few, total, done = array_sizes(10**6, teacher.attention.d_in)[0], config.rounds * second.iterations, 0

    def iteration(i: int, loss: float) -> None:
        run.append_metrics({"stage": "polish", "step": done + i + 1, "loss": loss})
        show(Moment("polish", done + i, total, f"loss {loss:.1e}"))

    def polished(rnn: GatedRNN, seed: int) -> Polished:
        return levenberg_marquardt(rnn, data, power, second, seed=seed, on_iteration=iteration)

    loss = np.inf
    for turn in range(config.rounds):
        target = few + 4 * turn
        hidden = max(0, min(target, config.n) - len(rnn.w_m_in))
        readout = max(0, min(target, config.m) - rnn.readout.shape[1])
        found = polished(grow(rnn, hidden, readout, inputs, config.seed + turn), config.seed + turn)
        rnn, loss, done = found.rnn, found.relative_loss, done + second.iterations
        if loss < second.tolerance:
            break
        rnn = prune(rnn, inputs, 1e-2 * loss)
    show(Moment("polish", total, total, f"loss {loss:.1e}"))
    return rnn


def _in_float64(task: TeacherStudent) -> Callable[[Array], tuple[Array, Array]]:
    """The task's samples in float64, 256 sequences each; to be called where float64 is enabled."""
    with jax.enable_x64(True):
        widen = lambda a: jnp.asarray(np.asarray(a), jnp.float64)
        wide = TeacherStudent(jax.tree_util.tree_map(widen, task.teacher), time=task.time, batch=256)
        return eqx.filter_jit(wide.sample)
