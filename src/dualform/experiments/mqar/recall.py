"""Associative recall with many queries: which mixers find the value of a key, at one width."""

from collections.abc import Mapping, Sequence
from typing import Any

from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop
from dualform.experiments.trained import Trained, above, alone, table, trained, worst
from dualform.models.architecture import Architecture
from dualform.training.config import FitConfig
from dualform.training.recipe import Recipe

MIXERS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "attention": ("softmax_attention", {"heads": 1, "context": 128}),
    "delta_rule": ("delta_rule", {"heads": 1}),
    "gla": ("gla", {"heads": 1}),
    "gsa": ("gsa", {"heads": 1}),
    "hgrn2": ("hgrn2", {"heads": 1}),
    "hgrn": ("hgrn", {}),
    "mamba": ("mamba", {}),
    "retnet": ("retnet", {"heads": 1}),
    "min_gru": ("min_gru", {}),
}
"""One head of each, as in the paper's figures of state size."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"mixers": ("attention", "delta_rule", "gla", "hgrn2", "hgrn"), "width": 32, "steps": 600, "seeds": 1},
    "full": {"mixers": tuple(MIXERS), "width": 64, "steps": 1500, "seeds": 3},
}
TIME, PAIRS, SIZE, BATCH = 64, 8, 256, 64
ENOUGH = 0.99


def recipe(mixer: str, width: int, steps: int) -> Recipe:
    """A convolution over four tokens, then the mixer, each with a norm and a residual, and no MLP."""
    name, options = MIXERS[mixer]
    return Recipe(
        task="associative-recall",
        settings={"time": TIME, "pairs": PAIRS, "size": SIZE, "batch": BATCH, "held": 1024},
        model=Architecture(("causal_convolution", name), width, 2, "none", "rms", options),
        fit=FitConfig(steps=steps, chunk=steps // 10, warmup=steps // 10, weight_decay=0.1),
    )


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    recipes = {name: recipe(name, grid["width"], grid["steps"]) for name in grid["mixers"]}
    found, failed = trained(workshop, "recall", recipes, grid["seeds"])
    why = (
        f"{TIME} tokens, {PAIRS} pairs, a vocabulary of {SIZE}, width {grid['width']}, {grid['steps']} batches of {BATCH} fresh "
        "sequences. The paper has a vocabulary of 8,192, 100,000 sequences seen 64 times, and plots. Judged is what papers "
        "claim: which mixers recall every pair, and which of two recalls more. So few steps can miss it."
    )
    return Findings(_numbers(found), {"rows": table(found, "accuracy")}, grid["seeds"], why, failed)


def _numbers(found: Mapping[str, Trained]) -> list[Number]:
    solved = "recalls every pair"
    numbers = [
        worst(name, found[name], "accuracy", ENOUGH, solved) for name in ("attention", "delta_rule") if name in found
    ]
    for better, other, claim in (
        ("hgrn2", "hgrn", "HGRN2's larger state recalls more at the same width (arXiv 2404.07904)"),
        ("gsa", "gla", "GSA's softmax over slots recalls more than GLA (arXiv 2409.07146)"),
    ):
        if better in found and other in found:
            numbers.append(above(f"{better} above {other}", found[better], found[other], "accuracy", claim))
    rest = (name for name in found if name not in ("attention", "delta_rule"))
    return [*numbers, *(alone(name, found[name], "accuracy") for name in rest)]


UNKNOWNS: Sequence[tuple[str, str]] = (
    ("learning rate", "of 1e-3 to 1e-2 and beyond, the best on validation data of a seed of its own"),
    ("sizes", "cut for two cores: canonical are a vocabulary of 8,192, widths of 64 to 512 and 64 epochs of 100,000"),
    ("state sizes", "those that the mixers have at this width; they differ, as `dualform mixers` says"),
)

RECALL = Experiment("Associative recall with many queries, at one width", UNKNOWNS, _run)
