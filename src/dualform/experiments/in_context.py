"""Beyond the paper: the learned learning rate against T and noise, depth against more GD steps, associative recall."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dualform.experiments.depth_and_recall import Depth, Recall, depth_against_steps, recall_comparison
from dualform.experiments.regression import Regression, train_regression
from dualform.experiments.reproduction import Experiment, Findings, Workshop, ours_alone, results_of, within
from dualform.training import Job

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {
        "settings": ((4, 0.0), (12, 1.0)),
        "steps": 4000,
        "polish_steps": 1000,
        "depth_steps": 600,
        "recall_steps": 600,
    },
    "full": {
        "settings": ((4, 0.0), (8, 0.0), (24, 0.0), (12, 0.5), (12, 1.0), (12, 2.0)),
        "steps": 4000,
        "polish_steps": 1000,
        "depth_steps": 4000,
        "recall_steps": 3000,
    },
}
KINDS = ("rate", "depth", "recall")


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
        base = Depth()
        return depth_against_steps(replace(base, fit=replace(base.fit, steps=config["steps"])), folder)
    base = Recall()
    return recall_comparison(replace(base, fit=replace(base.fit, steps=config["steps"])), folder)


def _jobs(preset: str) -> list[Job]:
    grid, function = GRIDS[preset], "dualform.experiments.in_context:job"
    steps = {name: grid[name] for name in ("steps", "polish_steps")}
    jobs = [
        Job(f"rate_pairs={pairs}_noise={noise:g}", function, {"kind": "rate", "pairs": pairs, "noise": noise, **steps})
        for pairs, noise in grid["settings"]
    ]
    jobs.append(Job("depth", function, {"kind": "depth", "steps": grid["depth_steps"]}))
    jobs.append(Job("recall", function, {"kind": "recall", "steps": grid["recall_steps"]}))
    return jobs


def _run(workshop: Workshop, preset: str) -> Findings:
    done, failed = results_of(workshop.sweep("in-context", _jobs(preset)))
    rates = [
        {"pairs": config["pairs"], "noise": config["noise"], **result}
        for config, result in done
        if config["kind"] == "rate"
    ]
    found = {config["kind"]: result for config, result in done if config["kind"] != "rate"}
    numbers = [
        within(
            f"learned learning rate, T = {row['pairs']}, noise {row['noise']:g}",
            row["rate"],
            row["learned_rate"],
            0.03 * row["rate"],
            "3% of 1 / (T + d_x - 1/5 + noise^2 / var W*), the exact optimum (for noise 0 the paper's formula)",
        )
        for row in rates
    ]
    if "depth" in found:
        one, two = (next(s["loss"] for s in found["depth"]["steps"] if s["steps"] == k) for k in (1, 2))
        for stack in found["depth"]["stacks"]:
            rule = f"1 GD step {one:.4f}, 2 steps {two:.4f}; {stack['parameters']} parameters"
            numbers.append(ours_alone(f"loss of {stack['layers']} layer(s) of {stack['mixer']}", stack["loss"], rule))
    if "recall" in found:
        for mixer in found["recall"]["mixers"]:
            rule = f"chance {found['recall']['chance']:.2f}; {mixer['parameters']} parameters"
            numbers.append(ours_alone(f"associative recall, accuracy of {mixer['mixer']}", mixer["accuracy"], rule))
    return Findings(numbers, {"learning_rates": rates, **found}, 1, "One seed each.", failed)


IN_CONTEXT = Experiment(
    "Beyond the paper: learned learning rates, depth, and associative recall",
    (("everything", "the paper has T = 12 without noise, one layer; its reviewers asked for associative recall"),),
    _run,
)
