"""Parity of strings longer than training's: eigenvalues from 0 to 1 against -1 to 1, beside an LSTM and a transformer."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_least, at_most, ours_alone
from dualform.experiments.trained import Trained, table, trained
from dualform.models.architecture import Architecture
from dualform.training.config import FitConfig
from dualform.training.recipe import Recipe

PAPER = {"transformer": 0.022, "delta_rule": 0.017, "delta_rule_negative": 1.0}
"""Scaled accuracies, 0 for chance and 1 for perfect, of the best of three runs, at lengths of 40 to 256."""

MODELS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "delta_rule": ("delta_rule", {"heads": 2}),
    "delta_rule_negative": ("delta_rule", {"heads": 2, "negative": True}),
    "transformer": ("softmax_attention", {"heads": 2, "context": 512}),
    "gla": ("gla", {"heads": 2}),
    "lstm": ("lstm", {}),
}
GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"models": ("delta_rule", "delta_rule_negative"), "width": 32, "steps": 800, "seeds": 1},
    "full": {"models": tuple(MODELS), "width": 64, "steps": 4000, "seeds": 3},
}
LENGTHS = (64, 128, 256)
SOLVED, CHANCE = 0.9, 0.1


def recipe(model: str, width: int, steps: int) -> Recipe:
    """Two blocks with MLPs, trained on strings of 3 to 40 bits."""
    name, options = MODELS[model]
    return Recipe(
        task="parity",
        settings={"time": 40, "shortest": 3, "batch": 64, "held": 1024, "lengths": LENGTHS},
        model=Architecture((name,), width, 2, "swiglu", "rms", options),
        fit=FitConfig(steps=steps, chunk=steps // 10, warmup=steps // 10, weight_decay=0.01),
    )


def scaled(each: Trained) -> list[float]:
    """2 accuracy - 1 of each seed, the mean over the lengths."""
    return [2 * score - 1 for score in each.scores("accuracy", [f"length {length}" for length in LENGTHS])]


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    recipes = {name: recipe(name, grid["width"], grid["steps"]) for name in grid["models"]}
    found, failed = trained(workshop, "parity", recipes, grid["seeds"])
    rows = table(found, "accuracy", [f"length {length}" for length in LENGTHS])
    why = (
        f"Two blocks of width {grid['width']}, {grid['steps']} batches of 64, strings of 3 to 40 bits; tests at {LENGTHS[0]}, "
        f"{LENGTHS[1]} and {LENGTHS[2]} bits, their mean. The paper has width 128, 20,000 batches of 256, lengths of 40 to 256 "
        "and the best of three runs."
    )
    return Findings(_numbers(found), {"rows": rows}, grid["seeds"], why, failed)


def _numbers(found: Mapping[str, Trained]) -> list[Number]:
    numbers = []
    for name, each in found.items():
        paper, scores, what = PAPER.get(name), scaled(each), f"{name.replace('_', ' ')}: scaled accuracy"
        said = f"{len(scores)} seeds, mean {mean(scores):.3f}, learning rate {each.rate:g}"
        if name == "delta_rule_negative":
            numbers.append(at_least(f"{what}, the best seed", paper, max(scores), SOLVED, f"solved; {said}"))
        elif paper is not None:
            numbers.append(
                at_most(f"{what}, the best seed", paper, max(scores), CHANCE, f"chance; {said}", alike=False)
            )
        else:
            numbers.append(ours_alone(f"{what}, the mean", mean(scores), said))
    return numbers


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "learning rate",
        "of 1e-3 to 1e-2 and beyond, the best on validation data, of training's lengths, of a seed of its own",
    ),
    ("sizes and steps", "cut for two cores"),
    ("the transformer's positions", "rotary"),
    ("Mamba", "its twin with eigenvalues from -1 to 1 is not built here"),
)

PARITY = Experiment("Parity beyond training's lengths, eigenvalues in [0, 1] and [-1, 1]", UNKNOWNS, _run)
