"""A training's curves as event files, which TensorBoard shows; metrics.jsonl stays the truth."""

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualform.errors import InputError
from dualform.reading import text_of_file
from dualform.tensor_file import write_atomically
from dualform.training.comparison import flat
from dualform.training.recipe import RECIPE
from dualform.training.run import Run

NAME = "events.out.tfevents.dualform"


def to_tensorboard(run: Run, folder: str | os.PathLike[str]) -> Path:
    """Write the curves of a run's metrics.jsonl as one event file.

    Tags are STAGE/loss, STAGE/learning_rate, STAGE/held_out/accuracy and the like; run.toml is there as a text. The time of every
    line is that of metrics.jsonl, in which lines have none. The file takes the place of one that was written
    there before.

    **Returns:** the event file.

    **Raises:** `InputError` where tensorboardX is missing; `FileError` where the metrics cannot be read, or the file cannot be
    written.
    """
    library, lines = _tensorboard_x(), run.metrics()
    metrics, recipe = run.path / "metrics.jsonl", run.path / RECIPE
    at = metrics.stat().st_mtime if metrics.exists() else 0.0
    with tempfile.TemporaryDirectory() as place:
        writer = library.SummaryWriter(place)
        for line in lines:
            for tag, value in _numbers(line):
                writer.add_scalar(tag, value, line.get("step", 0), walltime=at)
        if recipe.exists():
            # Markdown: four spaces make it code.
            text = "".join(f"    {line}\n" for line in text_of_file(recipe).splitlines())
            writer.add_text(RECIPE, text, walltime=at)
        writer.close()
        (written,) = Path(place).iterdir()
        content = written.read_bytes()
    path = Path(folder) / NAME
    write_atomically(path, content)
    return path


def _numbers(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a line of metrics.jsonl by their tags; those that JSON lacks are in words there."""
    stage = str(line.get("stage", "run"))
    for name, value in flat({name: value for name, value in line.items() if name not in ("stage", "step")}).items():
        with contextlib.suppress(TypeError, ValueError):  # what is no number has no curve
            yield f"{stage}/{name.replace('.', '/')}", float(value)


def _tensorboard_x() -> Any:
    try:
        return importlib.import_module("tensorboardX")
    except ImportError:
        raise InputError(
            "event files for TensorBoard need tensorboardX, which is not installed. Install it with pip install "
            "'dualform[tensorboard]'."
        ) from None
