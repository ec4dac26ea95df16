"""What the folder of one training says of it: its recipe, its curves, and its scores where it is done."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dualform.counts import counted
from dualform.errors import FileError
from dualform.reading import guarded, reason
from dualform.training.recipe import RECIPE, Recipe
from dualform.training.run import Run

_INSIDE = ("checkpoints", "best")
"""Folders in that of a run."""


class Result(NamedTuple):
    """What came of a training that is done, as of `Recipe.train`.

    - status: "done", or "stopped" by its patience.  tokens_per_second: evaluation and compilation included.
    - validation: scores by name.  test: by split, scores by name.
    """

    status: str
    parameters: int
    steps: int
    best_step: int
    seconds: float
    tokens_per_second: float
    validation: Mapping[str, float]
    test: Mapping[str, Mapping[str, float]]


class Line(NamedTuple):
    """One chunk of a training: the steps so far, the mean loss of the chunk, and the scores on what is held out."""

    step: int
    loss: float
    held_out: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """What the folder of one training says.

    - lines: of metrics.jsonl, so far.  result: None where it is not done.
    """

    folder: Path
    recipe: Recipe
    lines: tuple[Line, ...]
    result: Result | None

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "Outcome":
        """The outcome of a run's folder.

        **Raises:** `FileError` where there is no run.toml in it, or a file is damaged; `InputError` where run.toml says what is
        not understood.
        """
        run = Run(folder)
        if not (run.path / RECIPE).is_file():
            raise FileError(f"{str(run.path)!r} has no {RECIPE}: it is no training's folder. Check the path.")
        found = run.read_json("result.json")
        result = None if found is None else _result(found, run.path / "result.json")
        return cls(run.path, Recipe.read(run.path / RECIPE), _lines(run), result)

    @property
    def status(self) -> str:
        """Done, stopped, or how far it is."""
        if self.result is not None:
            return self.result.status
        if not self.lines:
            return "not begun"
        last = self.lines[-1]
        so_far = f"step {last.step:,} of {self.recipe.fit.steps:,}"
        return f"{so_far}, held-out loss {last.held_out['loss']:.4g}" if "loss" in last.held_out else so_far

    @property
    def main_score(self) -> str:
        """The score that speaks for a training: accuracy where the tests have it, but of text the loss."""
        scores = set() if self.result is None else {name for test in self.result.test.values() for name in test}
        return "accuracy" if "accuracy" in scores and self.recipe.task != "text" else "loss"


def outcomes_in(folders: Sequence[str | os.PathLike[str]]) -> list[Outcome]:
    """The outcomes of all trainings in these folders, each once: a run's folder is one, a sweep's has many.

    **Raises:** `FileError` where a folder is not there or holds none, and as `Outcome.read`.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        inside = _runs_in(folder)
        if not inside:
            raise FileError(
                f"{str(folder)!r} holds no training: there is no {RECIPE} in it or below it. Give a folder that `dualform train` "
                "or `dualform sweep` has made."
            )
        found |= {run.resolve(): run for run in inside if run.resolve() not in found}
    return [Outcome.read(run) for run in found.values()]


def _runs_in(folder: Path) -> list[Path]:
    """The folders with a run.toml, in the order of their names; within such a folder there are no others."""
    try:
        return list(_walked(folder))
    except FileNotFoundError:
        raise FileError(f"there is no folder {str(folder)!r}. Check the path.") from None
    except NotADirectoryError:
        raise FileError(f"{str(folder)!r} is a file; give the folder of a training or of a sweep.") from None
    except (OSError, ValueError) as error:  # a path with a zero byte in it
        raise FileError(f"{str(folder)!r} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _walked(folder: Path) -> Iterator[Path]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if any(entry.name == RECIPE for entry in entries):
        yield folder
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and entry.name not in _INSIDE:
            yield from _walked(Path(entry.path))


def _result(found: Any, path: Path) -> Result:
    refusal = lambda error: FileError(
        f"{str(path)!r} is not what a training writes ({reason(error)}). Delete it and train again: nothing but the tests is "
        "measured anew."
    )
    with guarded(refusal):
        return Result(
            status=str(found["status"]),
            parameters=_whole(found, "parameters"),
            steps=_whole(found, "steps"),
            best_step=_whole(found, "best_step"),
            seconds=float(found["seconds"]),
            tokens_per_second=float(found["tokens_per_second"]),
            validation=_scores(found["validation"]),
            test={str(split): _scores(scores) for split, scores in found["test"].items()},
        )


def _whole(found: Mapping[str, Any], name: str) -> int:
    number = counted(found[name])
    if number is None:
        raise ValueError(f"{name} is {found[name]!r}")
    return number


def _scores(found: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name; those that JSON lacks are in words."""
    scores = {str(name): float(value) for name, value in found.items()}
    if "loss" not in scores:
        raise ValueError("there is no loss among the scores")
    return scores


def _lines(run: Run) -> tuple[Line, ...]:
    refusal = lambda error: FileError(
        f"{str(run.path / 'metrics.jsonl')!r} is not what a training writes ({reason(error)}). Delete the run and train again."
    )
    metrics = run.metrics("train")
    with guarded(refusal):
        return tuple(
            Line(
                line["step"],
                float(line["loss"]),
                {str(name): float(value) for name, value in line.get("held_out", {}).items()},
            )
            for line in metrics
        )
