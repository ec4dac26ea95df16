"""HGRN2 beside HGRN: a state that is larger by an outer product, and costs no parameters, recalls more."""

from collections.abc import Mapping, Sequence
from typing import Any

from dualform.experiments.mqar.sized import CUT, PARAMETERS, RATES, apart, kept, recipe
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_most
from dualform.experiments.trained import Trained, above, alone, table, trained

MODELS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "hgrn": ("hgrn", {}),
    "hgrn2-heads=8": ("hgrn2", {"heads": 8}),
    "hgrn2-heads=4": ("hgrn2", {"heads": 4}),
    "hgrn2-heads=2": ("hgrn2", {"heads": 2}),
    "hgrn2-heads=1": ("hgrn2", {"heads": 1}),
}
"""By the size of the state: of HGRN it is the width, of HGRN2 width^2 / heads, with as many parameters whatever the heads."""

SMALL, MIDDLE, LARGE = "hgrn", "hgrn2-heads=4", "hgrn2-heads=1"
GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"models": (SMALL, MIDDLE, LARGE), "width": 32, "steps": 600, "seeds": 1},
    "full": {"models": tuple(MODELS), "width": 64, "steps": 1500, "seeds": 3},
}


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    recipes = {name: recipe(*MODELS[name], grid["width"], grid["steps"]) for name in grid["models"]}
    sizes = {name: kept(each) for name, each in recipes.items()}
    found, failed = trained(workshop, "state-expansion", recipes, grid["seeds"], RATES)
    why = (
        f"{CUT} Width {grid['width']}, {grid['steps']} batches. The paper plots larger models. Judged is what it "
        "claims: that HGRN2 recalls more than HGRN with as many parameters, since its state is larger; beside it, that a larger "
        "state of HGRN2 recalls more than a smaller one. States are of one layer."
    )
    rows = [{**row, "state": sizes[row["model"]]} for row in table(found, "accuracy")]
    return Findings(_numbers(found, sizes), {"rows": rows}, grid["seeds"], why, failed)


def _numbers(found: Mapping[str, Trained], sizes: Mapping[str, int]) -> list[Number]:
    numbers = []
    for better, other, claim in (
        (LARGE, SMALL, "HGRN2 recalls more than HGRN"),
        (LARGE, MIDDLE, "the larger state of HGRN2 recalls more"),
    ):
        if better in found and other in found:
            what, said = f"{better} above {other}", f"{claim}; states of {sizes[better]} and {sizes[other]} numbers"
            numbers.append(above(what, found[better], found[other], "accuracy", said))
            share = apart(found[better], found[other])
            as_many = f"{better} and {other}: parameters apart, as a share"
            numbers.append(at_most(as_many, None, share, PARAMETERS, "as many parameters"))
    return [*numbers, *(alone(f"{name}, {sizes[name]} numbers", found[name], "accuracy") for name in found)]


UNKNOWNS: Sequence[tuple[str, str]] = (
    ("learning rate", "of 3e-3 to 3e-2 and beyond, the best on validation data of a seed of its own"),
    ("sizes", "cut for two cores: canonical are a vocabulary of 8,192, widths of 64 to 512 and 64 epochs of 100,000"),
    ("HGRN", "the real one, without rotation, as in the public code that is in use"),
)

STATE_EXPANSION = Experiment("Associative recall by the size of the state, with as many parameters", UNKNOWNS, _run)
