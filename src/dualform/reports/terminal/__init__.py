"""The terminal, and in one file for each command what it prints there."""

from collections.abc import Iterable
from pathlib import Path

import rich.console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from dualform.errors import printable


class Terminal(rich.console.Console):
    """Writes to the terminal, and plain text where there is none.

    Nothing in a text is a sign for rich: a name prints as it is, with its brackets and colons.
    """

    def __init__(self):
        super().__init__(markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Say so, as every file does; rich ends the program."""
        raise

    def unbroken(self, *parts: str | tuple[str, str]) -> None:
        """A line that is not broken at the terminal's width; a part may have a style."""
        whole = lambda text: printable(text, len(text))
        safe = (whole(part) if isinstance(part, str) else (whole(part[0]), part[1]) for part in parts)
        self.print(Text.assemble(*safe), soft_wrap=True)

    def whole(self, table: Table) -> None:
        """A table as wide as it is: a terminal that is not so wide breaks its lines, and nothing is cut away."""
        before = self.width
        self.width = max(before, Measurement.get(self, self.options.update(width=100_000), table).maximum)
        try:
            self.print(table)
        finally:
            self.width = before

    def paths(self, paths: Iterable[Path]) -> None:
        """The files, one on a line."""
        for path in paths:
            self.unbroken(f"  {path}")


def bare_table(header: bool = True) -> Table:
    """A table without lines, its header in bold."""
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_header=header)
