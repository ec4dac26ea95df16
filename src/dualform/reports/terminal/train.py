"""What `dualform train` prints: a bar with loss, speed and time left, and the scores on each test."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dualform.reports.terminal import Terminal, bare_table
from dualform.training.recipe import Measured, Recipe


@contextmanager
def progress(terminal: Terminal, recipe: Recipe, folder: Path) -> Iterator[Callable[[Measured], None]]:
    """A bar of the steps, the losses in training and on what is held out, tokens a second, and the time left."""
    terminal.unbroken(("run folder", "dim"), f" {folder}")
    columns = (
        MofNCompleteColumn(),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=terminal) as bars:
        bar = bars.add_task("train", total=recipe.fit.steps, note="compiling")

        def show(measured: Measured) -> None:
            at = measured.progress
            held_out = ", ".join(f"{name} {value:.4g}" for name, value in at.held_out.items())
            speed = measured.tokens_per_second
            fast = f"; {speed:,.0f} tokens/s" if math.isfinite(speed) else ""
            bars.update(bar, completed=at.step, note=f"loss {at.loss:.4g}; held out: {held_out}{fast}")

        yield show


def result(terminal: Terminal, found: Mapping[str, Any], folder: Path, page: Path) -> None:
    """The scores of the best model, on each split in a row, and what the training took."""
    rows = {"validation": found["validation"]} | found["test"]
    table = bare_table()
    table.add_column("held out")
    names = list(found["validation"])
    for name in names:
        table.add_column(name, justify="right")
    for split, scores in rows.items():
        table.add_row(split, *(f"{scores[name]:.4g}" for name in names))
    terminal.print(table)
    ended = "; it no longer got better, and was stopped" if found["status"] == "stopped" else ""
    terminal.print(
        f"{found['parameters']:,} parameters; {found['steps']:,} steps in {found['seconds']:.0f} s, "
        f"{found['tokens_per_second']:,.0f} tokens a second, evaluation and compilation included{ended}. The weights are those "
        f"of step {found['best_step']:,}, the best by validation loss."
    )
    terminal.unbroken(f"report: {page}   (dualform view {folder})")
    terminal.unbroken(f"run again: dualform train --config {folder / 'run.toml'} --out OTHER")


def seeds(terminal: Terminal, numbers: Sequence[int], results: Sequence[Mapping[str, Any]]) -> None:
    """One row for each seed: the scores on the test."""
    table = bare_table()
    table.add_column("seed", justify="right")
    names = list(results[0]["test"]["test"])
    for name in names:
        table.add_column(f"test {name}", justify="right")
    for seed, found in zip(numbers, results, strict=True):
        table.add_row(str(seed), *(f"{found['test']['test'][name]:.4g}" for name in names))
    terminal.print(table)
