"""Recall by the size of the state: states are as large as they are said to be, and the worst seed against the claim decides."""

from dataclasses import dataclass

import pytest

from dualform.errors import InputError
from dualform.experiments.gsa import equal_state
from dualform.experiments.gsa.paper import GSA
from dualform.experiments.hgrn2 import state_expansion
from dualform.experiments.hgrn2.paper import HGRN2
from dualform.experiments.mqar.sized import apart, kept, recipe
from dualform.experiments.reproduction import Workshop, reproduce, verdict_of
from dualform.experiments.trained import Trained
from dualform.training import Row
from tests.experiments.test_trained import Pretended


@pytest.mark.parametrize(
    ("mixer", "options", "numbers"),
    [
        ("hgrn", {}, 32),
        ("hgrn2", {"heads": 1}, 32 * 32),
        ("hgrn2", {"heads": 4}, 4 * 8 * 8),
        ("gla", {"heads": 2}, 2 * 8 * 16),
        ("gsa", {"slots": 5}, 2 * 5 * 32),
    ],
)
def test_a_state_is_counted(mixer, options, numbers):
    """Known counts at width 32: a number for each channel, a matrix for each head, a key and a value for each slot."""
    assert kept(recipe(mixer, options, 32, 10)) == numbers


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_pairs_remember_as_many_numbers(preset):
    """At the sizes of both presets GLA and GSA have states of one size; where slots do not come out even, that is said."""
    grid = equal_state.GRIDS[preset]
    for heads in grid["heads"]:
        gla, gsa = equal_state.pair(heads, grid["width"], 10).values()
        assert kept(gla) == kept(gsa) == grid["width"] ** 2 // (2 * heads)
    with pytest.raises(InputError, match="take a width that is a multiple of 4 heads"):
        equal_state.pair(1, 34, 10)


@dataclass
class Given(Pretended):
    """A workshop whose models have these accuracies, of each seed, by a part of their names, and these parameters."""

    accuracies: tuple[tuple[str, tuple[float, ...]], ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()

    def sweep(self, name, jobs):
        return [self._told(job, row) for job, row in zip(jobs, super().sweep(name, jobs), strict=True)]

    def _told(self, job, row):
        seed = int(job.name.rpartition("=")[2]) % 10
        scores = next((each for part, each in self.accuracies if part in job.name), (0.5,) * 3)
        (result,) = row.results
        test = {"test": {"loss": 1.0, "accuracy": scores[seed]}}
        parameters = next((count for part, count in self.sizes if part in job.name), 1000)
        return Row(job.name, job.config, "done", (result | {"test": test, "parameters": parameters},))


def verdict(paper, name: str, workshop: Workshop) -> tuple[str, list[str]]:
    """Of the result, and of each number that decides."""
    found = paper.results[name].run(workshop, "full")
    return verdict_of(found), [number.outcome for number in found.numbers if number.outcome != "ours alone"]


def test_a_larger_state_must_recall_more(tmp_path):
    """HGRN2's worst seed is held to the best of HGRN and of the smaller state, and its parameters to be as many."""
    best, middle = ("heads=1-", (0.8, 0.9, 0.9)), ("heads=4", (0.6, 0.7, 0.7))
    given = lambda name, *accuracies, sizes=(): Given(tmp_path / name, accuracies=accuracies, sizes=sizes)
    of = lambda workshop: verdict(HGRN2, "state-expansion", workshop)
    assert of(given("a", best, middle)) == ("reproduced", ["met"] * 4)
    assert of(given("b", ("heads=1-", (0.4, 0.9, 0.9)))) == ("differs", ["differs", "met", "differs", "met"])
    assert of(given("c", best, ("heads=4", (0.6, 0.7, 0.85)))) == ("differs", ["met", "met", "differs", "met"])
    assert of(given("d", best, middle, sizes=(("hgrn-", 900),))) == ("differs", ["met", "differs", "met", "met"])


def test_slots_must_recall_more_at_every_size(tmp_path):
    """Of three pairs one in which GSA's worst seed is below GLA's best is enough to differ."""
    of = lambda name, *accuracies: verdict(GSA, "equal-state", Given(tmp_path / name, accuracies=accuracies))
    assert of("a", ("gsa", (0.6, 0.7, 0.7))) == ("reproduced", ["met"] * 3)
    assert of("b", ("gsa-state=1024", (0.6, 0.4, 0.7)), ("gsa", (0.6, 0.7, 0.7))) == (
        "differs",
        ["met", "differs", "met"],
    )
    assert of("c", ("gla-state=512", (0.5, 0.5, 0.71)), ("gsa", (0.7, 0.7, 0.7)))[0] == "differs"


def test_a_difference_is_a_share_of_the_larger():
    """980 parameters beside 1,000 are 2% apart."""
    small, large = (Trained(1e-2, {}, [{"parameters": count}]) for count in (980, 1000))
    assert apart(small, large) == apart(large, small) == pytest.approx(0.02)


def test_what_is_remembered_is_stored(tmp_path):
    """Each row of the record says the size of its state, of the quick preset's models alone."""
    record = reproduce(HGRN2, "state-expansion", "quick", Given(tmp_path))
    assert {row["model"]: row["state"] for row in record["data"]["rows"]} == {
        "hgrn": 32,
        "hgrn2-heads=4": 256,
        "hgrn2-heads=1": 1024,
    }
    assert set(state_expansion.GRIDS["full"]["models"]) == set(state_expansion.MODELS)
