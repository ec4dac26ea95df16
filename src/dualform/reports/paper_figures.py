"""The paper's figures, and pictures of its tables, redrawn from the `data` of a record of `dualform reproduce`.

`figures_of` is the way in; tables and what goes beyond the paper are drawn in `paper_tables`. An architecture has one colour
and one marker in every picture, of Okabe and Ito's palette: no two are told apart by colour alone.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure

from dualform.experiments.gated_rnn.architectures import ARCHITECTURES
from dualform.reports.figures import INK, OTHER, kernels, matrix, style, weight_matrices
from dualform.reports.hmm_figures import fit_lengths, simplex
from dualform.reports.paper_tables import beyond, fits, layers, lstm_gates, regression, scaling, scores
from dualform.reports.series import LOOKS, MARKERS, PALETTE, finite, mean_and_range, ticks_at
from dualform.reports.steering_figure import share_against_cost

Drawn: TypeAlias = tuple[Figure, str]
_LOG = logging.getLogger(__name__)


def figures_of(record: Mapping[str, Any]) -> list[Drawn]:
    """The pictures of one record, each with a caption, in the paper's order.

    A result that has no picture, or whose data lack what a picture needs, gives none; what is missing goes to the log.
    """
    drawn = []
    for draw in DRAWINGS.get(str(record.get("paper")), {}).get(str(record.get("name")), ()):
        try:
            picture = draw(record.get("data") or {})
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            _LOG.warning("%s: a picture is left out, its data lack something (%r).", record.get("name"), error)
            continue
        if picture is not None:
            drawn.append(picture)
    return drawn


def construction(form: str) -> Callable[[Mapping[str, Any]], Drawn | None]:
    """Fig. 1: how to draw one construction's weights."""

    def draw(data: Mapping[str, Any]) -> Drawn | None:
        if form not in data:
            return None
        hidden, readout = len(data[form]["decay"]), len(data[form]["w_m_out"])
        text = (
            f"The {form} construction of one Gaussian attention of width 4: {hidden} hidden and {readout} pre-readout units. "
            "Blue is positive, red negative, each matrix on its own scale; decays are black at 1 and white at 0. The last "
            "column of the input gates reads the 1 that is appended to the token."
        )
        return weight_matrices(data[form], f"{form} construction"), text

    return draw


def student_weights(data: Mapping[str, Any]) -> Drawn | None:
    """Fig. 2A: the weights of the student that identified its teacher."""
    if "decay" not in data:
        return None
    text = (
        f"A: the reduced student, {len(data['decay'])} hidden and {len(data['w_m_out'])} pre-readout units. Blue is positive, "
        "red negative, each matrix on its own scale; decays are black at 1 and white at 0. Units at 1 come first."
    )
    return weight_matrices(data, "student"), text


def teacher_weights(data: Mapping[str, Any]) -> Drawn | None:
    """Fig. 2B: the attention that was identified."""
    if "teacher" not in data:
        return None
    figure = Figure(figsize=(6, 2.2))
    for axes, (name, text) in zip(
        figure.subplots(1, 3), (("w_v", "$W_V$"), ("w_k", "$W_K$"), ("w_q", "$W_Q$")), strict=True
    ):
        matrix(axes, data["teacher"][name], text)
    figure.tight_layout()
    return figure, "B: the teacher's value, key and query matrices, each on its own scale."


def student_kernels(data: Mapping[str, Any]) -> Drawn | None:
    """Fig. 2C: what each output multiplies."""
    if "kernels" not in data:
        return None
    memory = int(np.sum(np.asarray(data["decay"]) > 0.99))
    text = (
        "C: each output as a quadratic form in the hidden state, units at 1 before the line and units at 0 after it. Only "
        "memory times query, the off-diagonal blocks, is used."
    )
    return kernels(np.asarray(data["kernels"], np.float64), memory), text


