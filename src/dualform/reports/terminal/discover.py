"""What `dualform discover` prints: the progress of a run, its verdict, and a row for each seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dualform.experiments.gated_rnn.evidence import COLUMNS, MEANING, PAPER, construction_sentence, recipe_name
from dualform.experiments.gated_rnn.identification import Moment
from dualform.experiments.numerals import count, number
from dualform.reports.terminal import Terminal

STYLE = {"identified": "green", "function only": "yellow", "not identified": "red"}


@contextmanager
def progress(terminal: Terminal, run: Path) -> Iterator[Callable[[Moment], None]]:
    """A bar for each stage of a run: loss, the split of the decays, the time left."""
    terminal.unbroken(("run folder", "dim"), f" {run}")
    columns = (
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[note]:<44}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    bars: dict[str, Any] = {}
    with Progress(*columns, console=terminal) as progress:

        def show(moment: Moment) -> None:
            if moment.stage not in bars:
                bars[moment.stage] = progress.add_task(moment.stage, total=moment.total, note="")
            progress.update(bars[moment.stage], completed=moment.done, note=moment.note)

        yield show


def verdict(terminal: Terminal, result: Mapping[str, Any], page: Path) -> None:
    """The verdict in plain words, the table of evidence beside the paper's, and where the report is."""
    style = STYLE[result["verdict"]]
    reasons = "\n".join(f"• {reason}" for reason in result["reasons"])
    title = Text(result["verdict"], f"bold {style}")
    terminal.print(Panel(reasons, title=title, title_align="left", border_style=style))
    terminal.print(_evidence(result))
    for name, what in COLUMNS.items():
        terminal.print(f"  {name}: {what}")
    terminal.print(construction_sentence(result))
    terminal.print(
        f"attention weights read back give the teacher's outputs to {number(result['recovered_error'])} (relative); "
        f"{result['steps']} training steps in {result['training_seconds']:.0f} s, {result['seconds']:.0f} s in all"
    )
    terminal.unbroken(f"report: {page}   (dualform view {page.parent})")


def summary(terminal: Terminal, results: Sequence[Mapping[str, Any]]) -> None:
    """One row for each seed."""
    table = Table("seed", "verdict", title="all seeds", title_justify="left")
    for meaning in MEANING.values():
        table.add_column(meaning.name, justify="right")
    table.add_column("seconds", justify="right")
    for result in results:
        numbers = [(count if isinstance(PAPER[key], int) else number)(result[key]) for key in MEANING]
        table.add_row(str(result["seed"]), result["verdict"], *numbers, f"{result['seconds']:.0f}")
    terminal.print(table)


def _evidence(result: Mapping[str, Any]) -> Table:
    recipe = result.get("paper_recipe")
    table = Table("evidence", title_justify="left")
    for name in (*COLUMNS, "paper", *([recipe_name(result["steps"])] if recipe else [])):
        table.add_column(name, justify="right")
    table.add_row("verdict of its own", *(result[name]["verdict"] for name in COLUMNS))
    for key, meaning in MEANING.items():
        written = count if isinstance(PAPER[key], int) else number
        row = [
            meaning.name,
            *(written(column[key]) for column in (*(result[name] for name in COLUMNS), PAPER)),
        ]
        table.add_row(*row, *([written(recipe[key])] if recipe else []))
    return table
