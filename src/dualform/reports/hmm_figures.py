"""Pictures of hidden Markov models: how long a sequence a network fits, and beliefs as a triangle."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dualform.experiments.hmm.networks import blocks_of
from dualform.reports.figures import INK, style
from dualform.reports.series import MARKERS, PALETTE

SIDE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
"""Where the three states are."""


def fit_lengths(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """The length that is fitted against depth, a panel for each family, with the line of 2^depth."""
    rows = data.get("rows") or []
    families = list(dict.fromkeys(row["family"] for row in rows))
    if not families:
        return None
    columns = min(3, len(families))
    lines = -(-len(families) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.2 * lines))
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, family in zip(grid, families, strict=False):
        _family(axes, [row for row in rows if row["family"] == family], int(data["time"]))
        style(axes, family, "blocks of attention", "tokens fitted")
    for axes in grid[len(families) :]:
        axes.set_axis_off()
    figure.tight_layout()
    text = (
        "How many tokens are fitted: from the beginning on, while the mean distance from the exact belief is at most 0.05. The "
        "line is 2^depth, cut at the length of the sequences; hollow markers have block chain of thought; levels across are "
        "networks that are no transformers."
    )
    return figure, text


def _family(axes: Any, rows: Sequence[Mapping[str, Any]], time: int) -> None:
    shapes = {row["model"]: blocks_of(row["model"]) for row in rows}
    length = {row["model"]: float(np.mean(row["fitted"])) for row in rows}
    plain = sorted(name for name, (layers, block) in shapes.items() if layers and not block)
    depths = [shapes[name][0] for name in plain]
    if depths:
        axes.plot(
            depths, [length[name] for name in plain], color=PALETTE[0], marker="o", ms=5, lw=1.2, label="attention"
        )
        every = np.linspace(min(depths), max(depths), 50)
        axes.plot(every, np.minimum(2**every, time), color=INK, ls=":", lw=1.0, label="2^depth")
    others = iter(zip(PALETTE[1:] * 2, MARKERS[1:] * 2, strict=True))
    for name, (layers, block) in shapes.items():
        if layers and not block:
            continue
        colour, marker = next(others)
        if block:
            look = {"marker": marker, "mfc": "none", "ms": 7, "ls": "none"}
            axes.plot([layers], [length[name]], color=colour, label=f"CoT every {block}", **look)
        else:
            axes.axhline(length[name], color=colour, lw=1.0, ls="--", label=name)
    axes.set_ylim(0, time + 1)
    axes.legend(fontsize=6, frameon=False)


def simplex(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """Beliefs of three states as places in a triangle: the exact ones, and those read out of each network."""
    drawn = data.get("drawn") or {}
    if "exact" not in drawn:
        return None
    exact = np.asarray(drawn["exact"], np.float64)
    colours = np.clip(exact, 0, 1)
    figure = Figure(figsize=(3.0 * len(drawn), 3.0))
    names = ["exact", *(name for name in drawn if name != "exact")]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        places = np.asarray(drawn[name], np.float64) @ SIDE
        axes.plot(*SIDE[[0, 1, 2, 0]].T, color=INK, lw=0.6)
        axes.scatter(*places.T, c=colours, s=5, lw=0)
        axes.set_title(name, fontsize=8)
        axes.set_aspect("equal")
        axes.set_axis_off()
    figure.tight_layout()
    text = (
        "Beliefs of the three states of a random model at tokens of the test, each a place in the triangle, a corner for each "
        "state. Left the exact ones; then what a ridge regression reads out of networks that were trained to foretell the next "
        "observation alone. A token has the colour of its exact belief in all of them."
    )
    return figure, text