def identification(data: Mapping[str, Any]) -> Drawn | None:
    """Fig. 3: how many units a student needs, for teachers of each rank, and in regression."""
    rows, gaps = data.get("rows") or [], data.get("regression") or []
    if not rows and not gaps:
        return None
    figure = Figure(figsize=(11.5, 3.4))
    rates, losses, regression_axes = figure.subplots(1, 3)
    needed = {int(rank): units for rank, units in data.get("construction", {}).items()}
    _rates(rates, rows, needed, "A, B: identified, by rank of $W_V$", "hidden and pre-readout units")
    _polishing(losses, rows)
    for row in gaps:
        clipped = np.maximum(finite(row["gaps"]), SMALLEST_GAP)
        regression_axes.scatter([row["size"]] * len(clipped), clipped, color=PALETTE[0], marker="o", s=20, alpha=0.8)
    ticks_at(regression_axes, (row["size"] for row in gaps))
    regression_axes.set_yscale("log")
    style(regression_axes, "C: in-context regression", "hidden and pre-readout units", "loss less that of one GD step")
    figure.tight_layout()
    text = (
        "Left: share of students that found their teacher, with 95% intervals (Wilson); dotted lines mark the size of the "
        "smallest construction of each rank. Middle: the loss of every student over its target's power, after AdamW (hollow) "
        "and after polishing (filled); one that broke down has no point. Right: the distance to the loss of one optimal "
        f"step of gradient descent for every seed, log scale; gaps below {SMALLEST_GAP:g}, negative ones too, are drawn there."
    )
    return figure, text


SMALLEST_GAP = 1e-5
"""Where gaps too small, or too negative, for a log scale are drawn."""


def _rates(axes, rows: Sequence[Mapping[str, Any]], needed: Mapping[int, float | int], title: str, x: str) -> None:
    """Rates with their intervals against size, a curve for each rank, and the construction's size in its colour."""
    ranks = sorted({row["rank"] for row in rows}, reverse=True)
    for i, rank in enumerate(ranks):
        mine = sorted((row for row in rows if row["rank"] == rank), key=lambda row: row["size"])
        sizes = np.array([row["size"] for row in mine], np.float64)
        rate = np.array([row["identified"] / row["seeds"] for row in mine])
        below, above = rate - [row["low"] for row in mine], np.array([row["high"] for row in mine]) - rate
        look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
        # A little apart, so that intervals of one size do not hide each other.
        axes.errorbar(
            sizes + 0.2 * (i - (len(ranks) - 1) / 2),
            rate,
            yerr=np.maximum([below, above], 0),
            **look,
            ms=5,
            lw=1.2,
            capsize=2,
            elinewidth=0.7,
            label=f"rank {rank}",
        )
        if rank in needed:
            axes.axvline(needed[rank], color=look["color"], ls=":", lw=1.2)
    axes.set_ylim(-0.04, 1.04)
    if rows:
        axes.legend(fontsize=7, frameon=False)
    style(axes, title, x, "share of seeds identified")


def _polishing(axes, rows: Sequence[Mapping[str, Any]]) -> None:
    ranks = sorted({row["rank"] for row in rows}, reverse=True)
    for row in rows:
        i = ranks.index(row["rank"])
        x = row["size"] + 0.25 * (i - (len(ranks) - 1) / 2)
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        first, last = (np.maximum(finite(row[f"{name}_losses"]), 1e-32) for name in ("first", "polished"))
        axes.scatter([x] * len(first), first, facecolors="none", edgecolors=colour, marker=marker, s=16, lw=0.7)
        axes.scatter([x] * len(last), last, color=colour, marker=marker, s=16)
    axes.set_yscale("log")
    style(axes, "before and after polishing", "hidden and pre-readout units", "loss / target power")


def other_sizes(data: Mapping[str, Any]) -> Drawn | None:
    """Beyond Fig. 3: rates against pre-readout units alone, and for sparse teachers."""
    panels = [
        ("readout_rows", "28 hidden units", "pre-readout units"),
        ("sparse_rows", "half of the teacher's weights 0", "hidden and pre-readout units"),
    ]
    panels = [panel for panel in panels if data.get(panel[0])]
    if not panels:
        return None
    figure = Figure(figsize=(4.2 * len(panels), 3.2))
    for axes, (name, title, x) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _rates(axes, data[name], {}, title, x)
    figure.tight_layout()
    return figure, "Share of students that found their teacher, with 95% intervals: " + "; ".join(
        {"readout_rows": "against pre-readout units alone", "sparse_rows": "teachers with half of their weights 0"}[
            name
        ]
        for name, _, _ in panels
    ) + "."


