"""Checkpoints, metrics and the best model of a training, from one session to the next."""

import dataclasses
import logging
import math
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dualform.errors import FileError, InputError
from dualform.training.checkpoints import Checkpoint
from dualform.training.config import FitConfig, told_of
from dualform.training.origin import check_origin
from dualform.training.run import Run
from dualform.training.state import TrainState, arrays_of, initial_state, state_from
from dualform.training.stream import Stream

_LOG = logging.getLogger(__name__)


class Resumed(NamedTuple):
    """What a run goes on from: the state, the seconds of training that led there, and where the data were, if they say so."""

    state: TrainState
    seconds: float
    position: Any = None


def resume(
    run: Run,
    model: Any,
    config: FitConfig,
    *,
    stage: str = "train",
    like: TrainState | None = None,
    begun: dict[str, Any] | None = None,
) -> Resumed | None:
    """The state at the last good checkpoint of a stage, None where there is none yet; `fit(..., run=run)` goes on from it.

    **Arguments:** model: of the structure that was trained; its shapes do not matter, since units may have been cut away.
    like: a state of the structure that was trained, where `fit` was told what to train. begun: what training is of, as of
    `dualform.training.origin`; not looked at if not given.

    **Raises:** `FileError` where checkpoints are there and none is whole (a damaged one is passed over with a logged
    warning); `InputError` where it is of another model or config.
    """

    def check(checkpoint: Checkpoint) -> None:
        # Metrics go to disk before a checkpoint does; without them, going on would leave a gap.
        lacks = {"lines", "config", "seconds"} - checkpoint.metadata.keys()
        if lacks:
            raise FileError(f"the checkpoint of step {checkpoint.step} does not say its {', '.join(sorted(lacks))}.")
        found = [line for line in run.metrics(stage) if line["step"] <= checkpoint.step]
        if len(found) < checkpoint.metadata["lines"]:
            raise FileError(f"metrics.jsonl has lost lines from before the checkpoint of step {checkpoint.step}.")

    checkpoint = run.checkpoints(stage).newest(check)
    if checkpoint is None:
        return None
    extended = _extended(checkpoint, config)
    for name, value in dataclasses.asdict(config).items():
        before = {**_LATER, **checkpoint.metadata["config"]}.get(name)
        if before != _plain_number(value) and not (extended and name == "steps"):
            raise InputError(
                f"the checkpoint of step {checkpoint.step} in {str(run.path)!r} was made with {name} = {before}, and now it "
                f"is {value}. Choose another folder for this run, or delete that one."
            )
    if extended:
        _LOG.warning(
            "the stage %s in %s had reached its last step, %d: it goes on to %d, by the schedules of %d steps.",
            *(stage, run.path, checkpoint.step, config.steps, config.steps),
        )
    if begun is not None:
        what = f"the checkpoint of step {checkpoint.step} in {str(run.path)!r}"
        check_origin(checkpoint.metadata.get("of"), begun, what)
    like = initial_state(model, config) if like is None else like
    metadata = checkpoint.metadata
    return Resumed(state_from(checkpoint.arrays, like), float(metadata["seconds"]), metadata.get("position"))


_LATER = {each.name: each.default for each in dataclasses.fields(FitConfig) if "later" in each.metadata}


def _extended(checkpoint: Checkpoint, config: FitConfig) -> bool:
    """Whether a checkpoint had reached the last of its steps, and more are wanted now."""
    before = checkpoint.metadata["config"].get("steps")
    return isinstance(before, int) and checkpoint.step == before < config.steps


def continued(run: Run, fresh: TrainState, config: FitConfig, stage: str, of: dict[str, Any]):
    """State, seconds, history and place of the data to go on with, and a folder that holds nothing from after them."""
    found = resume(run, fresh.model, config, stage=stage, like=fresh, begun=of)
    state, seconds, position = (fresh, 0.0, None) if found is None else found
    step = int(state.step)
    run.checkpoints(stage).discard_after(step)
    run.keep_metrics(stage, step)
    return state, seconds, run.metrics(stage), position


