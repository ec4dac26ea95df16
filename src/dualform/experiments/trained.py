"""Trainings as results: for each model the learning rate that validation chooses, then its seeds, measured on the tests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from dualform.experiments.reproduction import Number, Workshop, at_least, ours_alone, results_of
from dualform.training import Job
from dualform.training.recipe import Recipe

LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Learning rates that may be tried."""

BEGIN = (1e-3, 3e-3, 1e-2)
"""Where the search begins; it goes on along the ladder until worse rates stand on both sides of the best."""

SEARCH_SEED = 1000
"""The seed that rates are chosen by: none that a result is reported from."""

FUNCTION = "dualform.training.recipe:job"


class Trained(NamedTuple):
    """One model's seeds, at the rate that validation chose.

    - rate: the learning rate.  tried: the validation loss of every rate that was tried, of a seed of its own.
    - results: of each seed, what `Recipe.train` gives.
    """

    rate: float
    tried: dict[float, float]
    results: list[dict[str, Any]]

    @property
    def inside(self) -> bool:
        """Whether worse rates were tried on both sides of it."""
        return min(self.tried) < self.rate < max(self.tried)

    def scores(self, name: str, splits: Sequence[str] = ("test",)) -> list[float]:
        """A score of each seed, the mean over these splits."""
        return [mean(result["test"][split][name] for split in splits) for result in self.results]


def trained(
    workshop: Workshop, sweep: str, recipes: Mapping[str, Recipe], seeds: int, begin: Sequence[float] = BEGIN
) -> tuple[dict[str, Trained], list[str]]:
    """Search each recipe's learning rate, then train its seeds.

    **Arguments:** recipes: by the models' names, letters, digits, `.`, `_`, `=` and `-`; begin: neighbours on the ladder.

    **Returns:** what came of each model of which a seed was finished, and "name: reason" of every run that failed.
    """
    tried: dict[str, dict[float, float]] = {name: {} for name in recipes}
    failed: list[str] = []
    missing = {name: list(begin) for name in recipes}
    while any(missing.values()):
        jobs = [_job(name, recipes[name], rate, SEARCH_SEED) for name, rates in missing.items() for rate in rates]
        found, broken = _results(workshop, f"{sweep}-rates", jobs)
        failed += broken
        for name, rates in missing.items():
            tried[name] |= {
                rate: found[_name(name, rate, SEARCH_SEED)]["validation"]["loss"]
                for rate in rates
                if _name(name, rate, SEARCH_SEED) in found
            }
        missing = {name: _next(tried[name]) if missing[name] else [] for name in recipes}
    best = {name: min(rates, key=lambda rate: rates[rate]) for name, rates in tried.items() if rates}
    jobs = [_job(name, recipes[name], rate, seed) for name, rate in best.items() for seed in range(seeds)]
    found, broken = _results(workshop, sweep, jobs)
    rows = {
        name: [found[each] for seed in range(seeds) if (each := _name(name, rate, seed)) in found]
        for name, rate in best.items()
    }
    return {name: Trained(best[name], tried[name], results) for name, results in rows.items() if results}, [
        *failed,
        *broken,
    ]


def _next(tried: Mapping[float, float]) -> list[float]:
    """The rate to be tried next: beyond the best one, where that is at the edge of what was tried and the ladder goes on."""
    if not tried:
        return []
    best = min(tried, key=lambda rate: tried[rate])
    place = LADDER.index(best)
    if best == max(tried) and place + 1 < len(LADDER):
        return [LADDER[place + 1]]
    return [LADDER[place - 1]] if best == min(tried) and place > 0 else []


def _name(model: str, rate: float, seed: int) -> str:
    return f"{model}-rate={rate:g}-seed={seed}"


def _job(model: str, recipe: Recipe, rate: float, seed: int) -> Job:
    told = replace(recipe, fit=replace(recipe.fit, learning_rate=rate, final_learning_rate=rate / 100), seed=seed)
    return Job(_name(model, rate, seed), FUNCTION, told.told())


def _results(workshop: Workshop, sweep: str, jobs: Sequence[Job]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The result of each job that is done, by its name."""
    rows = workshop.sweep(sweep, jobs)
    _, failed = results_of(rows)
    return {row.name: results_of([row])[0][0][1] for row in rows if row.status == "done"}, failed


def table(found: Mapping[str, Trained], name: str, splits: Sequence[str] = ("test",)) -> list[dict[str, Any]]:
    """A row for each model, for the record: its rate, what was tried, its size, its score of each seed, its seconds."""
    return [
        {
            "model": model,
            "rate": each.rate,
            "tried": {f"{rate:g}": loss for rate, loss in sorted(each.tried.items())},
            "inside": each.inside,
            "parameters": each.results[0]["parameters"],
            "scores": each.scores(name, splits),
            "seconds": [result["seconds"] for result in each.results],
            "tokens_per_second": mean(result["tokens_per_second"] for result in each.results),
        }
        for model, each in found.items()
    ]


def counted(scores: Sequence[float]) -> str:
    """How many seeds there are, in words: "1 seed", "5 seeds"."""
    return f"{len(scores)} seed{'' if len(scores) == 1 else 's'}"


def worst(what: str, each: Trained, name: str, least: float, why: str, *, splits=("test",)) -> Number:
    """The worst seed's score, which should be at least so much; the mean is said beside it."""
    scores = each.scores(name, splits)
    said = f"{why}; {counted(scores)}, mean {mean(scores):.3f}{_at_rate(each)}"
    return at_least(f"{what}: {name}, the worst seed", None, min(scores), least, said)


def above(what: str, better: Trained, other: Trained, name: str, why: str, *, splits=("test",)) -> Number:
    """How far the worst seed of one model is above the best of another, which should be more than 0."""
    gap = min(better.scores(name, splits)) - max(other.scores(name, splits))
    means = f"means {mean(better.scores(name, splits)):.3f} and {mean(other.scores(name, splits)):.3f}"
    return at_least(f"{what}: the worst seed less the best", None, gap, 0.0, f"{why}; {means}")


def alone(what: str, each: Trained, name: str, *, splits=("test",)) -> Number:
    """A model's mean, that decides nothing."""
    scores = each.scores(name, splits)
    why = f"mean of {counted(scores)}, the worst {min(scores):.3f}, the best {max(scores):.3f}{_at_rate(each)}"
    return ours_alone(f"{what}: {name}", mean(scores), why)


def _at_rate(each: Trained) -> str:
    return f"; learning rate {each.rate:g}" + ("" if each.inside else ", at the edge of those tried")


def trained_run(workshop: Workshop, sweep: str, model: str, rate: float, seed: int) -> Path:
    """The folder of one training of `trained`, in which its run.toml and its best weights are."""
    return workshop.runs(sweep, [Job("any", FUNCTION)]) / _name(model, rate, seed) / "run"
