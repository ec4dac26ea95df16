"""A series of hours with the marks of their times, in three parts, and its windows: a past and the future behind it."""

import csv
import datetime
import io
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.reading import text_of_file

STEPS = 168
"""Hours of a past, and of a future: a week."""


class Series(NamedTuple):
    """One part of the data: the value and the marks of each hour."""

    values: Float[Array, " hours"]
    marks: Float[Array, "hours 4"]

    @property
    def windows(self) -> int:
        """How many pasts with a whole future there are."""
        return len(self.values) - 2 * STEPS + 1

    def window(self, first: Int[Array, ""]) -> tuple[Array, Array, Array]:
        """The past from the hour `first` on, its marks, and the future: (168,), (168, 4), (168,)."""
        cut = lambda a, begin: jax.lax.dynamic_slice_in_dim(a, begin, STEPS)
        return cut(self.values, first), cut(self.marks, first), cut(self.values, first + STEPS)


def marks(time: str) -> tuple[float, float, float, float]:
    """Hour, day of the week, of the month and of the year, each from -0.5 to 0.5, of a time as ISO 8601 writes it."""
    at = datetime.datetime.fromisoformat(time)
    day_of_year = at.timetuple().tm_yday
    return at.hour / 23 - 0.5, at.weekday() / 6 - 0.5, (at.day - 1) / 30 - 0.5, (day_of_year - 1) / 365 - 0.5


def read(path: Path, column: str) -> dict[str, Series]:
    """The parts train, validation and test of a column of a table: the first 60% of the hours, the next 20%, the last 20%.

    The series is brought to mean 0 and variance 1 of its training part. Validation and test begin with the past that their
    first window needs. In float32.

    **Raises:** `FileError` where the file cannot be read.
    """
    rows = list(csv.DictReader(io.StringIO(text_of_file(path, "a table"))))
    values = np.array([float(row[column]) for row in rows])
    times = np.array([marks(row["date"]) for row in rows])
    train, test = int(0.6 * len(rows)), int(0.2 * len(rows))
    values = (values - values[:train].mean()) / values[:train].std()
    bounds = {
        "train": (0, train),
        "validation": (train - STEPS, len(rows) - test),
        "test": (len(rows) - test - STEPS, len(rows)),
    }
    part = lambda a, name: jnp.asarray(a[slice(*bounds[name])], jnp.float32)
    return {name: Series(part(values, name), part(times, name)) for name in bounds}
