"""The table of remembered answers, turn by turn, as text and as Markdown."""

import shlex
from collections.abc import Mapping, Sequence

from dualform.experiments.memory import Row, Score


def percent(score: Score | None, interval: bool = True) -> str:
    """A mean score in percent, with its interval; nothing where nothing is asked."""
    if score is None:
        return ""
    return f"{100 * score.value:.0f}" + (f" ({100 * score.low:.0f} to {100 * score.high:.0f})" if interval else "")


def labels(row: Row) -> tuple[str, str, str]:
    """The task with its score, who answered, and how many states."""
    return f"{row.task}, {row.kind}", row.name, "all" if row.states is None else f"{row.states:,}"


def as_table(rows: Sequence[Row], chances: Mapping[str, float] | None = None) -> str:
    """The rows as a Markdown table: the score in percent at each turn, its interval, of how many, and the mean."""
    turns = max(len(row.turns) for row in rows)
    head = [
        *("task, score", "policy or model", "states"),
        *(f"turn {i + 1}" for i in range(turns)),
        "mean",
        "examples",
        "chance",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        asked = [each for each in row.turns if each is not None]
        cells = [*map(percent, row.turns), *[""] * (turns - len(row.turns))]
        chance = (chances or {}).get(row.task, 0.0)
        end = [f"{100 * row.mean:.0f}", str(asked[0].examples), f"{100 * chance:.0f}"]
        lines.append("| " + " | ".join([*labels(row), *cells, *end]) + " |")
    return "\n".join(lines)


SAYS = (
    "Scores are in percent, each with Wilson's interval of 95% for fresh examples; those of one row share the examples, so that "
    "turns of one row are not independent. Rows of one task have the same examples: a difference between rows is sharper than "
    "the intervals say."
)


def as_markdown(
    rows: Sequence[Row],
    *,
    command: Sequence[str],
    about: str,
    versions: Mapping[str, str],
    chances: Mapping[str, float],
) -> str:
    """The report: what was run, on what, and the table."""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    made = f"Made by `{shlex.join(command)}` with {packages}."
    return "\n\n".join(["# Memory of a shared context", made, about, SAYS, as_table(rows, chances)]) + "\n"