def _architectures(axes, rows: Sequence[Mapping[str, Any]], x: str, y: str) -> None:
    """A curve for each architecture and number of layers: the mean over seeds, and lines from the least to the most."""
    for name, count in dict.fromkeys((row["architecture"], row["layers"]) for row in rows):
        mine = sorted((r for r in rows if (r["architecture"], r["layers"]) == (name, count)), key=lambda r: r[x])
        colour, marker = LOOKS.get(name, (OTHER, "."))
        mean_and_range(
            axes,
            [row[x] for row in mine],
            [row[y] for row in mine],
            color=colour,
            marker=marker,
            ls="-" if count == 1 else "--",
            mfc=colour if count == 1 else "none",
            label=f"{ARCHITECTURES.get(name, name)}, {count} layer{'s' * (count > 1)}",
        )
    if x == "width":
        ticks_at(axes, (row[x] for row in rows))
    else:
        axes.set_xscale("log")
    axes.set_yscale("log")


def _compared(data: Mapping[str, Any], panels: Sequence[tuple[str, str, str, str]], x: str, x_text: str) -> Figure:
    """Panels side by side or two by two: (task, field of the row, title, key of the line across)."""
    lines = -(-len(panels) // 2)
    figure = Figure(figsize=(10.5, 3.3 * lines))
    grid, named = figure.subplots(lines, 2, squeeze=False).ravel(), {}
    for axes, (task, field, title, level) in zip(grid, panels, strict=True):
        _architectures(axes, data.get(task) or [], x, field)
        if task == "regression" and level in data:
            axes.axhline(float(data[level]), color=INK, ls=":", lw=1.2, label="one optimal GD step")
        style(axes, title, x_text, "loss / target power" if task == "teacher" else "loss")
        named |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.tight_layout()
    if named:
        figure.legend(
            named.values(), named.keys(), fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
        )
    return figure


SPREAD = "A point is the mean over seeds, its bar the range; hollow markers and dashed lines are two layers."


def against_units(data: Mapping[str, Any]) -> Drawn | None:
    """Fig. 4: loss against hidden units."""
    if not (data.get("teacher") or data.get("regression")):
        return None
    panels = [
        ("teacher", "loss", "A: mimicking attention", ""),
        ("regression", "loss", "B: in-context regression", "optimal_loss"),
    ]
    text = f"The paper's Fig. 4: loss against hidden units. {SPREAD} The dotted line is one optimal step of gradient descent."
    return _compared(data, panels, "width", "hidden units"), text


def against_parameters(data: Mapping[str, Any]) -> Drawn | None:
    """Fig. 5: training and validation loss against parameters."""
    if not (data.get("teacher") or data.get("regression")):
        return None
    panels = [
        ("teacher", "train", "A: mimicking attention, training", ""),
        ("teacher", "validation", "A: mimicking attention, validation", ""),
        ("regression", "train", "B: in-context regression, training", "optimal_loss"),
        ("regression", "validation", "B: in-context regression, validation", "optimal_validation_loss"),
    ]
    text = (
        f"The paper's Fig. 5: loss against parameters. {SPREAD} Validation in B has twice the variance of W*. The dotted line "
        "is one optimal step of gradient descent on the same tasks."
    )
    return _compared(data, panels, "parameters", "parameters"), text


DRAWINGS: dict[str, dict[str, Sequence[Callable[[Mapping[str, Any]], Drawn | None]]]] = {
    "gated-rnn": {
        "table1": (scores,),
        "table2": (regression,),
        "table3": (layers, fits),
        "table4": (lstm_gates,),
        "fig1": (construction("full"), construction("compact")),
        "fig2": (student_weights, teacher_weights, student_kernels),
        "fig3": (identification, other_sizes),
        "fig4": (against_units,),
        "fig5": (against_parameters,),
        "scaling": (scaling,),
        "in-context": (beyond,),
    },
    "transfer": {"steering": (share_against_cost,)},
    "hmm": {"fit-length": (fit_lengths,), "beliefs": (simplex,)},
}
"""What is drawn of a paper's results: functions from the data to a figure and a caption, or to None where there is nothing."""
