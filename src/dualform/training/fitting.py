"""Training from the first step to the last, or from the last good checkpoint on."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from dualform.counts import key_of
from dualform.errors import DivergedError, InputError, require
from dualform.interrupts import deferred_interrupt
from dualform.training.batches import mean_squared_error
from dualform.training.carried import Carried
from dualform.training.config import FitConfig, learning_rate_at, weight_decay_at
from dualform.training.devices import check_batch, here, mesh_of
from dualform.training.keeping import Best, Keeper, continued
from dualform.training.optimiser import adamw
from dualform.training.origin import origin
from dualform.training.parameters import decayed, trainable
from dualform.training.processes import Processes
from dualform.training.run import Run
from dualform.training.state import TrainState, arrays_of, initial_state, placed, state_from
from dualform.training.step import make_chunk
from dualform.training.stream import Stream

_LOG = logging.getLogger(__name__)
Status: TypeAlias = Literal["done", "stopped", "interrupted"]


class Progress(NamedTuple):
    """How far training is, told after each chunk.

    - step, steps: done, and in all.  loss: mean over the chunk, divided by the scale.
    - held_out: what `evaluate` gave, empty without one.
    - seconds: of training so far, earlier sessions included.  seconds_left: at this session's pace.
    - model: as it is now. Its memory is used again by the next chunk: copy what is to be kept.
    """

    step: int
    steps: int
    loss: float
    seconds: float
    seconds_left: float
    model: Any
    held_out: Mapping[str, float] = MappingProxyType({})


class Fitted(NamedTuple):
    """A trained model.

    - history: one record for each chunk, as in metrics.jsonl: stage, step, loss; learning_rate and weight_decay, where the
      optimiser is the config's; held_out, where there is something that evaluates.
    - status: "done"; "stopped" where `patience` ended it; "interrupted" where Ctrl-C or SIGTERM did.
    - steps: done.  seconds: of training, earlier sessions included.
    - best: the model with the least held-out loss of all chunks, the last one where nothing evaluates.  best_step: when.
    """

    model: Any
    history: list[dict[str, Any]]
    status: Status
    steps: int
    seconds: float
    best: Any
    best_step: int


def fit(
    model: Any,
    data: Callable[[Array], tuple[Any, Any]] | Iterable[tuple[Any, Any]] | Carried,
    config: FitConfig,
    *,
    loss: Callable[[Any, Any, Any], Array] = mean_squared_error,
    scale: float | int = 1.0,
    optimiser: optax.GradientTransformation | None = None,
    trainable: Callable[[PyTree], PyTree] = trainable,
    decayed: Callable[[PyTree], PyTree] = decayed,
    evaluate: Callable[[Any], Mapping[str, float]] | None = None,
    reshape: Callable[[TrainState], TrainState] | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
    run: Run | None = None,
    stage: str = "train",
    save_every: float | int = 3.0,
    devices: Iterable[Any] | None = None,
) -> Fitted:
    """Train `model` on data that are made on the device inside the compiled loop, or come in batches from outside.

    With a run folder, training goes on from the stage's last good checkpoint, and ends with the same weights and the same
    metrics, to the bit, as without the interruption (on the same machine, with the same versions). When checkpoints are
    taken depends on the clock, and changes no number. A finished run goes on to more steps, by their schedules, where `config`
    has more of them and is else the same.

    **Arguments:**

    - data: key -> (x, y), pure, which is compiled; a `Carried`, which has a loss of its own, where sequences go on from step to
      step; or an iterable of batches (x, y) of arrays of one shape, which is gone through again and again. A run goes on at the
      batch where it was: an iterator with `get_state` and `set_state` (as grain's) is put there, any other is passed over up to
      there, and must give the same batches in the same order again.
    - loss: (model, x, y) -> a scalar; divided by `scale`, for which the target's power is a good choice.
    - optimiser: any optax transformation; that of `config`, `adamw(config)`, if not given. Of the config, `learning_rate` to
      `epsilon` are then not read.
    - trainable, decayed: model -> flags, of what is trained and of what weight decay acts on. By default every real array,
      and the matrices that each mixer and module names in `weight_decayed`; what is given, a `Constant`, stays.
    - evaluate: model -> numbers, measured after each chunk on what is held out; they are in the history. By its "loss" the best
      model is kept, and `config.patience` ends training.
    - reshape: called after each chunk, before its checkpoint; it may return a state with smaller arrays (see
      `select_units`), for which the loop is then compiled anew. A pure function of the state, or resuming is not exact.
    - on_chunk: told of progress after each chunk.
    - stage: names the checkpoints and metrics, where a run trains more than once.
    - save_every: seconds between checkpoints, at least; 0 for one after each chunk. One is always taken at the end.
    - devices: that share the sequences of each batch (the first axis of every array of x and y), such as `jax.devices()`. The
      weights are whole on each, the optimiser's arrays in parts; numbers are those of one device, to rounding, and a run goes
      on with any others. Of several processes (see `joined`) all must call this alike, on the same data; the first alone uses
      `run`, and evaluates.

    **Returns:** the model and how it went. Ctrl-C, and SIGTERM, end at the next chunk's end, with a checkpoint; a second one at
    once.

    **Raises:** `DivergedError` where the loss, a weight or a moment is no longer finite; `InputError` where the checkpoint
    is of another model, data, loss or config (but for more steps, where it had reached its last), or where devices cannot
    share a batch equally; `FileError` where none is whole, one cannot be written, or another process trains in the folder.
    """
    require(
        config.patience == 0 or evaluate is not None,
        f"patience is {config.patience}, and there is no evaluate that looks at what is held out; give one, or patience 0.",
    )
    mesh = mesh_of(devices)
    processes = Processes(mesh)
    require(mesh is None or reshape is None, "reshape cuts arrays on one device; give no devices with it.")
    carried = data if isinstance(data, Carried) else None
    require(carried is None or reshape is None, "reshape cuts the model's units, and not the states that are carried.")
    run = run if processes.first else None
    with contextlib.ExitStack() as stack:
        processes.of_first(lambda: None if run is None else stack.enter_context(run.alone()))
        if isinstance(data, Carried):
            stream, sample, loss = None, data.drawn, data.alone
        else:
            stream = None if callable(data) else Stream(data)
            sample = data if callable(data) else _given
        first = () if stream is None else stream.first
        if mesh is not None:
            check_batch(jax.eval_shape(sample, jr.key(0), *first), mesh)
        moved = adamw(config, decayed) if optimiser is None else optimiser
        state = initial_state(model, config, optimiser=moved, trainable=trainable, carried=carried)
        chunk = make_chunk(
            sample if carried is None else carried.sample,
            config,
            loss=loss if carried is None else carried.loss,
            scale=scale,
            optimiser=optimiser,
            trainable=trainable,
            decayed=decayed,
            mesh=mesh,
            carries=carried is not None,
        )
        others = {"trainable": trainable, "decayed": decayed, "reshape": reshape}
        told = {} if optimiser is None else {"optimiser": optimiser}
        begun = partial(origin, sample=sample, loss=loss, scale=scale, batch=first, others=others | told)
        explain = partial(_explain, model, sample, loss, config, first)
        hooks = _Hooks(chunk, begun, explain, evaluate, reshape, on_chunk, stream, mesh, processes, optimiser is None)
        return _fitted(state, config, hooks, run, stage, save_every)


def _given(key: Array, *batch: Any) -> tuple[Any, Any]:
    """The sampler of batches that come from outside."""
    del key
    x, y = batch
    return x, y


class _Hooks(NamedTuple):
    """What training calls.

    - chunk: the compiled loop.  begun: state -> what training is of.  explain: step -> None, or raises what is wrong with the
      step's data.
    - evaluate, reshape, on_chunk: as of `fit`.  stream: the batches that come from outside, if any.
    - mesh: of the devices that were given.  processes: those that they belong to.
    - scheduled: whether the optimiser is the config's, with its schedules.
    """

    chunk: Callable[..., Any]
    begun: Callable[[TrainState], dict[str, Any]]
    explain: Callable[[int], None]
    evaluate: Callable[[Any], Mapping[str, float]] | None
    reshape: Callable[[TrainState], TrainState] | None
    on_chunk: Callable[[Progress], None] | None
    stream: Stream | None
    mesh: Mesh | None
    processes: Processes
    scheduled: bool


def _fitted(
    state: TrainState, config: FitConfig, hooks: _Hooks, run: Run | None, stage: str, save_every: float | int
) -> Fitted:
    """As `fit`, from its state before the first step."""
    mesh, processes, fresh = hooks.mesh, hooks.processes, state
    state, of, seconds, history, position = _begun(fresh, config, hooks, run, stage)
    if hooks.stream is not None:
        hooks.stream.go_to(int(state.step) * config.accumulate, position)
    best = Best(history, fresh.model, run, stage)
    saved = int(state.step) if of is not None else 0
    keeper = Keeper(run, stage, config, of, save_every, hooks.stream, best, saved)
    clock = _Clock(seconds, int(state.step), config.steps)
    state = placed(state, mesh)
    status: Status = "done"
    with deferred_interrupt() as interrupted:
        while (step := int(state.step)) < config.steps:
            if 0 < config.patience <= best.chunks_since(history):
                status = "stopped"
                break
            state, losses = _one_chunk(state, config, hooks, keeper)
            model = here(state.model, mesh)
            record = _record(config if hooks.scheduled else None, stage, step + len(losses), losses)
            if hooks.evaluate is not None:
                record["held_out"] = processes.of_first(partial(_measured, hooks.evaluate, model, record["step"]))
            history.append(record)
            keeper.note(record)
            best.note(record, model)
            try:
                if hooks.on_chunk is not None:
                    hooks.on_chunk(clock.progress(model, record))
            except KeyboardInterrupt:
                interrupted.set()
            stop, due = processes.any(interrupted.is_set(), keeper.is_due())
            if stop and int(state.step) < config.steps:
                status = "interrupted"
                break
            if due:
                keeper.save(state, clock.seconds())
        keeper.save(state, clock.seconds())
    model, step = here(state.model, mesh), int(state.step)
    kept, best_step = _best_of(best, model, step, processes)
    return Fitted(model, history, status, step, clock.seconds(), kept, best_step)


class _Begun(NamedTuple):
    """What there is to go on from.

    - of: what training is of; known to the first process alone, and None in all without a run's folder.
    """

    state: TrainState
    of: dict[str, Any] | None
    seconds: float
    history: list[dict[str, Any]]
    position: Any


def _begun(fresh: TrainState, config: FitConfig, hooks: _Hooks, run: Run | None, stage: str) -> _Begun:
    """What the first process finds in its folder, in all of them."""

    def begin() -> _Begun:
        if run is None:
            return _Begun(fresh, None, 0.0, [], None)
        of = hooks.begun(fresh)
        state, seconds, history, position = continued(run, fresh, config, stage, of)
        return _Begun(state, of, seconds, history, position)

    def told() -> list[Any]:
        state, *others = begin()
        return [arrays_of(state), *others]

    if not hooks.processes.several:
        return begin()
    arrays, *others = hooks.processes.of_first(told)
    return _Begun(state_from(arrays, fresh), *others)


def _best_of(best: Best, last: Any, step: int, processes: Processes) -> tuple[Any, int]:
    """The best model and its step, those of the first process in all of them."""

    def told() -> list[Any]:
        model, at = best.model(last, step)
        return [arrays_of(best.state(model)), at]

    if not processes.several:
        return best.model(last, step)
    arrays, at = processes.of_first(told)
    return state_from(arrays, best.state(best.like)).model, at


def _one_chunk(state: TrainState, config: FitConfig, hooks: _Hooks, keeper: Keeper) -> tuple[TrainState, np.ndarray]:
    """The state a chunk further, and the loss of each of its steps; raises where they are not finite."""
    step = int(state.step)
    batches = ()
    if hooks.stream is not None:
        count = min(config.chunk, config.steps - step)
        batches = _filled(hooks.stream.take(count, config.accumulate), config.chunk)
    state, metrics = hooks.chunk(state, batches)
    losses = np.asarray(metrics.loss)[: int(metrics.steps)]
    finite = bool(metrics.finite)
    if not (np.isfinite(losses).all() and finite):

        def fail():
            hooks.explain(step + int(np.argmin(np.isfinite(losses))))
            _check_finite(losses, finite, step, keeper, config)

        hooks.processes.of_first(fail)
    return state if hooks.reshape is None else hooks.reshape(state), losses


def _filled(batches: Any, count: int) -> Any:
    """Batches of a last, shorter chunk, with copies of the first that no step reads: one program serves chunks of any length."""
    more = lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], count - len(leaf), axis=0)])
    return jax.tree_util.tree_map(lambda leaf: leaf if len(leaf) == count else more(leaf), batches)


def _measured(evaluate: Callable[[Any], Mapping[str, float]], model: Any, step: int) -> dict[str, float]:
    measured = {name: float(value) for name, value in evaluate(model).items()}
    require("loss" in measured, f"evaluate gave {', '.join(measured) or 'nothing'}; a loss must be among them.")
    if not math.isfinite(measured["loss"]):
        _LOG.warning("the held-out loss after step %d is %s.", step, measured["loss"])
    return measured


class _Clock:
    """Seconds of training: those of earlier sessions and those of this one."""

    def __init__(self, before: float, step: int, steps: int):
        self.before, self.step, self.steps, self.begin = before, step, steps, time.monotonic()

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.begin

    def progress(self, model: Any, record: dict[str, Any]) -> Progress:
        step = record["step"]
        pace = (time.monotonic() - self.begin) / max(step - self.step, 1)
        left = pace * (self.steps - step)
        return Progress(step, self.steps, record["loss"], self.seconds(), left, model, record.get("held_out", {}))


def _record(config: FitConfig | None, stage: str, step: int, losses: np.ndarray) -> dict[str, Any]:
    """What is told of a chunk; of the config's optimiser, its schedules too."""
    record = {"stage": stage, "step": step, "loss": float(np.mean(losses.astype(np.float64)))}
    if config is None:
        return record
    last = jnp.asarray(max(step - 1, 0), jnp.int32)
    rates = {"learning_rate": learning_rate_at, "weight_decay": weight_decay_at}
    return record | {name: float(at(config, last)) for name, at in rates.items()}


def _explain(
    model: Any, sample: Callable[..., Any], loss: Callable[..., Any], config: FitConfig, batch: Any, step: int
) -> None:
    """Let the loss see the data of a step as they are, outside of a compiled loop, and say what is wrong with them."""
    try:
        key = jr.fold_in(key_of(config.seed), jnp.asarray(step, jnp.int32))
        loss(model, *sample(key, *jax.tree_util.tree_map(jnp.asarray, batch)))
    except InputError:
        raise
    except Exception as error:
        _LOG.debug("the data of step %d say nothing: %s", step, error)


def _check_finite(losses: np.ndarray, finite: bool, before: int, keeper: Keeper, config: FitConfig) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad) == 0 and finite:
        return
    if len(bad):
        what = f"the loss is {losses[bad[0]]} in step {before + int(bad[0]) + 1} of {config.steps}"
    else:
        what = f"a weight is no longer finite after step {before + len(losses)} of {config.steps}"
    raise DivergedError(
        f"training diverged: {what}. {keeper.last()} Lower learning_rate (now {config.learning_rate:g}) or clip (now "
        f"{config.clip:g}), or lengthen warmup (now {config.warmup})."
    )
