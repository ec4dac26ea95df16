"""What `dualform tasks` prints: all of them in a table, or one in full."""

import inspect
import re
from collections.abc import Mapping

from rich.text import Text

from dualform.reports.terminal import Terminal, bare_table
from dualform.tasks import AbstractTask
from dualform.tasks.task import settings_of


def tasks(terminal: Terminal, known: Mapping[str, type[AbstractTask]]) -> None:
    """The tasks as a table."""
    table = bare_table()
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    table.add_column("data")
    for name, task in known.items():
        table.add_row(name, first_sentence(task), task.data or "drawn")
    terminal.print(table)
    terminal.print("`dualform tasks NAME` shows one in full, and `dualform train NAME --mixer gla` trains on it.")


def task(terminal: Terminal, name: str, kind: type[AbstractTask]) -> None:
    """One task in full: what its docstring says, its settings, and where its data are from."""
    terminal.print(Text.assemble((name, "bold"), f": {kind.__name__}\n"))
    for paragraph in (inspect.getdoc(kind) or "").split("\n\n"):
        text = paragraph if paragraph.startswith((" ", "- ", ">>>")) else " ".join(paragraph.split())
        parts = re.split(r"\*\*(\w+:)\*\*", text)
        terminal.print(Text.assemble(*((part, "bold" if i % 2 else "") for i, part in enumerate(parts)), "\n"))
    table = bare_table(header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    settings = ", ".join(f"{key} = {value!r}" for key, value in settings_of(kind).items())
    rows = {
        "settings": f"{settings} (--set settings.KEY=VALUE)",
        "source": kind.source,
        "data": kind.data or "drawn as it is trained on; nothing is read",
        "licence": kind.licence,
    }
    for key, value in rows.items():
        if value:
            table.add_row(key, value)
    terminal.print(table)


def first_sentence(kind: type[AbstractTask]) -> str:
    """What a task is, in a sentence."""
    first = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\w)[.;:](?: |$)", first)[0]
