"""Beliefs inside of networks that were only asked for the next observation: read out linearly, and drawn as a triangle."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.experiments.hmm.networks import (
    GIVEN,
    LINEAR,
    Size,
    hidden_states,
    model_of,
    recipe,
    task_of,
    tokens_of,
    trained_at,
)
from dualform.experiments.hmm.readout import explained, ridge
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_least, at_most, ours_alone
from dualform.experiments.trained import table
from dualform.training.recipe import Recipe

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"models": ("gru", "transformer-2"), "size": Size(32, 24, 1200), "seeds": 1, "rate": GIVEN},
    "full": {
        "models": ("gru", "tanh_rnn", "lstm", "transformer-1", "transformer-2", "transformer-4", *LINEAR),
        "size": Size(32, 32, 4000),
        "seeds": 3,
        "rate": None,
    },
}
FAMILY, OBSERVATIONS = "random", 3
ENOUGH, NOTHING = 0.9, 0.05
DRAWN = 600
"""Tokens that are drawn."""


def readings(
    told: Recipe, model: Any
) -> tuple[float, float, Float[np.ndarray, "row state"], Float[np.ndarray, "row state"]]:
    """R^2 of a ridge regression from states to exact beliefs, that of shuffled beliefs, and what is read, beside what is exact.

    The regression is fitted on the sequences of validation and judged on those of the test. The control's beliefs are those of
    other tokens, in an order drawn at random, in both.
    """
    task = task_of(told)
    (x, y), (test_x, test_y) = (tokens_of(task, split) for split in ("validation", "test"))
    rows = lambda a: a.reshape(-1, a.shape[-1])
    seen, test = (rows(hidden_states(model, each)) for each in (x, test_x))
    y, test_y = rows(y), rows(test_y)
    random = np.random.default_rng(0)
    mixed, test_mixed = random.permutation(y), random.permutation(test_y)
    read = ridge(seen, y)(test)
    return explained(read, test_y), explained(ridge(seen, mixed)(test), test_mixed), read, test_y


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    recipes = {name: recipe(name, FAMILY, grid["size"], "next", OBSERVATIONS) for name in grid["models"]}
    found, failed = trained_at(workshop, "beliefs", recipes, grid["seeds"], grid["rate"])
    rows, drawn = [], {}
    for row in table(found, "distance"):
        name, each = row["model"], found[row["model"]]
        told = recipes[name]
        read = [readings(told, model_of(workshop, "beliefs", name, each, seed)) for seed in range(len(each.results))]
        fresh = readings(told, told.make_model(task_of(told)))
        rows.append(
            row | {"explained": [one[0] for one in read], "shuffled": [one[1] for one in read], "untrained": fresh[0]}
        )
        drawn[name] = np.round(read[0][2][:DRAWN], 4).tolist()
        drawn["exact"] = np.round(read[0][3][:DRAWN], 4).tolist()
    size = grid["size"]
    why = (
        f"A random model of {size.states} states and {OBSERVATIONS} observations; networks are trained to foretell the next "
        f"observation, {size.steps:,} batches of 32 sequences of {size.time} tokens, and never see a belief. Then a ridge "
        "regression from what the last layer gives to the exact belief is fitted on the sequences of validation, and judged on "
        "those of the test. The paper trains beliefs and reads none out; the picture is that of Shai et al. 2024 (arXiv "
        "2405.15943)."
    )
    return Findings(numbers_of(rows), {"rows": rows, "drawn": drawn}, grid["seeds"], why, failed)


def numbers_of(rows: Sequence[Mapping[str, Any]]) -> list[Number]:
    """R^2 of each model, of its control, and of the untrained model."""
    numbers = []
    for row in rows:
        name, least = row["model"], min(row["explained"])
        numbers += [
            at_least(f"{name}: R^2 of the belief, the worst seed", None, least, ENOUGH, "linear in the state, nearly"),
            at_most(
                f"{name}: R^2 of shuffled beliefs", None, max(row["shuffled"]), NOTHING, "the control: nothing to read"
            ),
            ours_alone(f"{name}, untrained: R^2 of the belief", row["untrained"], "what random weights tell of it"),
        ]
    return numbers


UNKNOWNS: Sequence[tuple[str, str]] = (
    ("the probe", "ours: ridge regression in closed form, on the outputs of the last layer before the readout"),
    (
        "what is trained",
        "the next observation; the paper also trains the belief itself, which has to be in the outputs then",
    ),
)

BELIEFS = Experiment("Beliefs read out of trained networks", UNKNOWNS, _run, beyond=True)
