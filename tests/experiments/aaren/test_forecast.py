"""Aaren's forecast: what needs no network is exact where it can be, and the means over seeds decide."""

from dataclasses import dataclass

import numpy as np
import pytest

from dualform.experiments.aaren import forecast
from dualform.experiments.aaren.forecast import FORECAST, HORIZON, PAST, SETTINGS, recipe, without_network
from dualform.experiments.mqar.sized import kept
from dualform.experiments.reproduction import verdict_of
from dualform.tasks import Forecast
from dualform.training import Row
from tests.experiments.test_trained import Pretended
from tests.experiments.tpgn.test_etth1 import table


def test_what_needs_no_network_is_exact_on_a_day_that_repeats(tmp_path):
    """Of a series with a period of a day the last week said again and a linear map have no error."""
    others = without_network(Forecast.open(table(tmp_path / "a.csv", 2400), **SETTINGS))
    assert max(others.values()) < 1e-6


@pytest.mark.slow
def test_noise_costs_the_last_week_twice(tmp_path):
    """With noise of variance 1 on a sine of variance 1/2 the last week has 2 / 1.5, a linear map less, not under 1 / 1.5."""
    task = Forecast.open(table(tmp_path / "a.csv", 9000, noise=1.0), **SETTINGS)
    others = without_network(task)
    assert others["last week"] == pytest.approx(2 / 1.5, rel=0.05)
    assert 0.95 / 1.5 < others["linear"] < 0.8 * others["last week"]


def test_the_linear_map_is_fitted_on_training_alone(tmp_path):
    """Where the test part is another series, the map of the training part is wrong there."""
    path = table(tmp_path / "a.csv", 2400)
    lines = path.read_text().splitlines()
    begin = 1 + int(0.8 * 2400)
    turned = [
        f"{line.rpartition(',')[0]},{-float(line.rpartition(',')[2]) * (i % 7)}" for i, line in enumerate(lines[begin:])
    ]
    path.write_text("\n".join(lines[:begin] + turned) + "\n")
    assert without_network(Forecast.open(path, **SETTINGS))["linear"] > 0.5


def test_aaren_remembers_a_few_numbers(tmp_path):
    """A maximum, a sum and a vector of 32; a transformer two vectors of 32 an hour, and its place."""
    states = [kept(recipe(name, 32, 2, 20, tmp_path)) for name in ("aaren", "transformer")]
    assert states[0] == 1 + 1 + 32 and states[1] >= 2 * 32 * PAST


@dataclass
class Given(Pretended):
    """A workshop whose models have these test errors, of each seed."""

    errors: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def sweep(self, name, jobs):
        return [Row(job.name, job.config, "done", (self._result(job),)) for job in jobs]

    def _result(self, job):
        model, seed = job.name.partition("-")[0], int(job.name.rpartition("=")[2])
        error = dict(self.errors)[model][seed % 10]
        return {
            "validation": {"loss": abs(np.log(job.config["fit"]["learning_rate"] / 3e-3))},
            "test": {"test": {"loss": error, "absolute": error}},
            "parameters": 7,
            "seconds": 1.0,
            "tokens_per_second": 2.0,
        }


@pytest.mark.parametrize(
    ("aaren", "transformer", "outcomes"),
    [
        ((0.11, 0.09), (0.1, 0.1), ["met", "met"]),
        ((0.12, 0.11), (0.1, 0.1), ["differs", "met"]),
        ((0.3, 0.3), (0.3, 0.3), ["met", "differs"]),
    ],
)
def test_the_means_decide(aaren, transformer, outcomes, monkeypatch, tmp_path):
    """Aaren may have a tenth more than the transformer, and has to beat the last week said again; no path is kept."""
    monkeypatch.setitem(forecast.GRIDS, "quick", forecast.GRIDS["quick"] | {"seeds": 2})
    monkeypatch.setattr(forecast, "without_network", lambda task: {"last week": 0.2, "linear": 0.1})
    path = table(tmp_path / "a.csv", 2400)
    found = FORECAST.run(Given(errors=(("aaren", aaren), ("transformer", transformer))), "quick", path)
    assert [number.outcome for number in found.numbers[:2]] == outcomes
    assert {number.outcome for number in found.numbers[2:]} == {"ours alone"}
    assert verdict_of(found) == ("reproduced" if outcomes == ["met", "met"] else "differs")
    assert str(tmp_path) not in repr(found) and found.numbers[-2].ours == 0.2 and HORIZON == PAST == 168


@pytest.mark.slow
def test_the_published_table(shared):
    """On the file that is meant, every 8th of the test's 3,317 windows, and the last week's error of all of them, 0.198."""
    task = Forecast.open(shared / "data" / "series" / "ETTh1.csv", **SETTINGS)
    assert sum(len(y) for _, y in task.held_out("test")) == -(-3317 // 8)
    assert without_network(task)["last week"] == pytest.approx(0.198, abs=0.002)
