"""Trainings as results: rates are chosen by validation alone, from a seed that is not reported, inside what was tried."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dualform.experiments.chung import music
from dualform.experiments.minimal import selective_copy
from dualform.experiments.mqar import recall
from dualform.experiments.papers import PAPERS
from dualform.experiments.reproduction import Workshop, reproduce
from dualform.experiments.state_tracking import languages, parity
from dualform.experiments.trained import SEARCH_SEED, above, table, trained, worst
from dualform.training import Row
from dualform.training.config import FitConfig
from dualform.training.recipe import Recipe


@dataclass
class Pretended(Workshop):
    """A workshop whose trainings are a formula: the validation loss is least at one rate, the accuracy tells of the seed."""

    folder: Path = Path("nowhere")
    best: float = 3e-3
    broken: tuple[str, ...] = ()
    asked: list[tuple[str, float, int]] = field(default_factory=list)

    def sweep(self, name, jobs):
        rows = []
        for job in jobs:
            told = Recipe.of(job.config)
            self.asked.append((name, told.fit.learning_rate, told.seed))
            if job.name in self.broken:
                rows.append(Row(job.name, job.config, "failed", reason="diverged."))
                continue
            loss = abs(math.log(told.fit.learning_rate / self.best))
            scores = {"loss": loss, "accuracy": 0.9 + 0.01 * (told.seed % 10), "sequences": 0.5}
            splits = told.open_task().splits[1:]
            result = {"validation": scores, "test": dict.fromkeys(splits, scores)}
            told_of = {"parameters": 7, "seconds": 1.0, "tokens_per_second": 2.0}
            rows.append(Row(job.name, job.config, "done", (result | told_of,)))
        return rows


RECIPE = {"model": Recipe("parity", fit=FitConfig(steps=10, warmup=1))}


@pytest.mark.parametrize(("best", "tried"), [(3e-3, 3), (3e-2, 5), (3e-4, 5), (1.0, 5), (1e-6, 5)])
def test_a_rate_is_chosen_inside_of_what_was_tried(best, tried):
    """Where the best stands at the edge, the search goes on, until worse rates stand on both sides or the ladder ends."""
    workshop = Pretended(best=best)
    found, failed = trained(workshop, "s", RECIPE, seeds=2)
    each = found["model"]
    assert not failed and len(each.tried) == tried
    assert each.rate == min(each.tried, key=lambda rate: abs(math.log(rate / best)))
    assert each.inside == (best not in (1.0, 1e-6))
    searched = [asked for asked in workshop.asked if asked[0] == "s-rates"]
    assert {seed for _, _, seed in searched} == {SEARCH_SEED} and len(set(searched)) == len(searched)
    assert [asked for asked in workshop.asked if asked[0] == "s"] == [("s", each.rate, 0), ("s", each.rate, 1)]
    assert each.scores("accuracy") == [0.9, 0.91]


def test_what_broke_is_said_and_the_rest_is_measured():
    """A rate that diverged is not chosen; a seed that did is not counted; a model without any is left out."""
    found, failed = trained(Pretended(broken=("model-rate=0.003-seed=1000", "model-rate=0.001-seed=1")), "s", RECIPE, 2)
    assert found["model"].rate in (1e-3, 1e-2)
    assert failed[0] == "model-rate=0.003-seed=1000: diverged."
    every = tuple(f"model-rate={rate:g}-seed=1000" for rate in (1e-3, 3e-3, 1e-2))
    found, failed = trained(Pretended(broken=every), "s", RECIPE, 2)
    assert not found and len(failed) == 3


def test_the_worst_seed_decides():
    """Of a score that should be high, and of one model above another; the mean is told."""
    each = trained(Pretended(), "s", RECIPE, 3)[0]["model"]
    assert worst("m", each, "accuracy", 0.9, "why").outcome == "met"
    assert worst("m", each, "accuracy", 0.905, "why").outcome == "differs"
    assert "why; 3 seeds, mean 0.910" in worst("m", each, "accuracy", 0.9, "why").rule
    assert above("m", each, each, "accuracy", "why").outcome == "differs"
    higher = each._replace(results=[{**r, "test": {"test": {"accuracy": 0.95}}} for r in each.results])
    assert above("m", higher, each, "accuracy", "why").outcome == "met"
    assert table({"m": each}, "accuracy")[0]["scores"] == [0.9, 0.91, 0.92]


@pytest.mark.parametrize(
    ("experiment", "paper", "name"),
    [(recall, "mqar", "recall"), (parity, "state-tracking", "parity"), (selective_copy, "minimal", "selective-copy")],
)
def test_a_result_is_judged_by_what_its_trainings_gave(experiment, paper, name, tmp_path):
    """Every number of the quick preset comes from the runs: 0.9 is neither solved nor chance."""
    record = reproduce(PAPERS[paper], name, "quick", Pretended(folder=tmp_path))
    assert record["verdict"] == "differs" and record["data"]["rows"]
    assert all(0 <= number["ours"] <= 1 for number in record["numbers"])
    assert all(number["paper"] is None for number in record["numbers"])  # of a cut setting, it is said and not compared
    assert all(f"{value:.3f}" in record["why"] for value in getattr(experiment, "PAPER", {}).values())
    assert {row["model"] for row in record["data"]["rows"]} == set(
        experiment.GRIDS["quick"].get("models", experiment.GRIDS["quick"].get("mixers"))
    )
    for each in experiment.GRIDS["full"].get("models", experiment.GRIDS["full"].get("mixers")):
        sizes = [
            experiment.GRIDS["full"][key]
            for key in ("width", "time", "tokens", "steps")
            if key in experiment.GRIDS["full"]
        ]
        assert experiment.recipe(each, *sizes).open_task().splits[0] == "validation"


def test_a_paper_is_compared_with_trainings_as_long_as_its_own():
    """In few steps the chorales are ours alone; in as many as it takes, a mean of 0.5 is better than the paper's."""
    each = trained(Pretended(), "s", RECIPE, 1)[0]["model"]
    each = each._replace(results=[{**r, "test": {"test": {"loss": 0.5, "piece": 0.6}}} for r in each.results])
    for whole, outcome, paper in ((False, "ours alone", None), (True, "better", 8.54)):
        loss, parameters = music._numbers({"gru": each}, whole)
        assert (loss.ours, loss.outcome, loss.paper) == (0.5, outcome, paper) and "of 1 seed, from" in loss.rule
        assert parameters.outcome == "ours alone"


