"""Forecasting: the next hours of a series, from those before them."""

import datetime
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.errors import FileError, InputError, require
from dualform.reading import shown
from dualform.tasks.registration import register
from dualform.tasks.scores import of_numbers
from dualform.tasks.table import Table, read_table
from dualform.tasks.task import Batch, StoredTask, checked_settings, setting, settings_of

DATE = "date"
"""The name of the column of times, of which marks are made where there is one."""


@register("forecast")
class Forecast(StoredTask):
    """`horizon` values of a series, from the `past` values before them, as one output behind the last of these.

    The first 60% of the rows are for training, the next 20% for validation, the last 20% for the test; values are brought to
    mean 0 and variance 1 of the training part. A window of a held-out part has all of its targets there, and may have its past
    in the part before. Where a column is called "date", four marks stand beside each value: the hour, the day of the week, of
    the month and of the year, each from -0.5 to 0.5.

    - series: values, and marks.  A row of a part is where its window begins.
    - past, horizon: rows of each.  column: of the series, "" for the last one.  stride: rows between windows that are held out.

    **Source:** Jia et al. 2024 (arXiv 2409.17703), TPGN: ETTh1, column OT, past 168, horizon 168, 336 and 720, every window of
    the held-out parts. Zhou et al. 2021 (arXiv 2012.07436) split it after 12 and 16 months instead.
    """

    series: Float[Array, "row width"] = eqx.field(kw_only=True)
    past: int = setting(default=168)
    horizon: int = setting(default=168)
    column: str = setting(default="")
    stride: int = setting(default=1)
    judge = staticmethod(of_numbers)
    source = "Zhou et al. 2021 (arXiv 2012.07436)"
    data = "ETTh1.csv of github.com/zhouhaoyi/ETDataset, or any table with a line of names"
    licence = "that of the file; of ETTh1 CC BY-ND 4.0"
    pool = "last"

    @classmethod
    def open(cls, data: Any = None, **settings: Any) -> "Forecast":
        """A column of a table.

        **Arguments:** data: the path of a file of comma-separated values whose first line has the names.

        **Raises:** `InputError` for another setting or column, or a series that is too short; `FileError` where the file cannot
        be read, or a value is no number.
        """
        settings = checked_settings(cls, settings)
        if data is None:
            raise InputError(f"this task reads a table; give one by --data: {cls.data}.")
        told = settings_of(cls) | settings
        past, horizon, stride = (told[name] for name in ("past", "horizon", "stride"))
        for name in ("past", "horizon", "stride"):
            require(told[name] >= 1, f"{name} is {told[name]}; it must be at least 1.")
        values, marks = columns_of(read_table(data), told["column"])
        rows, train, test = len(values), int(0.6 * len(values)), int(0.2 * len(values))
        bounds = {"train": (0, train), "validation": (train - past, rows - test), "test": (rows - test - past, rows)}
        parts = {}
        for name, (begin, end) in bounds.items():
            count = end - max(begin, 0) - past - horizon + 1
            require(
                count >= 1 and begin >= 0,
                f"the series has {rows:,} rows, and {past} of a past with {horizon} behind them do not fit into its part {name}. "
                "Give a longer one, or a shorter past and horizon.",
            )
            places = jnp.asarray(np.arange(begin, begin + count, 1 if name == "train" else stride), jnp.int32)
            parts[name] = (places, places)
        spread = values[:train].std()
        require(
            bool(spread > 0), "the series is the same number in all of its training part; there is nothing to learn."
        )
        values = (values - values[:train].mean()) / spread
        series = jnp.asarray(np.concatenate([values[:, None], marks], axis=1), jnp.float32)
        return cls(**parts, series=series, **settings)

    @property
    def d_in(self) -> int:
        """The value, and marks where there are any."""
        return self.series.shape[1]

    @property
    def d_out(self) -> int:
        """The values of the horizon."""
        return self.horizon

    def as_read(self, x: Array, y: Array) -> Batch:
        """Pasts, (batch, past, d_in), and the values behind them, (batch, horizon)."""
        cut = lambda array, length: jax.vmap(lambda at: jax.lax.dynamic_slice_in_dim(array, at, length))
        return cut(self.series, self.past)(x), cut(self.series[:, 0], self.horizon)(y + self.past)


def columns_of(table: Table, column: str = "") -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, "row mark"]]:
    """A column as numbers, the last where none is named, and the marks of its times; no marks where it has none.

    **Raises:** `FileError` where a value is no finite number, or a time none; `InputError` where there is no such column.
    """
    column = column or table.names[-1]
    values = table.numbers(column)
    dates = next((name for name in table.names if name.lower() == DATE and name != column), None)
    times = [] if dates is None else table.texts(dates)
    marks = [marks_of(time, f"row {i + 1} of {table.where}") for i, time in enumerate(times)]
    return values, np.array(marks) if marks else np.empty((len(values), 0))


def marks_of(time: str, where: str) -> tuple[float, float, float, float]:
    """Hour, day of the week, of the month and of the year, each from -0.5 to 0.5, of a time as ISO 8601 writes it.

    **Raises:** `FileError` where it is none.
    """
    try:
        at = datetime.datetime.fromisoformat(time.strip())
    except ValueError:
        raise FileError(f"the date in {where} is {shown(time)!r}; it must be like 2016-07-01 00:00:00.") from None
    day = at.timetuple().tm_yday
    return at.hour / 23 - 0.5, at.weekday() / 6 - 0.5, (at.day - 1) / 30 - 0.5, (day - 1) / 365 - 0.5
