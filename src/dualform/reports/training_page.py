"""The report of one training: its scores, its curves, and the recipe that repeats it."""

import os
import shlex
from pathlib import Path

from dualform.reports.page import Section, Table, picture, render
from dualform.reports.training_figures import curves
from dualform.tensor_file import write_atomically
from dualform.training.outcome import Outcome, Result


def write_training_page(folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` into the folder of a training, also of one that is not done, and return its path.

    **Raises:** `FileError` where it is no training's folder, a file in it is damaged, or the page cannot be written.
    """
    page = Path(folder) / "report.html"
    write_atomically(page, training_page(Outcome.read(folder)).encode())
    return page


def training_page(outcome: Outcome) -> str:
    """One self-contained HTML page."""
    recipe, result = outcome.recipe, outcome.result
    sections = [] if result is None else [Section("Scores of the best model", table=_scores(result))]
    caption = (
        "By step: the mean loss of each chunk of training, and the scores on validation data after it; the dotted line is at the "
        "best model, that of the least validation loss."
    )
    if outcome.lines:
        best = None if result is None else result.best_step
        drawn = picture(curves({"": [outcome]}, best), caption)
        sections.append(Section("Curves", figures=[drawn]))
    said = "This file repeats the training; what the command did not say is in it, too."
    sections.append(Section("Recipe: run.toml", [said], code=recipe.toml()))
    sections.append(Section("What can be done with it", code="\n".join(_commands(outcome))))
    model = f"{' '.join(recipe.model.mixers)}, width {recipe.model.width}, {recipe.model.layers} layers"
    return render(
        title=f"{recipe.task}: {model}",
        lead=f"Seed {recipe.seed}; {recipe.fit.steps:,} steps, of which the first {recipe.fit.warmup:,} warm up.",
        verdict=f"{outcome.status[:1].upper()}{outcome.status[1:]}",
        reasons=[] if result is None else _reasons(outcome, result),
        sections=sections,
    )


def _commands(outcome: Outcome) -> list[str]:
    """The training again, beside others; of text, what it writes and what it attends to."""
    folder = shlex.quote(str(outcome.folder))
    lines = [f"dualform train --config {folder}/run.toml --out OTHER", f"dualform compare {folder} OTHER"]
    if outcome.recipe.task == "text" and outcome.result is not None:
        lines += [f"dualform generate --model {folder} --prompt TEXT", f"dualform attend --model {folder} --text TEXT"]
    return lines


def _reasons(outcome: Outcome, result: Result) -> list[str]:
    score = outcome.main_score
    said = [f"{split} {score}: {test[score]:.4g}." for split, test in result.test.items() if score in test]
    ended = " It no longer got better, and was stopped." if result.status == "stopped" else ""
    return [
        *said,
        f"{result.parameters:,} parameters; {result.steps:,} steps in {result.seconds:,.0f} s, "
        f"{result.tokens_per_second:,.0f} tokens a second, evaluation and compilation included.{ended}",
        f"The weights are those of step {result.best_step:,}, the best by validation loss.",
    ]


def _scores(result: Result) -> Table:
    """A row for each split, a column for each score."""
    splits = {"validation": result.validation, **result.test}
    names = list(dict.fromkeys(name for scores in splits.values() for name in scores))
    rows = [[split, *(f"{s[name]:.4g}" if name in s else "" for name in names)] for split, s in splits.items()]
    return Table(["held out", *names], rows, numeric=range(1, 1 + len(names)))
