"""What there is to say of trainings side by side: one table and some sentences, for the terminal and for the page."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dualform.errors import require
from dualform.training.comparison import Choice, Comparison, Group, Mean, word
from dualform.training.grid import short_names


class Cells(NamedTuple):
    """A table: its head, its rows, and which columns hold numbers."""

    head: list[str]
    rows: list[list[str]]
    numeric: list[int]


def cells(comparison: Comparison, by: str | None = None) -> Cells:
    """A row for each group: what tells it from the others, its sizes, its scores over seeds, its speed and how far it is.

    **Arguments:** by: the score that is shown of each test; if not given, that of the task.

    **Raises:** `InputError` where no test has it, naming those that there are.
    """
    groups, tests = comparison.groups, _tests(comparison.groups, by)
    differing = comparison.differing or ("model.mixers",)
    first = [*short_names(differing), *(["rate"] if comparison.choices else [])]
    numbers = ["seeds", "parameters", "steps", "best step", "validation loss"]
    head = [*first, *numbers, *(f"{split} {score}" for split, score in tests), "tokens/s", "status"]
    rows = [
        [
            *(word(group.told.get(key)) for key in differing),
            *([_chosen(comparison.choice_of(group))] if comparison.choices else []),
            _seeds(group),
            _span(result.parameters for result in group.results),
            _span(result.steps for result in group.results),
            _span(result.best_step for result in group.results),
            mean(group.validation()),
            *(mean(group.test(split, score) if score == _score(group, by) else None) for split, score in tests),
            _speed(group),
            status(group),
        ]
        for group in groups
    ]
    return Cells(head, rows, list(range(len(first), len(head) - 1)))


def sentences(comparison: Comparison) -> list[str]:
    """How many there are, which learning rates were chosen, from what, and how the numbers are to be read."""
    groups = comparison.groups
    total = sum(len(group.outcomes) for group in groups)
    undone = total - sum(len(group.results) for group in groups)
    tasks = ", ".join(dict.fromkeys(str(group.told["task"]) for group in groups))
    left = f"; {undone:,} not done" if undone else ""
    said = [f"{tasks}: {count(total, 'training')} in {count(len(groups), 'group')}{left}."]
    said += [_of_choice(comparison, choice) for choice in comparison.choices]
    if any(len(group.results) > 1 for group in groups):
        said.append("Means over seeds, ± half of an interval of 95% (Student's t), and in brackets the worst seed.")
    if any(len(group.results) == 1 for group in groups):
        said.append("Of a single seed there is no interval.")
    return said


def count(number: int, what: str) -> str:
    """Such as: 3 trainings."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def mean(found: Mean | None) -> str:
    """A score over seeds for a table; of one seed the number alone."""
    if found is None:
        return ""
    if found.n == 1:
        return f"{found.value:.4g}"
    return f"{found.value:.4g} ± {found.half:.2g} ({found.worst:.4g})"


def status(group: Group) -> str:
    """How many seeds are done, and how far each of the others is."""
    ended = [result.status for result in group.results]
    said = [f"{ended.count(name)} {name}" for name in dict.fromkeys(ended)]
    return "; ".join([*said, *(f"seed {e.recipe.seed}: {e.status}" for e in group.outcomes if e.result is None)])


def _tests(groups: Sequence[Group], by: str | None) -> list[tuple[str, str]]:
    """Each split with the score that is shown of it, as columns."""
    there = [
        (split, name) for group in groups for r in group.results for split, test in r.test.items() for name in test
    ]
    scores = list(dict.fromkeys(name for _, name in there))
    have = f"there are {', '.join(scores)}" if scores else "no training is done"
    require(by is None or by in scores, f"no test has a score {by!r}; {have}.")
    wanted = {(split, _score(group, by)) for group in groups for r in group.results for split in r.test}
    return [each for each in dict.fromkeys(there) if each in wanted]


def _score(group: Group, by: str | None) -> str:
    return group.main_score if by is None else by


def _chosen(choice: Choice | None) -> str:
    if choice is None:
        return ""
    return f"best of {len(choice.rates)}{', edge' if choice.edge else ''}"


def _of_choice(comparison: Comparison, choice: Choice) -> str:
    tried = ", ".join(f"{rate:g}" for rate in choice.rates)
    said = f"{comparison.label(choice.group)}: the best by validation loss of the learning rates {tried}"
    if choice.edge:
        said += f", and at their edge: try {choice.edge} ones"
    if choice.open:
        said += (
            f"; not all seeds of {', '.join(f'{rate:g}' for rate in choice.open)} are done, which could not be chosen"
        )
    return f"{said}."


def _seeds(group: Group) -> str:
    done, total = len(group.results), len(group.outcomes)
    return f"{total}" if done == total else f"{done} of {total}"


def _span(numbers: Iterable[int]) -> str:
    """A number, or from the least to the most."""
    found = sorted(numbers)
    if not found:
        return ""
    return f"{found[0]:,}" if found[0] == found[-1] else f"{found[0]:,} to {found[-1]:,}"


def _speed(group: Group) -> str:
    speeds = [each for each in (result.tokens_per_second for result in group.results) if math.isfinite(each)]
    return f"{sum(speeds) / len(speeds):,.0f}" if speeds else ""
