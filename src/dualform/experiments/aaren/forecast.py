"""Forecasts of ETTh1: Aaren beside a transformer of its width and depth, a linear map, and the last week said again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.experiments.mqar.sized import kept
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_most, ours_alone
from dualform.experiments.tpgn.etth1 import ETTH1
from dualform.experiments.trained import Trained, counted, table, trained
from dualform.models.architecture import Architecture
from dualform.tasks import Forecast
from dualform.training.config import FitConfig
from dualform.training.recipe import Recipe

PAST = HORIZON = 168
"""Hours: a week."""

MODELS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "aaren": ("aaren", {"heads": 1}),
    "transformer": ("softmax_attention", {"heads": 1, "context": PAST}),
}
GRIDS: dict[str, dict[str, int]] = {
    "quick": {"width": 32, "layers": 2, "steps": 300, "seeds": 1},
    "full": {"width": 64, "layers": 2, "steps": 2000, "seeds": 5},
}
SETTINGS = {"past": PAST, "horizon": HORIZON, "column": "OT", "stride": 8, "batch": 16}
COMPARABLE = 1.1
"""The error of Aaren over the transformer's, at most: the paper calls the two comparable."""


def recipe(model: str, width: int, layers: int, steps: int, data: Path) -> Recipe:
    """Blocks with MLPs on values and the marks of their times; the forecast is read behind the last hour."""
    name, options = MODELS[model]
    return Recipe(
        task="forecast",
        data=str(data),
        settings=SETTINGS,
        model=Architecture((name,), width, layers, "swiglu", "rms", options),
        fit=FitConfig(steps=steps, chunk=steps // 10, warmup=steps // 10, weight_decay=0.1),
    )


def without_network(task: Forecast) -> dict[str, float]:
    """Mean squared errors, over the test's windows, of the last week said again and of the best linear map of the past.

    The map has a bias, and is the least squares of all windows of the training part, without marks.
    """
    batches = [task.as_read(*task.train), *task.held_out("test")]
    (x, y), *tests = [(np.asarray(x[..., 0], np.float64), np.asarray(y, np.float64)) for x, y in batches]
    weights, *_ = np.linalg.lstsq(_with_one(x), y, rcond=None)
    past, future = (np.concatenate(parts) for parts in zip(*tests, strict=True))
    error = lambda forecast: float(np.mean((forecast - future) ** 2))
    return {"last week": error(past[:, -HORIZON:]), "linear": error(_with_one(past) @ weights)}


def _with_one(x: Float[np.ndarray, "window past"]) -> Float[np.ndarray, "window past+1"]:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _run(workshop: Workshop, preset: str, data: Path) -> Findings:
    grid = GRIDS[preset]
    recipes = {name: recipe(name, grid["width"], grid["layers"], grid["steps"], data.resolve()) for name in MODELS}
    found, failed = trained(workshop, "forecast", recipes, grid["seeds"])
    others = without_network(Forecast.open(data, **SETTINGS))
    why = (
        f"The oil temperature of {HORIZON} hours from that of {PAST}, {grid['layers']} blocks of width {grid['width']}, "
        f"{grid['steps']} batches of {SETTINGS['batch']} windows. Errors are of the series at mean 0 and variance 1 of its "
        f"training part, over every {SETTINGS['stride']}th window of the test. The paper has other models around the mixers and "
        "many data sets; judged is what it claims of them, that Aaren is comparable to the transformer. Beside them stands what "
        "needs no network."
    )
    states = {name: kept(each) for name, each in recipes.items()}
    return Findings(_numbers(found, others, states), {"rows": table(found, "loss")}, grid["seeds"], why, failed)


def _numbers(found: Mapping[str, Trained], others: Mapping[str, float], states: Mapping[str, int]) -> list[Number]:
    errors = {name: mean(each.scores("loss")) for name, each in found.items()}
    numbers = []
    if {"aaren", "transformer"} <= errors.keys():
        ratio, why = errors["aaren"] / errors["transformer"], "comparable, as the paper says; of the means over seeds"
        numbers.append(at_most("MSE of Aaren over the transformer's", None, ratio, COMPARABLE, why))
    if "aaren" in errors:
        why = "less than that of the last week said again, else nothing was learnt"
        numbers.append(at_most("Aaren: MSE, the mean of seeds", None, errors["aaren"], others["last week"], why))
    for name, each in found.items():
        scores, absolute = each.scores("loss"), mean(each.scores("absolute"))
        said = (
            f"{counted(scores)}, from {min(scores):.4f} to {max(scores):.4f}; absolute error {absolute:.4f}; learning rate "
            f"{each.rate:g}{'' if each.inside else ', at the edge of those tried'}"
        )
        numbers.append(ours_alone(f"{name}: MSE, the mean of seeds", mean(scores), said))
        numbers.append(ours_alone(f"{name}: parameters", each.results[0]["parameters"], "as wide and as deep"))
        numbers.append(
            ours_alone(f"{name}: numbers remembered", states[name], f"of one layer, after {PAST} hours or more")
        )
    return [*numbers, *(ours_alone(f"{name}: MSE", error, "no network") for name, error in others.items())]


UNKNOWNS: Sequence[tuple[str, str]] = (
    ("learning rate", "of 1e-3 to 1e-2 and beyond, the best on validation data of a seed of its own"),
    ("the model", "two blocks of Llama's kind, read behind the last hour"),
    ("the transformer's positions", "rotary; Aaren has none, and reads the marks of times, as both do"),
    ("parameters", "the transformer has a query map that Aaren has not: more, at equal width and depth"),
)

FORECAST = Experiment("ETTh1, 168 hours to 168, Aaren beside a transformer", UNKNOWNS, _run, needs=(ETTH1,))
