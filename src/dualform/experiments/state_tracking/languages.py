"""Four regular languages, and strings longer than training's: which networks track the state that each of them takes."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_least, ours_alone
from dualform.experiments.trained import Trained, counted, table, trained
from dualform.models.architecture import Architecture
from dualform.tasks import Strings, named
from dualform.training.config import FitConfig
from dualform.training.recipe import Recipe

TASKS = ("cycle-navigation", "even-pairs", "modular-arithmetic", "parity")

PUBLISHED: dict[str, tuple[float, ...]] = {
    "lstm": (100.0, 100.0, 99.9, 100.0),
    "transformer": (24.4, 90.4, 23.6, 52.2),
    "delta_rule": (49.8, 100.0, 42.2, 57.8),
    "delta_rule_negative": (46.7, 100.0, 66.4, 97.7),
}
"""Accuracies in %, of `TASKS` in their order, mean of five seeds, trained at lengths of 3 to 40 and read at 40 to 256
(arXiv 2509.22284); said, and not compared with those of smaller models."""

MODELS: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "lstm": ("lstm", "none", {}),
    "transformer": ("softmax_attention", "swiglu", {"heads": 2}),
    "delta_rule": ("delta_rule", "swiglu", {"heads": 2}),
    "delta_rule_negative": ("delta_rule", "swiglu", {"heads": 2, "negative": True}),
}
"""Mixers, MLPs and options. With an MLP and half the width the LSTM knew training's lengths after 2,000 steps, and no others."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"models": ("lstm", "transformer"), "time": 16, "lengths": (32, 64, 128), "steps": 1500, "seeds": 1},
    "full": {"models": tuple(MODELS), "time": 40, "lengths": (64, 128, 256), "steps": 3000, "seeds": 3},
}
WIDTH, SHORTEST, BATCH = 64, 3, 64
RATES = (3e-3, 1e-2, 3e-2)
SOLVED = 0.9
FAR = 10.0
"""In points of %: where the published means of LSTM and transformer lie so far apart, the order is judged."""


def recipe(task: str, model: str, time: int, lengths: tuple[int, ...], steps: int) -> Recipe:
    """One block, asked behind the last symbol of each string."""
    name, mlp, options = MODELS[model]
    if name == "softmax_attention":
        options = {**options, "context": max(time, *lengths) + 1}
    return Recipe(
        task=task,
        settings={"time": time, "shortest": SHORTEST, "batch": BATCH, "held": 512, "lengths": lengths},
        model=Architecture((name,), WIDTH, 1, mlp, "rms", options),
        fit=FitConfig(steps=steps, chunk=steps // 10, warmup=steps // 10, weight_decay=0.1),
    )


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    recipes = {
        f"{task}.{model}": recipe(task, model, grid["time"], grid["lengths"], grid["steps"])
        for task in TASKS
        for model in grid["models"]
    }
    found, failed = trained(workshop, "languages", recipes, grid["seeds"], RATES)
    splits = [f"length {length}" for length in grid["lengths"]]
    said = "; ".join(
        f"{model.replace('_', ' ')} {', '.join(f'{value:.1f}' for value in PUBLISHED[model])}"
        for model in grid["models"]
    )
    why = (
        f"One block of width {WIDTH}, with an MLP but for the LSTM, {grid['steps']} batches of {BATCH} strings of {SHORTEST} to "
        f"{grid['time']} symbols, asked behind the last; tests at {', '.join(map(str, grid['lengths']))} symbols, the mean of "
        "these. Published are means of five seeds of models of width 128 or more after 100,000 steps at lengths of 3 to 40, "
        f"read at 40 to 256 (arXiv 2509.22284), in %: {', '.join(TASKS)}: {said}. Judged is what that table says: that the "
        f"LSTM solves all four, and is above the transformer where their means lie more than {FAR:g} points apart."
    )
    return Findings(_numbers(found, splits), {"rows": table(found, "accuracy", splits)}, grid["seeds"], why, failed)


def _numbers(found: Mapping[str, Trained], splits: Sequence[str]) -> list[Number]:
    numbers = []
    for place, task in enumerate(TASKS):
        of = {model: found[f"{task}.{model}"] for model in MODELS if f"{task}.{model}" in found}
        for model, each in of.items():
            scores, what = each.scores("accuracy", splits), f"{task}: {model.replace('_', ' ')}"
            at = ", ".join(f"{mean(each.scores('accuracy', [split])):.3f} at {split}" for split in splits)
            said = f"{counted(scores)}, mean {mean(scores):.3f}; {at}; learning rate {each.rate:g}; chance {chance(task):.2f}"
            numbers.append(
                at_least(f"{what}: accuracy, the worst seed", None, min(scores), SOLVED, f"solved; {said}")
                if model == "lstm"
                else ours_alone(f"{what}: accuracy, the mean", mean(scores), said)
            )
        if {"lstm", "transformer"} <= of.keys() and PUBLISHED["lstm"][place] - PUBLISHED["transformer"][place] > FAR:
            lstm, transformer = (of[model].scores("accuracy", splits) for model in ("lstm", "transformer"))
            gap, claim = min(lstm) - max(transformer), "as published; the LSTM's worst seed less the transformer's best"
            numbers.append(at_least(f"{task}: LSTM above transformer", None, gap, 0.0, claim))
    return numbers


def chance(task: str) -> float:
    """The accuracy of a guess."""
    opened = named(task).open()
    assert isinstance(opened, Strings)
    return opened.chance


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "learning rate",
        "of 3e-3 to 3e-2 and beyond, the best on validation data, of training's lengths, of a seed of its own",
    ),
    ("sizes, lengths and steps", "cut for two cores"),
    ("lengths of the tests", "three alone, of which the mean is taken; the published ones are drawn from 40 to 256"),
    ("the transformer's positions", "rotary"),
)

LANGUAGES = Experiment("Four regular languages beyond training's length", UNKNOWNS, _run)