def _plain_number(value: Any) -> Any:
    """As JSON gives it back: infinity is kept as a string."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


class Best:
    """The model with the least held-out loss so far: in memory and, from checkpoint to checkpoint, in the run's folder."""

    def __init__(self, history: list[dict[str, Any]], like: Any, run: Run | None, stage: str):
        self.like, self.kept, self.step, self.loss = like, None, 0, math.inf
        self.checkpoints = None if run is None else run.best(stage)
        for record in history:
            self._is_better(record)
        self.saved = self.step
        if self.checkpoints is not None:
            self.checkpoints.discard_after(self.step)

    def _is_better(self, record: dict[str, Any]) -> bool:
        loss = float(record.get("held_out", {}).get("loss", math.inf))
        better = loss < self.loss
        if better:
            self.step, self.loss = record["step"], loss
        return better

    def note(self, record: dict[str, Any], model: Any) -> None:
        """Keep the model, if it is better: a copy, since training uses its memory again."""
        if self._is_better(record):
            self.kept = jax.tree_util.tree_map(lambda leaf: jnp.array(leaf) if eqx.is_array(leaf) else leaf, model)

    def save(self) -> None:
        """Write it, if it is not written yet; to be done before the checkpoint of a later step."""
        if self.checkpoints is not None and self.step != self.saved:
            self.checkpoints.save(self.step, arrays_of(self.state(self.kept)), {"loss": self.loss})
            self.saved = self.step

    def chunks_since(self, history: list[dict[str, Any]]) -> int:
        """How many chunks there were since the best one."""
        return sum(record["step"] > self.step for record in history)

    def model(self, last: Any, step: int) -> tuple[Any, int]:
        """The best model and its step; the last one where nothing was measured, or its checkpoint is not to be had."""
        if self.step in (0, step):
            return last, step
        if self.kept is not None or self.checkpoints is None:
            return self.kept, self.step
        try:
            arrays = self.checkpoints.restore(self.step).arrays
            return state_from(arrays, self.state(self.like)).model, self.step
        except FileError as error:
            _LOG.warning("%s The last model stands for the best one.", error)
            return last, step

    def state(self, model: Any) -> TrainState:
        """A model as it is saved."""
        return TrainState(model, (), jnp.zeros((), jnp.int32), jr.key(0))


class Keeper:
    """Writes metrics and checkpoints of one stage where there is a run folder, else does nothing."""

    def __init__(
        self,
        run: Run | None,
        stage: str,
        config: FitConfig,
        of: dict[str, Any] | None,
        every: float | int,
        stream: Stream | None,
        best: Best,
        saved: int,
    ):
        self.run, self.stage, self.config, self.of, self.every = run, stage, config, of, every
        self.stream, self.best = stream, best
        self.saved, self.at, self.took = saved, time.monotonic(), 0.0
        self.checkpoints = None if run is None else run.checkpoints(stage)

    def note(self, record: dict[str, Any]) -> None:
        """Write a line of metrics."""
        if self.run is not None:
            self.run.append_metrics(record)

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        # A large model's checkpoint may take long: at most a twentieth of the time goes to saving.
        pause = max(self.every, 20 * self.took) if self.every > 0 else 0.0
        return self.run is not None and time.monotonic() - self.at >= pause

    def save(self, state: TrainState, seconds: float) -> None:
        """Take a checkpoint, if there is none of this step; of several processes the first writes it, from parts of all."""
        step = int(state.step)
        if self.of is None or step == self.saved:
            return
        begin, arrays = time.monotonic(), arrays_of(state)
        self.saved = step
        if self.run is None or self.checkpoints is None:
            return
        self.run.sync_metrics()
        self.best.save()
        config = {name: _plain_number(value) for name, value in told_of(self.config).items()}
        metadata = {
            "stage": self.stage,
            "config": config,
            "seconds": seconds,
            "lines": len(self.run.metrics(self.stage)),
            "of": self.of,
            **({} if self.stream is None else {"position": self.stream.position()}),
        }
        self.checkpoints.save(step, arrays, metadata)
        self.at = time.monotonic()
        self.took = self.at - begin

    def last(self) -> str:
        """The last good checkpoint, in words."""
        if self.checkpoints is None:
            return "No checkpoint was kept, since there is no run folder."
        steps = self.checkpoints.steps()
        if not steps:
            return "There is no checkpoint before it."
        return f"The last good checkpoint is that of step {steps[0]}, in {str(self.checkpoints.folder)!r}."
