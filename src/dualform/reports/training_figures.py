"""The curves of trainings: losses and scores on what is held out, by step; a line for each group, a band over its seeds."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from dualform.reports.figures import INK, style
from dualform.reports.series import PALETTE
from dualform.training.outcome import Line, Outcome

MOST = 16
"""Groups in one picture; more could not be told apart."""


def curves(groups: Mapping[str, Sequence[Outcome]], best_step: int | None = None) -> Figure:
    """The training loss, then each score on what is held out, against steps.

    A line is the mean over the seeds that have come so far, its band goes from the least to the most of them.

    **Arguments:** groups: trainings that differ in their seed, by what stands in the legend, at most `MOST` of them.
    best_step: at which a mark is drawn.
    """
    lines = [line for outcomes in groups.values() for outcome in outcomes for line in outcome.lines]
    names = list(dict.fromkeys(name for line in lines for name in line.held_out))
    figure = Figure(figsize=(4.2 * (1 + len(names)), 3.4), layout="constrained")
    panels = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    for axes, name in zip(panels, ["", *names], strict=True):
        lowest = np.inf
        for (label, outcomes), look in zip(groups.items(), looks(), strict=False):
            steps, low, middle, high = over_seeds([outcome.lines for outcome in outcomes], name)
            if not len(steps):
                continue
            axes.plot(steps, middle, label=plain(label), lw=1.2, marker=".", ms=3, **look)
            if (high > low).any():
                axes.fill_between(steps, low, high, color=look["color"], alpha=0.15, lw=0)
            lowest = min(lowest, float(low.min()))
        if name in ("", "loss") and 0 < lowest < np.inf:
            axes.set_yscale("log")
        if best_step is not None and name == "loss":
            axes.axvline(best_step, color=INK, lw=0.8, ls=":")
        style(axes, f"held out: {plain(name)}" if name else "training loss", "step")
    handles, labels = panels[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower left", ncols=2, fontsize=7, frameon=False)
    return figure


def over_seeds(seeds: Sequence[Sequence[Line]], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, and at each the least, the mean and the most over the seeds that have come so far; what is not finite is left out.

    **Arguments:** name: of a score on what is held out; "" for the training loss.
    """
    at: dict[int, list[float]] = {}
    for lines in seeds:
        for line in lines:
            value = line.held_out.get(name, np.nan) if name else line.loss
            if np.isfinite(value):
                at.setdefault(line.step, []).append(value)
    steps = sorted(at)
    values = [np.asarray(at[step], np.float64) for step in steps]
    of = lambda function: np.array([function(each) for each in values])
    return np.array(steps), of(np.min), of(np.mean), of(np.max)


def looks():
    """A colour and a line for each group, one after the other."""
    lines = [line for line in ("-", "--", ":", "-.") for _ in PALETTE]
    return ({"color": colour, "ls": line} for colour, line in zip(cycle(PALETTE), cycle(lines), strict=False))


def plain(text: str) -> str:
    """A text in a picture: no sign of mathematics in it, and no letter that the picture's font may lack."""
    return text.encode("ascii", "replace").decode().replace("\\", "/").replace("$", r"\$")
