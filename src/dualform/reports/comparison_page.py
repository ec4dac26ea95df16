"""The page of `dualform compare`: curves, the table, and the run.toml of each training."""

import os
from pathlib import Path

from dualform.reports.comparison import cells, sentences
from dualform.reports.page import Folded, Section, Table, picture, render
from dualform.reports.training_figures import MOST, curves
from dualform.tensor_file import write_atomically
from dualform.training.comparison import Comparison
from dualform.training.outcome import Outcome


def write_comparison_page(comparison: Comparison, path: str | os.PathLike[str], by: str | None = None) -> Path:
    """Write the page, and return its path.

    **Raises:** `FileError` where it cannot be written; `InputError` as of `cells`.
    """
    write_atomically(path, comparison_page(comparison, by).encode())
    return Path(path)


def comparison_page(comparison: Comparison, by: str | None = None) -> str:
    """One self-contained HTML page.

    **Arguments:** by: as of `cells`.
    """
    first, *reasons = sentences(comparison)
    groups = comparison.groups
    return render(
        title="Trainings compared",
        lead="Trainings that differ in nothing but the seed are one group, a row and a line.",
        verdict=first,
        reasons=reasons,
        sections=[
            Section("Scores", table=Table(*cells(comparison, by))),
            _curves(comparison),
            Section("Recipes", folded=[_recipe(each) for group in groups for each in group.outcomes]),
        ],
    )


def _curves(comparison: Comparison) -> Section:
    shown = comparison.chosen()
    drawn = {comparison.label(group): group.outcomes for group in shown[:MOST]}
    caption = (
        "By step: the loss in training, and the scores on validation data. A line is the mean over the seeds that have come so "
        "far, its band goes from the least to the most of them."
    )
    if len(shown) < len(comparison.groups):
        caption += " Of several learning rates the chosen one is drawn."
    if len(drawn) < len(shown):
        caption += f" Only the first {MOST} of {len(shown)} groups are."
    return Section("Curves", figures=[picture(curves(drawn), caption)])


def _recipe(outcome: Outcome) -> Folded:
    return Folded(f"{outcome.folder}: {outcome.status}", outcome.recipe.toml())
