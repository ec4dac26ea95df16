"""Which attribution finds the token that an answer came from? Methods by rank and by perturbation, with the chance line.

A model is trained on associative recall: pairs of a key and a value are shown, one a token, then a key is asked for. The true
source of an answer is the pair with that key, so a method can be right or wrong. Only questions that the model answers rightly
count. The token that asks is left out of the ranking, and stays in every perturbation.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from dualform.dual.attribution import METHODS, attribute, perturbation_curves
from dualform.experiments.reproduction import (
    Experiment,
    Findings,
    Number,
    Workshop,
    at_least,
    at_most,
    ours_alone,
    results_of,
)
from dualform.mixers import registry
from dualform.models import Block, RMSNorm, SequenceModel
from dualform.tasks import AssociativeRecall, recall_loss
from dualform.training import FitConfig, Job, Run, fit

AREAS = ("positive", "negative", "pruning")
"""What `perturbation_curves` measures: low, high and low are good."""
RANDOM = "random order"

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"mixers": ("gla",), "layers": 2, "d": 32, "steps": 1500, "cases": 20, "orders": 10},
    "full": {"mixers": ("gla", "mamba", "rg_lru"), "layers": 2, "d": 32, "steps": 3000, "cases": 100, "orders": 10},
}


class Case(NamedTuple):
    """A question: the tokens, the target as of `attribute`, and the place of the true source."""

    x: Any
    target: tuple[int, ...]
    source: int


def recall_model(mixer: str, task: AssociativeRecall, layers: int, d: int, key: Array) -> SequenceModel:
    """Blocks of a registered mixer and a SwiGLU, in float32."""
    keys = jr.split(key, layers + 2)
    make = lambda key: registry()[mixer](d, key=key, dtype=jnp.float32)
    blocks = tuple(Block.make(make(key), key=key, mlp="swiglu", dtype=jnp.float32) for key in keys[2:])
    norm = RMSNorm.make(d, dtype=jnp.float32)
    return SequenceModel.make(blocks, task.d, task.vocabulary, key=keys[0], norm=norm, dtype=jnp.float32)


def recall_cases(model: Any, task: AssociativeRecall, count: int, key: Array) -> tuple[list[Case], float]:
    """Fresh questions that the model answers rightly, at most so many, and its accuracy."""
    x, y = AssociativeRecall(task.vocabulary, task.pairs, batch=2 * count).sample(key)
    x = x.astype(jnp.float32)
    answers = np.asarray(jnp.argmax(eqx.filter_jit(jax.vmap(lambda x: model(x)[0][-1]))(x), axis=1))
    asked = np.asarray(x[:, -1, : task.d // 2])
    sources = np.argmax(np.einsum("btk,bk->bt", np.asarray(x[:, :-1, : task.d // 2]), asked), axis=1)
    right = np.flatnonzero(answers == np.asarray(y))[:count]
    cases = [Case(x[i], (task.pairs, int(y[i])), int(sources[i])) for i in right]
    return cases, float(np.mean(answers == np.asarray(y)))


def measure(model: Any, cases: Sequence[Case], methods: Sequence[str], orders: int) -> dict[str, Any]:
    """For each method, the share of cases whose true source it ranks first, and the mean areas; and those of random orders."""
    found: dict[str, Any] = {}
    for method in methods:
        begin, first, areas, residuals = time.perf_counter(), [], [], []
        for case in cases:
            got = attribute(model, case.x, case.target, method)
            others = [s for s in got.ranking() if s != case.target[0]]
            first.append(others[0] == case.source)
            areas.append([getattr(perturbation_curves(model, case.x, case.target, got.scores), a) for a in AREAS])
            residuals.append(got.residual)
        found[method] = {
            "first": float(np.mean(first)),
            **dict(zip(AREAS, np.mean(areas, axis=0).tolist(), strict=True)),
            "seconds": (time.perf_counter() - begin) / len(cases),
        }
        if residuals[0] is not None:
            found[method]["residual"] = float(max(residuals))
    draws = np.array([_random(model, cases, order) for order in range(orders)])
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    found[RANDOM] = dict(zip(("first", *AREAS), draws.mean(0).tolist(), strict=True)) | {
        f"{name} interval": [float(a), float(b)] for name, a, b in zip(("first", *AREAS), low, high, strict=True)
    }
    return found


def _random(model: Any, cases: Sequence[Case], seed: int) -> list[float]:
    """The same numbers of scores drawn at random, for all cases."""
    rng, rows = np.random.default_rng(seed), []
    for case in cases:
        scores = rng.permutation(len(case.x)).astype(float)
        others = [s for s in np.argsort(-scores) if s != case.target[0]]
        curves = perturbation_curves(model, case.x, case.target, scores)
        rows.append([float(others[0] == case.source), *(getattr(curves, a) for a in AREAS)])
    return np.mean(rows, axis=0).tolist()


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One model: trained, then asked for the source of fresh answers by every method."""
    task, seed, steps = AssociativeRecall(vocabulary=16, pairs=8), config["seed"], config["steps"]
    weights, fresh = (jr.key(seed + 2**i) for i in (20, 21))  # apart from the seed of the training data
    model = recall_model(config["mixer"], task, config["layers"], config["d"], weights)
    settings = FitConfig(
        steps=steps,
        chunk=min(250, steps),
        warmup=steps // 20,
        learning_rate=3e-3,
        final_learning_rate=0.0,
        weight_decay=0.0,
        clip=float("inf"),
        seed=seed,
    )
    run = Run.create(folder / "run", config)
    fitted = fit(model, task.sample, settings, loss=recall_loss, run=run)
    if fitted.status == "interrupted":
        raise KeyboardInterrupt
    cases, accuracy = recall_cases(fitted.model, task, config["cases"], fresh)
    methods = measure(fitted.model, cases, METHODS, config["orders"]) if cases else {}
    return {
        "accuracy": accuracy,
        "cases": len(cases),
        "train_loss": fitted.history[-1]["loss"],
        "seconds": fitted.seconds,
        "methods": methods,
    }


