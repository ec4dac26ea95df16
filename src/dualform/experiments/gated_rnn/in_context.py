"""Beyond the paper: the learned learning rate against T and noise, depth against more GD steps, associative recall.

Every training is held to having learned at all: a stack that ends above one step of gradient descent, which one layer of
linear attention is, or that recalls no better than a guess, makes the result differ.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dualform.experiments.gated_rnn.depth_and_recall import Depth, Recall, depth_against_steps, recall_comparison
from dualform.experiments.gated_rnn.regression import Regression, train_regression
from dualform.experiments.reproduction import (
    Experiment,
    Findings,
    Number,
    Workshop,
    as_expected,
    at_least,
    at_most,
    ours_alone,
    results_of,
)
from dualform.training import Job

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {
        "settings": ((4, 0.0), (12, 1.0)),
        "steps": 4000,
        "polish_steps": 1000,
        "depth_steps": 600,
        "recall_steps": 600,
        "seeds": 1,
    },
    "full": {
        "settings": ((4, 0.0), (8, 0.0), (24, 0.0), (12, 0.5), (12, 1.0), (12, 2.0)),
        "steps": 4000,
        "polish_steps": 1000,
        "depth_steps": 4000,
        "recall_steps": 3000,
        "seeds": 3,
    },
}
KINDS = ("rate", "depth", "recall")

LEARNED = 1.05
"""What a stack's loss may be, over that of one optimal step of gradient descent, to have learned the task."""


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One run of one of the three kinds."""
    kind, folder = config["kind"], folder / "run"
    if kind == "rate":
        base = Regression(n=32, m=32, pairs=config["pairs"], noise=config["noise"], validation=2**17)
        # 32 units die of the weight decay that cuts 80 down to size.
        fit = replace(base.fit, steps=config["steps"], weight_decay=0.5)
        polish = replace(base.polish, steps=config["polish_steps"])
        found = train_regression(replace(base, fit=fit, polish=polish, polish_batch=1024), folder)
        return {
            name: found[name] for name in ("rate", "learned_rate", "coefficient_error", "loss", "exact_loss", "gap")
        }
    if kind == "depth":
        base = Depth(seed=config["seed"])
        return depth_against_steps(replace(base, fit=replace(base.fit, steps=config["steps"])), folder)
    base = Recall(seed=config["seed"])
    return recall_comparison(replace(base, fit=replace(base.fit, steps=config["steps"])), folder)


def _jobs(preset: str) -> list[Job]:
    grid, function = GRIDS[preset], "dualform.experiments.gated_rnn.in_context:job"
    steps = {name: grid[name] for name in ("steps", "polish_steps")}
    jobs = [
        Job(f"rate_pairs={pairs}_noise={noise:g}", function, {"kind": "rate", "pairs": pairs, "noise": noise, **steps})
        for pairs, noise in grid["settings"]
    ]
    for seed in range(grid["seeds"]):
        jobs.append(Job(f"depth-{seed}", function, {"kind": "depth", "steps": grid["depth_steps"], "seed": seed}))
        jobs.append(Job(f"recall-{seed}", function, {"kind": "recall", "steps": grid["recall_steps"], "seed": seed}))
    return jobs


def gathered(results: Sequence[dict[str, Any]], of: str, names: Sequence[str], measures: Sequence[str]) -> list[dict]:
    """The same rows of several seeds as one: the names that tell rows apart, and of each measure a list, one for each seed."""
    rows: dict[tuple, dict[str, Any]] = {}
    for result in results:
        for row in result[of]:
            mine = rows.setdefault(tuple(row[n] for n in names), {n: row[n] for n in names} | {m: [] for m in measures})
            for measure in measures:
                mine[measure].append(row[measure])
    return list(rows.values())


def _run(workshop: Workshop, preset: str) -> Findings:
    done, failed = results_of(workshop.sweep("in-context", _jobs(preset)))
    rates = [
        {"pairs": config["pairs"], "noise": config["noise"], **result}
        for config, result in done
        if config["kind"] == "rate"
    ]
    depths = [result for config, result in done if config["kind"] == "depth"]
    recalls = [result for config, result in done if config["kind"] == "recall"]
    numbers = [
        as_expected(
            f"learned learning rate, T = {row['pairs']}, noise {row['noise']:g}",
            row["rate"],
            row["learned_rate"],
            0.03 * row["rate"],
            "3% of 1 / (T + d_x - 1/5 + noise^2 / var W*), the exact optimum (for noise 0 the paper's formula)",
        )
        for row in rates
    ]
    data: dict[str, Any] = {"learning_rates": rates}
    if depths:
        stacks = gathered(depths, "stacks", ("mixer", "layers", "parameters"), ("loss", "standard_error"))
        data["depth"] = {"steps": depths[0]["steps"], "stacks": stacks}
        numbers += depth_numbers(stacks, depths[0]["steps"])
    if recalls:
        mixers = gathered(recalls, "mixers", ("mixer", "parameters"), ("accuracy", "standard_error"))
        data["recall"] = {"chance": recalls[0]["chance"], "mixers": mixers}
        numbers += recall_numbers(mixers, recalls[0]["chance"])
    seeds = GRIDS[preset]["seeds"]
    why = f"Depth and recall: {seeds} seed(s), the worst decides whether a training has learned. Learning rates: one seed each."
    return Findings(numbers, data, seeds, why, failed)


def depth_numbers(stacks: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]]) -> list[Number]:
    """Of each stack, whether the worst seed learned the task, and the losses of all."""
    one, two = (next(step["loss"] for step in steps if step["steps"] == count) for count in (1, 2))
    numbers = []
    for stack in stacks:
        name = f"{stack['layers']} layer(s) of {stack['mixer']}"
        limit = f"the worst seed has learned what one layer of linear attention can; {stack['parameters']} parameters"
        number = at_most(f"loss of {name} over that of one GD step", None, max(stack["loss"]) / one, LEARNED, limit)
        rule = f"best seed {min(stack['loss']):.4f}; 1 GD step {one:.4f}, 2 steps {two:.4f}"
        numbers += [number, ours_alone(f"median loss of {name}", float(np.median(stack["loss"])), rule)]
    return numbers


def recall_numbers(mixers: Sequence[dict[str, Any]], chance: float) -> list[Number]:
    """Of each mixer, the worst seed's accuracy, which must be better than a guess."""
    numbers = []
    for mixer in mixers:
        spread = max(mixer["standard_error"])
        rule = (
            f"above a guess, {chance:.2f}, by five standard errors; best seed {max(mixer['accuracy']):.3f}; "
            f"{mixer['parameters']} parameters"
        )
        name = f"associative recall, accuracy of {mixer['mixer']}, the worst seed"
        numbers.append(at_least(name, None, min(mixer["accuracy"]), chance + 5 * spread, rule))
    return numbers


IN_CONTEXT = Experiment(
    "Beyond the paper: learned learning rates, depth, and associative recall",
    (("everything", "the paper has T = 12 without noise, one layer; its reviewers asked for associative recall"),),
    _run,
    beyond=True,
)
