"""The loop over chunks: what is told, kept and looked at after each, of one training or of several side by side."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jax.sharding import Mesh

from dualform.errors import DivergedError
from dualform.interrupts import deferred_interrupt
from dualform.training.config import FitConfig
from dualform.training.devices import here
from dualform.training.keeping import Best, continued
from dualform.training.member import Begun, Member, Progress, Status, measured
from dualform.training.processes import Processes
from dualform.training.run import Run
from dualform.training.state import TrainState, arrays_of, placed, state_from
from dualform.training.step import ChunkMetrics
from dualform.training.stream import Stream


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


class Hooks(NamedTuple):
    """What training calls.

    - chunk: the compiled loop.  begun: state -> what training is of.  explain: step -> None, or raises what is wrong with the
      step's data.
    - evaluate, reshape: as of `fit`.  on_chunk: (member, progress) -> None.  stream: the batches that come from outside, if any.
    - mesh: of the devices that were given.  processes: those that they belong to.
    - scheduled: whether the optimiser is the config's, with its schedules.  together: whether a state is that of several
      members, each array with an axis of them in front.
    """

    chunk: Callable[..., Any]
    begun: Callable[[TrainState], dict[str, Any]]
    explain: Callable[[int], None]
    evaluate: Callable[[Any], Mapping[str, float]] | None
    reshape: Callable[[TrainState], TrainState] | None
    on_chunk: Callable[[int, Progress], None] | None
    stream: Stream | None
    mesh: Mesh | None
    processes: Processes
    scheduled: bool
    together: bool = False

    def own(self, tree: Any, i: int) -> Any:
        """Of a state, or its metrics, what is the member's of that number."""
        return jtu.tree_map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, tree) if self.together else tree


def fitted(
    state: TrainState, config: FitConfig, hooks: Hooks, run: Run | None, stage: str, save_every: float | int
) -> Fitted:
    """As `fit`, from its state before the first step."""
    begun = begun_in(state, config, hooks, run, stage)
    if hooks.stream is not None:
        hooks.stream.go_to(int(begun.state.step) * config.accumulate, begun.position)
    member = Member(begun, state.model, config, run, stage, save_every, hooks.stream)
    train([member], placed(begun.state, hooks.mesh), config, hooks)
    return outcome(member, hooks)


def outcome(member: Member, hooks: Hooks) -> Fitted:
    """What came of a member that ended."""
    model = here(member.state.model, hooks.mesh)
    kept, best_step = _best_of(member.best, model, member.step, hooks.processes)
    return Fitted(model, member.history, member.status or "done", member.step, member.seconds(), kept, best_step)


def train(members: list[Member], state: TrainState, config: FitConfig, hooks: Hooks) -> None:
    """Chunk after chunk, until no member goes on; all are at the same step, and one that ended is no longer looked at."""
    step = members[0].step
    with deferred_interrupt() as interrupted:
        while True:
            going = {i: member for i, member in enumerate(members) if member.goes_on}
            for i, member in going.items():
                if step >= config.steps or member.has_enough():
                    member.end("done" if step >= config.steps else "stopped", hooks.own(state, i))
            going = {i: member for i, member in going.items() if member.goes_on}
            if not going:
                return
            state, metrics = _one_chunk(state, config, hooks, step)
            for i, member in going.items():
                _note(i, member, here(hooks.own(state.model, i), hooks.mesh), hooks.own(metrics, i), hooks, interrupted)
            going = {i: member for i, member in going.items() if member.goes_on}
            step = max((member.step for member in going.values()), default=step)
            due = any(member.keeper.is_due() for member in going.values())
            stop, due = hooks.processes.any(interrupted.is_set(), due)
            for i, member in going.items():
                if stop and step < config.steps:
                    member.end("interrupted", hooks.own(state, i))
                elif due:
                    member.save(hooks.own(state, i))


def _note(i: int, member: Member, model: Any, metrics: ChunkMetrics, hooks: Hooks, interrupted: Any) -> None:
    """Take down a member's chunk and tell of it; several go on where one diverged."""
    losses = np.asarray(metrics.loss)[: int(metrics.steps)]
    if not _is_finite(metrics):

        def fail():
            hooks.explain(member.step + int(np.argmin(np.isfinite(losses))))
            member.check_finite(losses, bool(metrics.finite))

        try:
            hooks.processes.of_first(fail)
        except DivergedError as error:
            if not hooks.together:
                raise
            member.error = error
            return
    evaluate = hooks.evaluate
    scores = None if evaluate is None else lambda *at: hooks.processes.of_first(partial(measured, evaluate, *at))
    progress = member.note(losses, model, hooks.scheduled, scores)
    try:
        if hooks.on_chunk is not None:
            hooks.on_chunk(i, progress)
    except KeyboardInterrupt:
        interrupted.set()


def begun_in(fresh: TrainState, config: FitConfig, hooks: Hooks, run: Run | None, stage: str) -> Begun:
    """What the first process finds in its folder, in all of them."""

    def begin() -> Begun:
        if run is None:
            return Begun(fresh, None, 0.0, [], None)
        of = hooks.begun(fresh)
        state, seconds, history, position = continued(run, fresh, config, stage, of)
        return Begun(state, of, seconds, history, position)

    def told() -> list[Any]:
        state, *others = begin()
        return [arrays_of(state), *others]

    if not hooks.processes.several:
        return begin()
    arrays, *others = hooks.processes.of_first(told)
    return Begun(state_from(arrays, fresh), *others)


def _best_of(best: Best, last: Any, step: int, processes: Processes) -> tuple[Any, int]:
    """The best model and its step, those of the first process in all of them."""

    def told() -> list[Any]:
        model, at = best.model(last, step)
        return [arrays_of(best.state(model)), at]

    if not processes.several:
        return best.model(last, step)
    arrays, at = processes.of_first(told)
    return state_from(arrays, best.state(best.like)).model, at


def _one_chunk(state: TrainState, config: FitConfig, hooks: Hooks, step: int) -> tuple[TrainState, ChunkMetrics]:
    """The state a chunk further, and what it says of itself."""
    batches = ()
    if hooks.stream is not None:
        count = min(config.chunk, config.steps - step)
        batches = _filled(hooks.stream.take(count, config.accumulate), config.chunk)
    state, metrics = hooks.chunk(state, batches)
    return hooks.reshape(state) if hooks.reshape is not None and _is_finite(metrics) else state, metrics


def _is_finite(metrics: ChunkMetrics) -> bool:
    """Whether a chunk's losses, and the state behind it, are."""
    return bool(metrics.finite) and bool(np.isfinite(np.asarray(metrics.loss)[: int(metrics.steps)]).all())


def _filled(batches: Any, count: int) -> Any:
    """Batches of a last, shorter chunk, with copies of the first that no step reads: one program serves chunks of any length."""
    more = lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], count - len(leaf), axis=0)])
    return jtu.tree_map(lambda leaf: leaf if len(leaf) == count else more(leaf), batches)
