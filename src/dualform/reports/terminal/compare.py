"""What `dualform compare` prints: trainings side by side in one table, and what there is to say of them."""

from collections.abc import Sequence
from pathlib import Path

from dualform.errors import printable
from dualform.reports.comparison import Cells
from dualform.reports.terminal import Terminal, bare_table


def comparison(terminal: Terminal, cells: Cells, sentences: Sequence[str]) -> None:
    """The table, as wide as it is, and the sentences below it."""
    table = bare_table()
    for i, name in enumerate(cells.head):
        table.add_column(name, justify="right" if i in cells.numeric else "left", no_wrap=True)
    for row in cells.rows:
        table.add_row(*map(printable, row))
    terminal.whole(table)
    for sentence in sentences:
        terminal.unbroken(sentence)


def event_files(terminal: Terminal, folder: Path) -> None:
    """Where the event files are."""
    terminal.unbroken(f"event files for TensorBoard: {folder}")


def page(terminal: Terminal, path: Path) -> None:
    """Where the page is."""
    terminal.unbroken(f"report: {path}")