def _run(workshop: Workshop, preset: str) -> Findings:
    grid, function = GRIDS[preset], "dualform.experiments.implicit_attention.faithfulness:job"
    sizes = {name: grid[name] for name in ("layers", "d", "steps", "cases", "orders")} | {"seed": 0}
    jobs = [Job(mixer, function, {"mixer": mixer, **sizes}) for mixer in grid["mixers"]]
    done, failed = results_of(workshop.sweep("faithfulness", jobs))
    found = {config["mixer"]: result for config, result in done}
    numbers = [number for mixer, result in found.items() for number in _numbers(mixer, result)]
    why = (
        f"{grid['layers']} blocks of width {grid['d']}, {grid['steps']:,} steps on associative recall of 8 pairs; up to "
        f"{grid['cases']} fresh questions that the model answers rightly. Areas are of the curves of `perturbation_curves`: "
        f"positive (low is good), negative (high), pruning (low); random orders: the mean and 95% of {grid['orders']}."
    )
    return Findings(numbers, found, 1, why, failed)


def _numbers(mixer: str, result: Mapping[str, Any]) -> list[Number]:
    """The exact sum beside the paper's gradient-weighted maps and the rest, on one model."""
    said = f"{result['cases']} questions; {result['accuracy']:.1%} of all are answered rightly"
    if not result["methods"]:
        return [Number(f"{mixer}: answers", None, result["accuracy"], f"some are right: {said}", "differs")]
    exact, chance = result["methods"]["exact"], result["methods"][RANDOM]
    numbers = [
        at_most(
            f"{mixer}: residual of the exact sum, the worst question",
            None,
            exact["residual"],
            1e-5,
            "rounding in float32",
        ),
        at_least(
            f"{mixer}: exact, true source ranked first",
            None,
            exact["first"],
            chance["first interval"][1],
            f"more than 97.5% of random orders; {said}",
        ),
    ]
    for method, row in result["methods"].items():
        areas = ", ".join(f"{area} {row[area]:.3f}" for area in AREAS)
        if method != "exact":
            numbers.append(ours_alone(f"{mixer}: {method}, true source ranked first", row["first"], areas))
        else:
            numbers.append(ours_alone(f"{mixer}: exact, areas", areas, "as of the other methods below"))
    return numbers


UNKNOWNS: Sequence[tuple[str, str]] = (
    ("the data", "associative recall, whose true source is known; the paper perturbs ImageNet and IMDB, whose is not"),
    ("the models", "small ones trained here; the paper has Mamba of 130 million parameters and RWKV of 430 million"),
)

FAITHFULNESS = Experiment("Which attribution finds the source of an answer", UNKNOWNS, _run, beyond=True)
