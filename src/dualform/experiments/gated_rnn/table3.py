"""Table 3: how many layers of which RNN are a gated RNN, or linear attention: one measured error for each cell."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import jax.random as jr
import numpy as np

from dualform.construct import build
from dualform.construct.layers_needed import table3
from dualform.experiments.gated_rnn.architectures import ARCHITECTURES
from dualform.experiments.reproduction import (
    Experiment,
    Findings,
    Number,
    Workshop,
    at_least,
    at_most,
    diverged,
    ours_alone,
    results_of,
)
from dualform.tasks import Teacher
from dualform.training import Job

LIMIT = 1e-6
"""Largest error of a cell that the paper says can be, in float64: linearised gates end far below it."""

FITS: dict[str, dict[str, Any]] = {
    "quick": {"starts": 3, "steps": 1500, "widths": (16,)},
    "full": {"starts": 5, "steps": 4000, "widths": (16,)},
}
KINDS = (("gru", 1), ("gru", 2), ("lstm", 1), ("lru_out", 2), ("lru_in_out", 1), ("gated_rnn", 1))


def fit_jobs(preset: str) -> list[Job]:
    """GRUs fitted to linear attention from many starts, and the same budget for the others."""
    grid = FITS[preset]
    return [
        Job(
            f"{name}-{layers}_width={width}",
            "dualform.experiments.gated_rnn.architectures:job",
            {
                "architecture": name,
                "layers": layers,
                "width": width,
                "d": 2,
                "steps": grid["steps"],
                "learning_rate": 1e-2,
                "weight_decay": 0.0,
                "seeds": list(range(grid["starts"])),
            },
        )
        for width in grid["widths"]
        for name, layers in KINDS
    ]


def _run(workshop: Workshop, preset: str) -> Findings:
    numbers, curves = [], []
    for row in table3(seed=0):
        cell = f"{row.target} in {row.layers} layer{'s' * (row.layers > 1)} of {row.architecture}"
        what = f"{row.hidden} units, {row.parameters} parameters; {row.float32:.1e} in float32"
        number = at_most(f"{cell}: error in float64", None, row.float64, LIMIT, what)
        numbers.append(replace(number, paper=f"{row.claimed} layer{'s' * (row.claimed > 1)}"))
        curves.append({"cell": cell, **{name: _plain(value) for name, value in asdict(row.curve).items()}})
    certificate = build(Teacher.gaussian(4, key=jr.key(0)).attention, "side_gated").certificate
    numbers.append(
        at_most(
            "linear attention in a side-gated RNN: error in float64",
            None,
            certificate.error,
            1e-12,
            f"exact, nothing is linearised; {certificate.memory_units} units, {certificate.parameters} parameters",
        )
    )
    done, failed = results_of(workshop.sweep("gru", fit_jobs(preset)))
    fits = _fits(done)
    numbers.append(gru_apart(fits))
    for row in fits:
        numbers.append(
            ours_alone(
                f"trained: {ARCHITECTURES[row['architecture']]}, {row['layers']} layer(s), width {row['width']}",
                row["best"],
                f"best relative error of {len(row['errors'])} starts on attention with d = 2, {FITS[preset]['steps']} steps; "
                f"median {np.median(row['errors']):.3g}, worst {max(row['errors']):.3g}",
            )
        )
    why = (
        "An error is ||built(x) - target(x)|| / ||target(x)|| on standard normal tokens, d = 4. GRU's argument: it writes "
        "(1 - z) * n while it keeps z * h, so a unit that keeps everything (z = 1) writes nothing, and one that writes must "
        "forget; a product of two linear functions of the token can be written only through both, at every token. Trained "
        "cells are compared with trained cells, never with constructions, which training does not find for the others "
        "either: what training shows of the GRU is how it compares with the worst of those that are known to be able."
    )
    return Findings(numbers, {"curves": curves, "fits": fits}, FITS[preset]["starts"], why, [*failed, *diverged(done)])


APART = 3.0
"""How much worse than every trained cell that can be attention a trained GRU must be, for training to tell it apart."""


def gru_apart(fits: Sequence[dict[str, Any]]) -> Number:
    """Whether training tells the GRU from the cells that can be attention: its best error over the worst of their best.

    All have the same budget. A cell that can be attention does not pass in the GRU's place: it is no worse than itself.
    """
    gru = min((row["best"] for row in fits if row["architecture"] == "gru"), default=float("nan"))
    others = [row for row in fits if row["architecture"] != "gru"]
    worst = max(others, key=lambda row: row["best"], default=None)
    against = float("nan") if worst is None else worst["best"]
    named = "none" if worst is None else ARCHITECTURES[worst["architecture"]]
    return at_least(
        "GRU (no number of layers): best trained error over that of the worst trained cell that can be attention",
        None,
        gru / against,
        APART,
        f"trained alike, d = 2, best of all starts and layers: GRU {gru:.3g}, the worst other {named} {against:.3g}",
    )


def _fits(done) -> list[dict[str, Any]]:
    return [
        {"architecture": architecture, "layers": layers, "width": width, "errors": errors, "best": min(errors)}
        for (architecture, layers, width), errors in _grouped(done).items()
    ]


def _grouped(done) -> dict[tuple[str, int, int], list[float]]:
    groups: dict[tuple[str, int, int], list[float]] = {}
    for config, result in done:
        loss = result["validation_loss"]
        error = float(f"{np.sqrt(loss):.3g}") if np.isfinite(loss) else float("inf")
        groups.setdefault((config["architecture"], config["layers"], config["width"]), []).append(error)
    return groups


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return np.asarray(value).tolist() if isinstance(value, np.ndarray | tuple | list) else value


TABLE3 = Experiment(
    "Table 3: layers needed to be a gated RNN, or linear attention",
    (
        ("how well a sigmoid must be linearised", f"{LIMIT:g} in float64; the curve of the error is shown"),
        ("how many starts show that a GRU cannot", f"{FITS['full']['starts']} of each kind and width"),
    ),
    _run,
)
