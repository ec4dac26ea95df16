"""The report of one training: its scores, its curves, and the recipe that repeats it."""

import os
import shlex
import textwrap
from pathlib import Path

from dualform.reports.page import Section, Table, picture, render
from dualform.reports.training_figures import curves
from dualform.tensor_file import write_atomically
from dualform.token_ids import UNKNOWN
from dualform.training.outcome import Outcome, Result
from dualform.training.samples import Answers, Texts, read_samples


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
    samples = read_samples(outcome.folder)
    if samples is not None:
        sections.append(_written(samples) if isinstance(samples, Texts) else _answered(samples))
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


def _written(texts: Texts) -> Section:
    """A prompt, and what the model writes behind it, drawn and by the likeliest tokens."""
    said = (
        f"Behind the first {texts.given} tokens of the test's text, {texts.length} of its own: drawn at temperature "
        f"{texts.temperature:g} with seed {texts.seed}, and the likeliest one each time."
    )
    parts = {"prompt": texts.prompt, "drawn": texts.sampled, "likeliest": texts.greedy}
    return Section(
        "What it writes", [said], code="\n\n".join(f"[{name}]\n{_lines(text)}" for name, text in parts.items())
    )


def _lines(text: str) -> str:
    """A text in lines that fit on the page; what cannot be shown is a replacement character."""
    text = "".join(c if c.isprintable() or c == "\n" else UNKNOWN for c in text)
    return "\n".join("\n".join(textwrap.wrap(line, 100, drop_whitespace=False) or [""]) for line in text.split("\n"))


def _answered(answers: Answers) -> Section:
    """The first sequence of the test in rows of 24 tokens: what is read, what is asked for there, and the answer."""
    places = [i for i, asked in enumerate(answers.asked) if asked >= 0]
    right = sum(answers.asked[i] == answers.answered[i] for i in places)
    kept = len(answers.read)
    part = "" if kept == answers.time else f", the last {kept} of its {answers.time:,} tokens"
    said = f"The first sequence of the test{part}: {right} of {len(places)} answers are right. A dot is where nothing is asked."
    wide = max(len(str(token)) for row in (answers.read, answers.asked, answers.answered) for token in row)
    shown = {"read": answers.read, "asked": answers.asked, "answered": answers.answered}
    blocks = []
    for begin in range(0, kept, 24):
        rows = []
        for name, row in shown.items():
            stretch = range(begin, min(begin + 24, kept))
            cells = (f"{row[i] if name == 'read' or answers.asked[i] >= 0 else '.':>{wide}}" for i in stretch)
            rows.append(f"{name:9}{' '.join(cells)}")
        blocks.append("\n".join(rows))
    return Section("One sequence that it answers", [said], code="\n\n".join(blocks))


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
