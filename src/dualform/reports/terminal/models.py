"""What `dualform models` prints: the known models, and what is brought."""

from collections.abc import Sequence
from pathlib import Path

from dualform.checkpoints.catalogue import Known
from dualform.reports.terminal import Terminal, bare_table


def models(terminal: Terminal, known: Sequence[tuple[Known, bool]], folder: Path) -> None:
    """The known models as a table, and where those that are there lie."""
    table = bare_table()
    for column in ("name", "cached", "MB", "licence", "what it does"):
        table.add_column(column, no_wrap=column != "what it does", justify="right" if column == "MB" else "left")
    for model, there in known:
        size, what = sum(member.bytes for member in model.members) / 1e6, f"{model.what} ({model.architecture})"
        table.add_row(model.name, "yes" if there else "no", f"{size:.1f}", model.licence, what)
    terminal.print(table)
    terminal.unbroken(f"The cache is {folder}. To bring a model there: dualform models get NAME")
