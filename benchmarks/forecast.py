"""TPGN on ETTh1 as published: the oil temperature of 168 hours, to that of the next 168.

    python -m benchmarks.forecast --data ETTh1.csv [--seeds 3] [--write FILE.md]

ETTh1.csv is that of github.com/zhouhaoyi/ETDataset; it is not part of this repository. The protocol is the public code's: the
first 60% of the hours train, the next 20% choose the epoch, the last 20% test; the series is brought to mean 0 and variance 1
of its training part, in which errors are given. Adam at 1e-3, times 0.9 after each epoch, batches of 32, at most 25 epochs,
stopped after 5 without a better validation error. A record with every setting, seed, version and error is written beside the
report.
"""

import argparse
import csv
import datetime
import time
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float

from benchmarks.alternate import keep, write
from dualform.models import TPGN

STEPS, BATCH, RATE, SHRINK, EPOCHS, PATIENCE = 168, 32, 1e-3, 0.9, 25, 5
PUBLISHED = {"mse": 0.1061, "mae": 0.2533}
"""Jia et al. 2024 (arXiv 2409.17703), ETTh1, 168 to 168."""


class Series(NamedTuple):
    """One part of the data: the temperature and the marks of each hour."""

    values: Float[Array, " hours"]
    marks: Float[Array, "hours 4"]

    @property
    def windows(self) -> int:
        """How many pasts with a whole future there are."""
        return len(self.values) - 2 * STEPS + 1


def marks(text: str) -> tuple[float, float, float, float]:
    """Hour, day of the week, of the month and of the year, each from -0.5 to 0.5."""
    at = datetime.datetime.fromisoformat(text)
    day_of_year = at.timetuple().tm_yday
    return at.hour / 23 - 0.5, at.weekday() / 6 - 0.5, (at.day - 1) / 30 - 0.5, (day_of_year - 1) / 365 - 0.5


def read(path: str) -> dict[str, Series]:
    """The three parts; validation and test begin with the past that their first window needs."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    values = np.array([float(row["OT"]) for row in rows])
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


def window(series: Series, first: Array) -> tuple[Array, Array, Array]:
    """The past from hour `first` on, its marks, and the future."""
    cut = lambda a, begin: jax.lax.dynamic_slice_in_dim(a, begin, STEPS)
    return cut(series.values, first), cut(series.marks, first), cut(series.values, first + STEPS)


def squared_error(model: Any, series: Series, firsts: Array) -> Array:
    """The mean over windows and hours."""
    x, times, y = jax.vmap(partial(window, series))(firsts)
    return jnp.mean(jnp.square(jax.vmap(model)(x, times) - y))


@jax.jit
def errors(model: Any, series: Series) -> tuple[Array, Array]:
    """Mean squared and mean absolute error over all windows; without a model, those of the last week said again."""

    def one(first):
        x, times, y = window(series, first)
        miss = (x if model is None else model(x, times)) - y
        return jnp.mean(jnp.square(miss)), jnp.mean(jnp.abs(miss))

    squared, absolute = jax.lax.map(one, jnp.arange(series.windows), batch_size=256)
    return jnp.mean(squared), jnp.mean(absolute)


@jax.jit
def epoch(model: Any, moments: Any, series: Series, firsts: Array, rate: Array) -> tuple[Any, Any]:
    """One pass, a row of `firsts` a step."""

    def step(carried, firsts):
        model, moments = carried
        gradient = jax.grad(squared_error)(model, series, firsts)
        direction, moments = optax.scale_by_adam().update(gradient, moments)
        model = jax.tree_util.tree_map(lambda w, d: w - rate * d, model, direction)
        return (model, moments), None

    return jax.lax.scan(step, (model, moments), firsts)[0]


def train(data: dict[str, Series], seed: int, n: int) -> dict[str, Any]:
    """Epochs until the validation error gets no better; the errors on the test part at its best."""
    begin, keys = time.perf_counter(), jr.split(jr.key(seed))
    model: Any = TPGN.make(STEPS, STEPS, key=keys[0], n=n, dtype=jnp.float32)
    moments, best, validations = optax.scale_by_adam().init(model), model, []
    windows = data["train"].windows // BATCH * BATCH
    for i in range(EPOCHS):
        order = jr.permutation(jr.fold_in(keys[1], i), data["train"].windows)[:windows].reshape(-1, BATCH)
        rate = jnp.asarray(RATE * SHRINK**i, jnp.float32)
        model, moments = epoch(model, moments, data["train"], order, rate)
        validations.append(float(errors(model, data["validation"])[0]))
        if validations[-1] == min(validations):
            best = model
        elif len(validations) - 1 - int(np.argmin(validations)) >= PATIENCE:
            break
    mse, mae = (float(error) for error in errors(best, data["test"]))
    return {
        "seed": seed,
        "parameters": best.parameters(),
        "mse": mse,
        "mae": mae,
        "seconds": time.perf_counter() - begin,
        "validation": validations,
    }


def main() -> None:
    """Train every seed and write the report and the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=2)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    if not Path(options.data).is_file():
        parser.error(f"there is no file {options.data!r}; ETTh1.csv is at github.com/zhouhaoyi/ETDataset.")
    data = read(options.data)
    found = [train(data, seed, options.n) for seed in range(options.seeds)]
    again = dict(zip(("mse", "mae"), (float(error) for error in errors(None, data["test"])), strict=True))
    settings = {"seeds": options.seeds, "n": options.n, "steps": STEPS, "batch": BATCH, "rate": RATE, "shrink": SHRINK}
    settings |= {"epochs": EPOCHS, "patience": PATIENCE, "test_windows": data["test"].windows}
    keep(options.write, {"settings": settings, "published": PUBLISHED, "last_week": again, "found": found})
    row = lambda name, e, rest: f"| {name} | {e['mse']:.4f} | {e['mae']:.4f} | {rest} |"
    lines = ["| | MSE | MAE | parameters | seconds |", "|---|---|---|---|---|"]
    lines += [row(f"seed {each['seed']}", each, f"{each['parameters']} | {each['seconds']:.0f}") for each in found]
    lines.append(row("mean", {key: mean(each[key] for each in found) for key in ("mse", "mae")}, " | "))
    lines += [row("published", PUBLISHED, " | "), row("the last week again", again, "0 | ")]
    paragraph = (
        f"Oil temperature, 168 hours to 168, n = {options.n}, each window normalised, period 24; float32; all "
        f"{data['test'].windows} test windows (the public code leaves out what does not fill a batch of 32)."
    )
    command = f"python -m benchmarks.forecast --data ETTh1.csv --seeds {options.seeds} --n {options.n}"
    print(write(options.write, "Forecasting ETTh1 with TPGN", command, [paragraph, "\n".join(lines)]))


if __name__ == "__main__":
    main()
