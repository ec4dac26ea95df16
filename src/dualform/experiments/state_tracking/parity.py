"""Parity beyond training's length: eigenvalues from 0 to 1 against -1 to 1, beside an LSTM and a transformer."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_least, at_most, ours_alone
from dualform.experiments.trained import Trained, counted, table, trained
from dualform.models.architecture import Architecture
from dualform.training.config import FitConfig
from dualform.training.recipe import Recipe

PAPER = {"transformer": 0.022, "delta_rule": 0.017, "delta_rule_negative": 1.0, "mamba": 0.0, "mamba_negative": 1.0}
"""Scaled accuracies, 0 for chance and 1 for perfect, of the best of three runs, at lengths of 40 to 256; said, and not compared
with those of smaller models."""

MODELS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "delta_rule": ("delta_rule", {"heads": 2}),
    "delta_rule_negative": ("delta_rule", {"heads": 2, "negative": True}),
    "mamba": ("mamba", {}),
    "mamba_negative": ("mamba", {"negative": True}),
    "transformer": ("softmax_attention", {"heads": 2, "context": 512}),
    "gla": ("gla", {"heads": 2}),
    "lstm": ("lstm", {}),
}
TWINS = ("delta_rule", "delta_rule_negative", "mamba", "mamba_negative")
"""Pairs of the same mixer: with eigenvalues from 0 to 1, then from -1 to 1."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"models": TWINS, "width": 32, "steps": 1000, "seeds": 1},
    "full": {"models": tuple(MODELS), "width": 32, "steps": 4000, "seeds": 3},
}
TIME, LENGTHS = 40, (64, 128, 256)
RATES = (3e-3, 1e-2, 3e-2)
SOLVED, UNSOLVED = 0.9, 0.5


def recipe(model: str, width: int, steps: int) -> Recipe:
    """One block with an MLP, trained on strings of 40 bits, asked for the parity at each bit."""
    name, options = MODELS[model]
    return Recipe(
        task="state-tracking",
        settings={"group": "z2", "time": TIME, "batch": 32, "held": 512, "lengths": LENGTHS},
        model=Architecture((name,), width, 1, "swiglu", "rms", options),
        fit=FitConfig(steps=steps, chunk=steps // 10, warmup=steps // 10, weight_decay=0.1),
    )


def scaled(each: Trained) -> list[float]:
    """2 accuracy - 1 of each seed, the mean over the lengths."""
    return [2 * score - 1 for score in each.scores("accuracy", [f"length {length}" for length in LENGTHS])]


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    recipes = {name: recipe(name, grid["width"], grid["steps"]) for name in grid["models"]}
    found, failed = trained(workshop, "parity", recipes, grid["seeds"], RATES)
    rows = table(found, "accuracy", [f"length {length}" for length in LENGTHS])
    why = (
        f"One block of width {grid['width']}, {grid['steps']} batches of 32 strings of {TIME} bits, asked for the parity at each "
        f"bit; tests at {', '.join(map(str, LENGTHS))} bits, their mean, over all bits, the first {TIME} too. "
        "The paper asks for the parity at the end alone, of strings of 3 to 40 bits, tests at 40 to 256, and has two blocks "
        f"of width 128, 20,000 batches of 256 and the best of three runs. It reports {PAPER['delta_rule']:.3f} of the delta rule "
        f"with eigenvalues from 0 to 1 and {PAPER['delta_rule_negative']:.3f} from -1 to 1, {PAPER['mamba']:.3f} and "
        f"{PAPER['mamba_negative']:.3f} of Mamba, and {PAPER['transformer']:.3f} of a transformer, scaled as here; judged is "
        "what it claims, which of two twins solves it."
    )
    return Findings(_numbers(found), {"rows": rows}, grid["seeds"], why, failed)


def _numbers(found: Mapping[str, Trained]) -> list[Number]:
    numbers = []
    for name, each in found.items():
        scores, what = scaled(each), f"{name.replace('_', ' ')}: scaled accuracy"
        at = ", ".join(f"{mean(each.scores('accuracy', [f'length {length}'])):.3f} at {length}" for length in LENGTHS)
        said = f"{counted(scores)}, mean {mean(scores):.3f}; accuracy {at}; learning rate {each.rate:g}"
        if name.endswith("_negative"):
            numbers.append(at_least(f"{what}, the worst seed", None, min(scores), SOLVED, f"solved; {said}"))
        elif f"{name}_negative" in MODELS:
            rule = f"not solved, though it knows the first bits; {said}"
            numbers.append(at_most(f"{what}, the best seed", None, max(scores), UNSOLVED, rule))
        else:
            numbers.append(ours_alone(f"{what}, the mean", mean(scores), said))
    return numbers


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "learning rate",
        "of 3e-3 to 3e-2 and beyond, the best on validation data, of training's length, of a seed of its own",
    ),
    (
        "what is asked for",
        "the parity at each bit, which is learnt sooner than that of the whole string; so are both twins asked",
    ),
    ("sizes and steps", "cut for two cores"),
    ("the transformer's positions", "rotary"),
)

PARITY = Experiment("Parity beyond training's length, eigenvalues in [0, 1] and [-1, 1]", UNKNOWNS, _run)
