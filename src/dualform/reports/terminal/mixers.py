"""What `dualform mixers` prints: all of them in a table, or one in full."""

import re
from collections.abc import Sequence

from rich.text import Text

from dualform.mixers.card import WIDTH, Card
from dualform.reports.terminal import Terminal, bare_table

WIDE = 120
"""Columns of a terminal from which on the list of mixers says where each is from."""


def mixers(terminal: Terminal, cards: Sequence[Card]) -> None:
    """The registry as a table, then what its columns mean."""
    table = bare_table()
    wide = terminal.width >= WIDE
    for column in ("name", "state", "step", "runs on", "dual form", "error", *(("source",) if wide else ())):
        table.add_column(
            column,
            no_wrap=column not in ("runs on", "source"),
            justify="right" if column in ("state", "step") else "left",
        )
    for each in cards:
        recurrences = ", ".join(form.partition(":")[0] for form in each.forms)
        error = "none stored" if each.error is None else f"{each.error:.0e}"
        kind = "linear" if each.exact.startswith("linear") else "frozen"
        row = (each.name, f"{each.numbers:,}", f"{each.operations:,}", recurrences, kind, error)
        table.add_row(*row, *((_first_reference(each.source),) if wide else ()))
    terminal.print(table)
    terminal.print(
        f"state: numbers in it; step: operations for one token, both at width {WIDTH}. Dual form: linear given its "
        "gates, or with a frozen nonlinearity. Error: the largest against public implementations, gradients included. "
        "`dualform mixers NAME` shows one in full."
    )


def mixer(terminal: Terminal, card: Card) -> None:
    """One mixer in full: what its docstring says, then what it costs and how it was checked."""
    terminal.print(Text.assemble((card.name, "bold"), f": {card.kind}\n"))
    for paragraph in card.text.split("\n\n"):
        # Equations, lists and examples keep their lines; prose is wrapped anew.
        as_it_is = paragraph.startswith((" ", "- ", ">>>"))
        text = paragraph if as_it_is else " ".join(paragraph.split())
        parts = re.split(r"\*\*(\w+:)\*\*", text)  # every other one is a word in bold
        styled = ((part, "bold" if place % 2 else "") for place, part in enumerate(parts))
        terminal.print(Text.assemble(*styled, "\n"))
    table = bare_table(header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    shapes = ", ".join(f"({', '.join(map(str, shape))})" for shape in card.state)
    error = "none stored" if card.error is None else f"{card.error:.0e}, the largest, gradients included"
    rows = {
        f"state at d = {WIDTH}": f"{shapes}: {card.numbers:,} numbers",
        "one token": f"{card.operations:,} operations",
        "runs on": "; ".join(card.forms),
        "dual form": card.exact,
        "attention map": "in closed form" if card.closed_form else "from the contributions",
        "error": error,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    terminal.print(table)


def _first_reference(source: str) -> str:
    """A source up to the end of its first arXiv number, without what differs and who else."""
    reference = re.match(r".*?\(.*?arXiv [\d.]+[^)]*\)", source)
    return reference.group() if reference else source