def test_parity_is_scaled_from_chance_to_perfect():
    """An accuracy of 1/2 is 0, of 1 is 1; the mean over lengths."""
    scores = {"length 64": {"accuracy": 1.0}, "length 128": {"accuracy": 0.5}, "length 256": {"accuracy": 0.5}}
    each = trained(Pretended(), "s", RECIPE, 1)[0]["model"]._replace(results=[{"test": scores}])
    assert parity.scaled(each) == [pytest.approx(1 / 3)]


@pytest.mark.parametrize("twin", ["delta_rule", "mamba"])
def test_of_two_twins_one_solves_parity(twin):
    """Eigenvalues from -1 to 1 must solve it in the worst seed, those from 0 to 1 may not in the best; others decide nothing."""
    each = trained(Pretended(), "s", RECIPE, 1)[0]["model"]

    def of(*accuracies):
        results = [{"test": {f"length {length}": {"accuracy": a} for length in parity.LENGTHS}} for a in accuracies]
        return each._replace(results=results)

    def outcomes(*accuracies):
        found = parity._numbers({twin: of(*accuracies), f"{twin}_negative": of(*accuracies), "gla": of(*accuracies)})
        return [number.outcome for number in found]

    assert outcomes(0.96, 1.0) == ["differs", "met", "ours alone"]
    assert outcomes(0.5, 0.94) == ["differs", "differs", "ours alone"]
    assert outcomes(0.5, 0.74) == ["met", "differs", "ours alone"]


def test_every_language_is_published(tmp_path):
    """Each model has four published means, said in the record's words; each recipe of both presets is one that can be opened."""
    assert all(len(means) == len(languages.TASKS) for means in languages.PUBLISHED.values())
    assert set(languages.PUBLISHED) == set(languages.MODELS) and languages.chance("parity") == 0.5
    for grid in languages.GRIDS.values():
        for task in languages.TASKS:
            told = languages.recipe(task, grid["models"][0], grid["time"], grid["lengths"], grid["steps"])
            assert told.open_task().splits[2:] == tuple(f"length {length}" for length in grid["lengths"])
    found = languages.LANGUAGES.run(Pretended(folder=tmp_path), "quick")
    assert "lstm 100.0, 100.0, 99.9, 100.0; transformer 24.4, 90.4, 23.6, 52.2" in found.why
    assert len(found.data["rows"]) == len(languages.TASKS) * len(languages.GRIDS["quick"]["models"])


def test_the_lstm_must_solve_four_languages_and_be_above_the_transformer_in_three():
    """Worst seeds decide; of even pairs, where the published means are near, no order is asked for."""
    each, splits = trained(Pretended(), "s", RECIPE, 1)[0]["model"], ["a"]
    of = lambda *accuracies: each._replace(results=[{"test": {"a": {"accuracy": a}}} for a in accuracies])

    def outcomes(lstm, transformer):
        given = {
            f"{task}.{model}": of(*a)
            for task in languages.TASKS
            for model, a in (("lstm", lstm), ("transformer", transformer))
        }
        found = languages._numbers(given, splits)
        assert [n.name for n in found if "above" in n.name] == [
            f"{task}: LSTM above transformer" for task in ("cycle-navigation", "modular-arithmetic", "parity")
        ]
        return [number.outcome for number in found if number.name.startswith("parity")]

    assert outcomes((0.95, 1.0), (0.4, 0.5)) == ["met", "ours alone", "met"]
    assert outcomes((0.95, 0.89), (0.4, 0.9)) == ["differs", "ours alone", "differs"]
