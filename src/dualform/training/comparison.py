"""Trainings side by side: grouped by everything but their seed, each score a mean over seeds in its interval."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dualform.errors import InputError, require
from dualform.intervals import mean_interval
from dualform.training.grid import short_names
from dualform.training.outcome import Outcome, Result

RATE = "fit.learning_rate"
HIGHER_IS_BETTER = ("accuracy", "sequences")
"""Scores of which the most is the best; of all others it is the least, as of the loss."""


class Mean(NamedTuple):
    """A score over seeds.

    - value: the mean.  half: half of its interval of 95%, by Student's t over seeds; infinite for a single one.  worst: of the
      seeds.  n: how many.
    """

    value: float
    half: float
    worst: float
    n: int

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> "Mean":
        """Of a score by its name, which says whether the least or the most is the worst; NaN is worse than all."""
        value, _, high = mean_interval(values)
        worst = min(values) if name in HIGHER_IS_BETTER else max(values)
        return cls(value, high - value, math.nan if any(map(math.isnan, values)) else worst, len(values))


@dataclass(frozen=True)
class Group:
    """Trainings that differ in nothing but their seed.

    - told: what they were told, by dotted key, without the seed.  outcomes: in the order of their seeds.
    """

    told: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def results(self) -> list[Result]:
        """Of those that are done."""
        return [each.result for each in self.outcomes if each.result is not None]

    @property
    def done(self) -> bool:
        """Whether all are."""
        return len(self.results) == len(self.outcomes)

    @property
    def main_score(self) -> str:
        """Of the first one that is done."""
        return next((each.main_score for each in self.outcomes if each.result is not None), "loss")

    def validation(self) -> Mean | None:
        """The validation loss of those that are done."""
        return Mean.of("loss", [result.validation["loss"] for result in self.results]) if self.results else None

    def test(self, split: str, score: str) -> Mean | None:
        """A score on one of the tests, of those that are done; None where they have it not."""
        values = [result.test[split][score] for result in self.results if score in result.test.get(split, {})]
        return Mean.of(score, values) if values else None


class Choice(NamedTuple):
    """The learning rate that was chosen among groups that differ in nothing else.

    - group: the one of that rate.  family: all of them.
    """

    group: Group
    family: tuple[Group, ...]

    @property
    def rates(self) -> tuple[float, ...]:
        """All that were tried, rising."""
        return tuple(sorted(group.told[RATE] for group in self.family))

    @property
    def open(self) -> tuple[float, ...]:
        """Those among them with a training that is not done, which could not be chosen."""
        return tuple(sorted(group.told[RATE] for group in self.family if not group.done))

    @property
    def rate(self) -> float:
        """The one that was chosen."""
        return self.group.told[RATE]

    @property
    def edge(self) -> str:
        """Where the best may lie beyond the rates that were tried, "lower" or "higher"; "" where it does not."""
        return {self.rates[0]: "lower", self.rates[-1]: "higher"}.get(self.rate, "")


@dataclass(frozen=True)
class Comparison:
    """Groups, those of one task together, and among them the least validation loss first.

    - differing: the dotted keys in which they differ.  choices: one for each set of groups that differ in the learning rate
      alone, where a group of it is done.
    """

    groups: tuple[Group, ...]
    differing: tuple[str, ...]
    choices: tuple[Choice, ...]

    def choice_of(self, group: Group) -> Choice | None:
        """The choice that fell on this group, if any did."""
        return next((choice for choice in self.choices if choice.group is group), None)

    def chosen(self) -> list[Group]:
        """The groups without those of a learning rate that another one was chosen before."""
        left = [group for choice in self.choices for group in choice.family if group is not choice.group]
        return [group for group in self.groups if not any(group is other for other in left)]

    def label(self, group: Group) -> str:
        """What tells a group from the others: "mixers=gla, learning_rate=0.001"; of one alone its mixers."""
        if not self.differing:
            return word(group.told.get("model.mixers"))
        names = short_names(self.differing)
        return ", ".join(f"{name}={word(group.told.get(key))}" for name, key in zip(names, self.differing, strict=True))


def compare(outcomes: Iterable[Outcome]) -> Comparison:
    """Group trainings by all that they were told but the seed, and choose learning rates by the mean validation loss.

    A rate of which a training is not done, or failed, is not chosen; it stays one of those that were tried.

    **Raises:** `InputError` where there are none, or two are the same one: a mean over seeds would count it twice.
    """
    grouped: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        told = outcome.recipe.told()
        grouped.setdefault(json.dumps(told | {"seed": None}, sort_keys=True), []).append(outcome)
    require(bool(grouped), "there is nothing to compare; give folders of trainings.")
    groups = [_group(members) for members in grouped.values()]
    keys = dict.fromkeys(key for group in groups for key in group.told)
    differing = tuple(key for key in keys if len({json.dumps(group.told.get(key)) for group in groups}) > 1)
    ordered = sorted(groups, key=lambda group: (str(group.told.get("task")), _loss(group)))
    return Comparison(tuple(ordered), differing, tuple(_choices(ordered)))


def _group(members: Sequence[Outcome]) -> Group:
    members = sorted(members, key=lambda outcome: outcome.recipe.seed)
    for one, other in zip(members, members[1:], strict=False):
        if one.recipe.seed == other.recipe.seed:
            raise InputError(
                f"{str(one.folder)!r} and {str(other.folder)!r} are the same training, of seed {one.recipe.seed}. Leave one out."
            )
    return Group(flat(members[0].recipe.told() | {"seed": None}), tuple(members))


def _loss(group: Group) -> float:
    """By what groups are ordered, and rates chosen: infinite where nothing is done, or it is no number."""
    found = group.validation()
    return math.inf if found is None or math.isnan(found.value) else found.value


def _choices(groups: Sequence[Group]) -> Iterable[Choice]:
    families: dict[str, list[Group]] = {}
    for group in groups:
        families.setdefault(json.dumps({**group.told, RATE: None}, sort_keys=True), []).append(group)
    for family in families.values():
        done = [group for group in family if group.done]
        if len(family) > 1 and done:
            yield Choice(min(done, key=_loss), tuple(family))


def flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one by dotted keys; what is None is left out."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        elif value is not None:
            found[before + name] = value
    return found


def word(value: Any) -> str:
    """A setting for a table: a list's parts side by side, and nothing for what was not told."""
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
