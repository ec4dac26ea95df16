"""Verdicts, intervals, and the record of a result."""

import json

import numpy as np
import pytest

from dualform.errors import InputError
from dualform.experiments.protocol import changed_since
from dualform.experiments.reproduction import (
    Experiment,
    Findings,
    Paper,
    Workshop,
    as_expected,
    at_least,
    at_most,
    diverged,
    ours_alone,
    rate_interval,
    reproduce,
    results_of,
    verdict_of,
    within,
)
from dualform.training import Job, Row
from tests.experiments.test_protocol import planted


def test_outcomes():
    """Each rule gives the outcome that it says."""
    assert at_most("a", 1.0, 0.5, 2.0, "").outcome == "better" and at_most("a", 1.0, 1.5, 2.0, "").outcome == "met"
    assert at_most("a", None, 0.5, 2.0, "").outcome == "met" and at_most("a", 1.0, 3.0, 2.0, "").outcome == "differs"
    assert at_most("a", 1.0, float("nan"), 2.0, "").outcome == "differs"
    assert at_least("a", None, 3.0, 2.0, "").outcome == "met" and at_least("a", None, 1.0, 2.0, "").outcome == "differs"
    assert within("a", 1.0, 1.1, 0.2, "").outcome == "met" and within("a", 1.0, 1.3, 0.2, "").outcome == "differs"
    assert within("a", 1.0, float("nan"), 0.2, "").outcome == "differs"
    expected = as_expected("a", 1.0, 1.1, 0.2, "")
    assert (expected.outcome, expected.paper, expected.expected) == ("met", None, 1.0)
    assert as_expected("a", 1.0, 1.3, 0.2, "", paper=1.3).outcome == "differs"
    assert at_most("a", 1.0, 0.5, 2.0, "", alike=False).outcome == "met"


def test_verdicts():
    """One number that differs, or one run that failed, is enough; without them, one that is better."""
    met, better = at_most("a", None, 1.0, 2.0, ""), at_most("a", 1.0, 0.5, 2.0, "")
    differs, alone = at_most("a", None, 3.0, 2.0, ""), ours_alone("a", 1.0, "")
    verdict = lambda numbers, failed=(), beyond=False: verdict_of(Findings(numbers, {}, 1, failed=failed), beyond)
    assert verdict([met, alone]) == "reproduced" and verdict([met, better]) == "better"
    assert verdict([better, differs]) == "differs" and verdict([better], ["x: killed"]) == "differs"


def test_nothing_compared_is_nothing_reproduced():
    """Without a comparison, and where the paper has no such result, the verdict is that it is ours alone; failing decides."""
    met, alone, differs = at_most("a", None, 1.0, 2.0, ""), ours_alone("a", 1.0, ""), at_most("a", None, 3.0, 2.0, "")
    verdict = lambda numbers, failed=(), beyond=False: verdict_of(Findings(numbers, {}, 1, failed=failed), beyond)
    assert verdict([]) == verdict([alone]) == verdict([met, alone], beyond=True) == "ours alone"
    assert (
        verdict([met, differs], beyond=True) == verdict([alone], ["x: killed"]) == verdict([], ["x"], True) == "differs"
    )


def test_a_training_that_diverged_has_failed():
    """A loss that is no number, which is stored as a word, is a failure with its run's name; a finite one is none."""
    good = ({"architecture": "gru", "width": 4}, {"train_loss": 0.1, "validation_loss": 0.2, "seed": 0})
    bad = ({"architecture": "gru", "width": 4}, {"train_loss": "nan", "validation_loss": 0.2, "seed": 1})
    rows = [Row(name, config, "done", (result,)) for name, (config, result) in (("a", good), ("b", bad))]
    (good, bad), failed = results_of([*rows, Row("c", {}, "failed", reason="killed")])
    assert failed == ["c: killed"]
    assert diverged([good]) == [] and diverged([good, bad]) == ["architecture gru, width 4, seed 1: training diverged."]


def test_rate_interval():
    """Wilson's interval: known values, inside [0, 1], and no rate of nothing."""
    np.testing.assert_allclose(rate_interval(5, 10), (0.2366, 0.7634), atol=1e-4)
    np.testing.assert_allclose(rate_interval(10, 10), (0.7225, 1.0), atol=1e-4)
    assert rate_interval(0, 10)[0] == 0.0
    with pytest.raises(InputError, match="1 successes of 0 trials"):
        rate_interval(1, 0)


def test_a_record_is_kept(tmp_path):
    """The record on disk is what was returned: command, verdict, numbers, unknowns, versions."""
    experiment = Experiment(
        "t", (("x", "y"),), lambda workshop, preset: Findings([at_most("a", 2.0, 1.0, 2.0, "w")], {}, 3)
    )
    paper = Paper("paper", "t", "c", {"one": experiment})
    record = reproduce(paper, "one", "quick", Workshop(tmp_path))
    assert record["verdict"] == "better" and record["command"] == "dualform reproduce paper one --preset quick"
    assert changed_since(record) == [] and __name__ in record["protocol"]["modules"]
    assert json.loads((tmp_path / "one" / "result.json").read_text()) == json.loads(json.dumps(record))
    with pytest.raises(InputError, match="no preset 'huge'; there are quick, full"):
        reproduce(paper, "one", "huge", Workshop(tmp_path))


def test_a_sweep_may_be_called_as_its_result(tmp_path):
    """Results and sweeps have folders apart; seconds are those of all runs, also where they are read back."""
    job = Job("a", "tests.training.sweep_jobs:double", {"x": 1})

    def run(workshop, preset):
        (row,) = workshop.sweep("one", [job])
        return Findings([ours_alone("y", row.results[0]["y"], "")], {}, 1)

    workshop = Workshop(tmp_path, backend="here")
    paper = Paper("paper", "t", "c", {"one": Experiment("t", (), run)})
    first, again = (reproduce(paper, "one", "quick", workshop) for _ in range(2))
    assert (tmp_path / "one" / "result.json").exists() and (workshop.runs("one", [job]) / "table.csv").exists()
    assert first["numbers"] == again["numbers"] and first["numbers"][0]["ours"] == 2
    stored = json.loads((workshop.runs("one", [job]) / "a" / "result.json").read_text())["seconds"]
    assert again["seconds"] >= stored


def test_runs_of_other_code_are_not_read_back(tmp_path, monkeypatch):
    """A job whose code has changed is run again, beside what the old code made."""
    workshop, job = Workshop(tmp_path, backend="here"), Job("a", "tests.training.sweep_jobs:double", {"x": 1})
    before = workshop.runs("one", [job])
    planted(monkeypatch, "tests.training.sweep_jobs", r"2 \*", "3 *")
    assert workshop.runs("one", [job]) != before and workshop.runs("one", [job]).parent == before.parent
