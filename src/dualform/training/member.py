"""One training of those that a program takes further: what it has done, keeps and writes, and how it stands."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from dualform.errors import DivergedError, require
from dualform.training.config import FitConfig, learning_rate_at, weight_decay_at
from dualform.training.keeping import Best, Keeper
from dualform.training.run import Run
from dualform.training.state import TrainState
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


class Begun(NamedTuple):
    """What there is to go on from.

    - of: what training is of; known to the first process alone, and None in all without a run's folder.
    """

    state: TrainState
    of: dict[str, Any] | None
    seconds: float
    history: list[dict[str, Any]]
    position: Any


class Member:
    """A training at a step: its history, its best model, its checkpoints and its clock.

    - status: None while it goes on.  error: by which it ended, where its numbers were no longer finite.  state: where it ended.
    """

    def __init__(
        self,
        begun: Begun,
        like: Any,
        config: FitConfig,
        run: Run | None,
        stage: str,
        save_every: float | int,
        stream: Stream | None = None,
    ):
        self.config, self.stage, self.history, self.step = config, stage, begun.history, int(begun.state.step)
        self.best = Best(begun.history, like, run, stage)
        saved = self.step if begun.of is not None else 0
        self.keeper = Keeper(run, stage, config, begun.of, save_every, stream, self.best, saved)
        self.status: Status | None = None
        self.error: DivergedError | None = None
        self.state: TrainState = begun.state
        self._before, self._first, self._begin = begun.seconds, self.step, time.monotonic()
        self._end: float | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it has steps to do."""
        return self.status is None and self.error is None

    def seconds(self) -> float:
        """Of training, earlier sessions included."""
        return self._before + (time.monotonic() if self._end is None else self._end) - self._begin

    def has_enough(self) -> bool:
        """Whether it got no better for as long as the config waits."""
        return 0 < self.config.patience <= self.best.chunks_since(self.history)

    def note(
        self, losses: np.ndarray, model: Any, scheduled: bool, evaluate: Callable[[Any, int], dict[str, float]] | None
    ) -> Progress:
        """Take down a chunk.

        **Arguments:** losses: of its steps; scheduled: whether the optimiser is the config's; evaluate: (model, step) -> scores.
        """
        record = _record(self.config if scheduled else None, self.stage, self.step + len(losses), losses)
        self.step = record["step"]
        if evaluate is not None:
            record["held_out"] = evaluate(model, self.step)
        self.history.append(record)
        self.keeper.note(record)
        self.best.note(record, model)
        pace = (time.monotonic() - self._begin) / max(self.step - self._first, 1)
        left = pace * (self.config.steps - self.step)
        held_out = record.get("held_out", {})
        return Progress(self.step, self.config.steps, record["loss"], self.seconds(), left, model, held_out)

    def save(self, state: TrainState) -> None:
        """Take a checkpoint."""
        self.keeper.save(state, self.seconds())

    def end(self, status: Status, state: TrainState) -> None:
        """Stay where it is, with a checkpoint."""
        self.status, self.state = status, state
        self.save(state)
        self._end = time.monotonic()

    def check_finite(self, losses: np.ndarray, finite: bool) -> None:
        """Raise `DivergedError` where a loss of the chunk, or its state, is not."""
        config, bad = self.config, np.flatnonzero(~np.isfinite(losses))
        if len(bad) == 0 and finite:
            return
        if len(bad):
            what = f"the loss is {losses[bad[0]]} in step {self.step + int(bad[0]) + 1} of {config.steps}"
        else:
            what = f"a weight is no longer finite after step {self.step + len(losses)} of {config.steps}"
        raise DivergedError(
            f"training diverged: {what}. {self.keeper.last()} Lower learning_rate (now {config.learning_rate:g}) or clip (now "
            f"{config.clip:g}), or lengthen warmup (now {config.warmup})."
        )


def measured(evaluate: Callable[[Any], Mapping[str, float]], model: Any, step: int) -> dict[str, float]:
    """What `evaluate` gives, as numbers.

    **Raises:** `InputError` where there is no loss among them.
    """
    found = {name: float(value) for name, value in evaluate(model).items()}
    require("loss" in found, f"evaluate gave {', '.join(found) or 'nothing'}; a loss must be among them.")
    if not math.isfinite(found["loss"]):
        _LOG.warning("the held-out loss after step %d is %s.", step, found["loss"])
    return found


def _record(config: FitConfig | None, stage: str, step: int, losses: np.ndarray) -> dict[str, Any]:
    """What is told of a chunk; of the config's optimiser, its schedules too."""
    record = {"stage": stage, "step": step, "loss": float(np.mean(losses.astype(np.float64)))}
    if config is None:
        return record
    last = jnp.asarray(max(step - 1, 0), jnp.int32)
    rates = {"learning_rate": learning_rate_at, "weight_decay": weight_decay_at}
    return record | {name: float(at(config, last)) for name, at in rates.items()}
