"""Tables of comma-separated values whose first line has the names of the columns."""

import csv
import io
import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.errors import FileError, require
from dualform.reading import reading, shown, text_of_file


class Table(NamedTuple):
    """Names of columns, and rows of as many texts.

    - where: how messages call the file.
    """

    where: str
    names: list[str]
    rows: list[list[str]]

    def place(self, column: str) -> int:
        """Where a column stands.

        **Raises:** `InputError` where there is none of that name.
        """
        require(
            column in self.names,
            f"{self.where} has no column {shown(column)!r}; it has {shown(', '.join(self.names), 200)}.",
        )
        return self.names.index(column)

    def texts(self, column: str) -> list[str]:
        """What a column says."""
        place = self.place(column)
        return [row[place].strip() for row in self.rows]

    def numbers(self, column: str) -> Float[np.ndarray, " row"]:
        """A column of numbers.

        **Raises:** `InputError` where there is no such column; `FileError` where one is no finite number.
        """
        values = np.empty(len(self.rows))
        for i, text in enumerate(self.texts(column)):
            try:
                values[i] = float(text)
            except ValueError:
                values[i] = np.nan
            if not np.isfinite(values[i]):
                raise FileError(
                    f"column {shown(column)} of row {i + 1} of {self.where} is {shown(text)!r}, which is no finite number. Mend "
                    "it, or leave the row out."
                )
        return values


def read_table(data: str | os.PathLike[str]) -> Table:
    """The table of a file; empty lines are left out.

    **Raises:** `FileError` where it cannot be read, or a row has not as many values as there are names.
    """
    where, text = repr(os.fspath(data)), text_of_file(data, "a table")
    with reading(where, "table of comma-separated values"):
        lines = [line for line in csv.reader(io.StringIO(text)) if line]
    if len(lines) < 2:
        raise FileError(f"{where} is no table: it needs a line of names, and lines of values behind it.")
    names, rows = [name.strip() for name in lines[0]], lines[1:]
    for i, row in enumerate(rows):
        if len(row) != len(names):
            raise FileError(
                f"row {i + 1} of {where} has {len(row)} values, and the line of names {len(names)}. Is the file truncated?"
            )
    return Table(where, names, rows)
