"""Gated slot attention beside gated linear attention that remembers as many numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from dualform.errors import require
from dualform.experiments.mqar.sized import CUT, RATES, kept, recipe
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, ours_alone
from dualform.experiments.trained import Trained, above, alone, table, trained
from dualform.training.recipe import Recipe

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"heads": (1,), "width": 32, "steps": 600, "seeds": 1},
    "full": {"heads": (4, 2, 1), "width": 64, "steps": 1500, "seeds": 3},
}
"""heads: of GLA, which remembers width^2 / (2 heads) numbers; GSA has one head, and slots for as many."""


def pair(heads: int, width: int, steps: int) -> dict[str, Recipe]:
    """GLA with so many heads, and GSA with slots for as many numbers: it remembers 2 width for each.

    **Raises:** `InputError` where there is no such number of slots.
    """
    gla, slots = recipe("gla", {"heads": heads}, width, steps), width // (4 * heads)
    gsa = recipe("gsa", {"slots": slots}, width, steps)
    require(
        kept(gsa) == kept(gla),
        f"GLA of width {width} and {heads} heads remembers {kept(gla)} numbers, GSA with {slots} slots {kept(gsa)}; take a width "
        "that is a multiple of 4 heads.",
    )
    return {f"gla-state={kept(gla)}": gla, f"gsa-state={kept(gsa)}": gsa}


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    pairs = [pair(heads, grid["width"], grid["steps"]) for heads in grid["heads"]]
    recipes = {name: each for both in pairs for name, each in both.items()}
    found, failed = trained(workshop, "equal-state", recipes, grid["seeds"], RATES)
    why = (
        f"{CUT} Width {grid['width']}, {grid['steps']} batches. Both remember as many numbers, of one layer: GLA a matrix for "
        "each head, GSA a key and a value for each slot. The paper's models have 64 slots for each of 4 heads, and it plots "
        "what they recall. Judged is what it claims: that GSA recalls more with as large a state."
    )
    return Findings(_numbers(found, pairs), {"rows": table(found, "accuracy")}, grid["seeds"], why, failed)


def _numbers(found: Mapping[str, Trained], pairs: Sequence[Mapping[str, Recipe]]) -> list[Number]:
    numbers = []
    for gla, gsa in pairs:
        if gla in found and gsa in found:
            claim = "GSA's softmax over slots recalls more than GLA"
            numbers.append(above(f"{gsa} above {gla}", found[gsa], found[gla], "accuracy", claim))
    for name, each in found.items():
        numbers.append(alone(name, each, "accuracy"))
        numbers.append(ours_alone(f"{name}: parameters", each.results[0]["parameters"], "not held to be as many"))
    return numbers


UNKNOWNS: Sequence[tuple[str, str]] = (
    ("learning rate", "of 3e-3 to 3e-2 and beyond, the best on validation data of a seed of its own"),
    ("sizes", "cut for two cores: canonical are a vocabulary of 8,192, widths of 64 to 512 and 64 epochs of 100,000"),
    ("slots", "as many as make the states alike, with one head; the paper has 64 for each of 4 heads"),
)

EQUAL_STATE = Experiment("Associative recall with states of one size, GSA and GLA", UNKNOWNS, _run)
