"""Beyond the paper: how width, steps and time grow with the width d of the attention that is to be found."""

from typing import Any

import numpy as np

from dualform.experiments.reproduction import Experiment, Findings, Workshop, diverged, ours_alone, results_of
from dualform.training import Job

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"d": (2, 4), "times": (2.0,), "seeds": 2, "steps": 1000},
    "full": {"d": (2, 3, 4, 6, 8), "times": (1.0, 1.5, 2.0), "seeds": 3, "steps": 3000},
}
"""Students have `times` as many hidden and pre-readout units as the compact construction has hidden ones."""

LOSSES = (1e-1, 1e-2, 1e-3)


def _jobs(preset: str) -> list[Job]:
    grid = GRIDS[preset]
    return [
        Job(
            f"d={d}_width={width}",
            "dualform.experiments.gated_rnn.architectures:job",
            {
                "architecture": "gated_rnn",
                "d": d,
                "width": width,
                "steps": grid["steps"],
                "learning_rate": 1e-2,
                "seeds": list(range(grid["seeds"])),
            },
        )
        for d in grid["d"]
        for width in _widths(d, grid)
    ]


def _widths(d: int, grid: dict[str, Any]) -> list[int]:
    return [round(times * compact_units(d)) for times in grid["times"]]


def compact_units(d: int) -> int:
    """Hidden units of the compact construction: d (d + 1) / 2 key-values and d queries."""
    return d * (d + 1) // 2 + d


def _steps_to(curve: list[float], level: float, steps: int) -> int | None:
    """The first chunk's end at which the mean loss is below `level`; None where it never is."""
    below = np.flatnonzero(np.asarray(curve) < level)
    return int((below[0] + 1) * steps / len(curve)) if len(below) else None


def _needed(widths: list[dict[str, Any]], d: int, level: float) -> int | str:
    """The smallest width of this d with a median loss below `level`."""
    found = [row["width"] for row in widths if row["d"] == d and row["loss"] < level]
    return min(found, default="none of them")


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    done, failed = results_of(workshop.sweep("scaling", _jobs(preset)))
    rows = []
    for d in grid["d"]:
        results = [result for c, result in done if c["d"] == d and c["width"] == 2 * compact_units(d)]
        if not results:
            continue
        reached = {
            f"{level:g}": [_steps_to(result["curve"], level, grid["steps"]) for result in results] for level in LOSSES
        }
        rows.append(
            {
                "d": d,
                "width": 2 * compact_units(d),
                "seeds": len(results),
                "steps_to": reached,
                "first_losses": [float(f"{result['validation_loss']:.3g}") for result in results],
                "milliseconds": float(f"{1000 * np.mean([r['seconds'] for r in results]) / grid['steps']:.3g}"),
            }
        )
    numbers = [
        ours_alone(
            f"d = {row['d']}, n = m = {row['width']}: median loss after {grid['steps']} steps",
            float(np.median(row["first_losses"])),
            f"steps to {LOSSES[1]:g}: {row['steps_to'][f'{LOSSES[1]:g}']}; {row['milliseconds']} ms a step and seed",
        )
        for row in rows
    ]
    widths = [
        {"d": d, "width": width, "loss": float(f"{np.median(losses):.3g}")}
        for d in grid["d"]
        for width in _widths(d, grid)
        if (losses := [r["validation_loss"] for c, r in done if (c["d"], c["width"]) == (d, width)])
    ]
    for d in grid["d"] if len(grid["times"]) > 1 else ():
        numbers.append(
            ours_alone(
                f"d = {d}: smallest of the widths whose median loss is below {LOSSES[1]:g}",
                _needed(widths, d, LOSSES[1]),
                f"of {', '.join(map(str, _widths(d, grid)))}; the compact construction has {compact_units(d)}",
            )
        )
    why = (
        "Students are trained by AdamW alone; steps and times are of those with twice the compact construction's units. "
        "Milliseconds are a wall clock beside other jobs, compilation included: an order of magnitude."
    )
    return Findings(numbers, {"rows": rows, "widths": widths}, grid["seeds"], why, [*failed, *diverged(done)])


SCALING = Experiment(
    "Beyond the paper: scaling with the width of the attention",
    (("everything", "the paper has d = 4 and d = 6 alone"),),
    _run,
    beyond=True,
)
