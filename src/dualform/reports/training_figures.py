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

MANY_TIMES = 3


def curves(groups: Mapping[str, Sequence[Outcome]], best_step: int | None = None) -> Figure:
    """The training loss, then each score on what is held out, against steps.

    A line is the mean over the seeds that have come so far, its band goes from the least to the most of them.

    **Arguments:** groups: trainings that differ in their seed, by what stands in the legend, at most `MOST` of them.
    best_step: at which a mark is drawn.
    """
    lines = [line for outcomes in groups.values() for outcome in outcomes for line in outcome.lines]
    scores = dict.fromkeys(name for line in lines for name in line.held_out)
    names = ["", *sorted(scores, key=lambda name: name != "loss")]
    columns = 2 if len(names) == 4 else min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(10 if columns > 1 else 5, 2.9 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, groups, name)
        if best_step is not None and name == "loss":
            axes.axvline(best_step, color=INK, lw=0.8, ls=":")
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    legend = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if len(legend) > 1:
        figure.legend(legend.values(), legend, loc="outside lower left", ncols=2, fontsize=7, frameon=False)
    return figure


def _panel(axes, groups: Mapping[str, Sequence[Outcome]], name: str) -> None:
    """One score; the losses on a logarithmic axis where the most is many times the least."""
    values = []
    for (label, outcomes), look in zip(groups.items(), looks(), strict=False):
        steps, low, middle, high = over_seeds([outcome.lines for outcome in outcomes], name)
        if not len(steps):
            continue
        axes.plot(steps, middle, label=plain(label), lw=1.2, marker=".", ms=3, **look)
        if (high > low).any():
            axes.fill_between(steps, low, high, color=look["color"], alpha=0.15, lw=0)
        values += [low.min(), high.max()]
    if name in ("", "loss") and values and 0 < MANY_TIMES * min(values) < max(values):
        axes.set_yscale("log")
    style(axes, f"held out: {plain(name)}" if name else "training loss", "step")


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
