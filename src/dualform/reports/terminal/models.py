"""What `dualform models` prints: the known models, and what is brought."""

from collections.abc import Sequence
from pathlib import Path

from dualform.checkpoints.catalogue import Known
from dualform.packaged import Pinned
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


def getting(terminal: Terminal, wanted: Pinned) -> None:
    """What is brought, from where, and under which licence."""
    size = sum(member.bytes for member in wanted.members) / 1e6
    detail = f" ({wanted.architecture})" if isinstance(wanted, Known) else ""
    terminal.print(
        f"{wanted.name}: {wanted.what}{detail}; {size:.1f} MB, licence {wanted.licence}, from the package "
        f"{wanted.package}=={wanted.version}"
    )
