"""Pictures of the paper's tables, and of what goes beyond the paper, from the `data` of a record of `dualform reproduce`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from dualform.experiments.gated_rnn.architectures import ARCHITECTURES
from dualform.experiments.gated_rnn.evidence import MEANING, PAPER
from dualform.reports.figures import INK, OTHER, STUDENT, TEACHER, matrix, style
from dualform.reports.series import LOOKS, MARKERS, PALETTE, beside, finite, mean_and_range

SCORES = ("relative_loss", "kv_score", "q_score", "polynomial_distance")


def scores(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """Table 1: the four scores of every seed beside the paper's."""
    rows = data.get("rows")
    if not rows:
        return None
    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    for place, name in enumerate(SCORES):
        first = place == 0
        for shift, column, fill in ((-0.15, "trained", "none"), (0.15, "reduced", STUDENT)):
            values, label = [row[column][name] for row in rows], f"{column}, each seed" if first else None
            look = {"facecolors": fill, "edgecolors": STUDENT, "marker": "o", "s": 22, "label": label}
            beside(axes, place + shift, values, smallest=1e-18, **look)
        paper = "paper" if first else None
        axes.plot([place - 0.4, place + 0.4], [PAPER[name]] * 2, color=TEACHER, lw=2.5, label=paper)
    axes.set_yscale("log")
    axes.set_xticks(range(len(SCORES)), [MEANING[name].name for name in SCORES])
    axes.legend(fontsize=7, frameon=False)
    style(axes, "Table 1: lower is better")
    figure.tight_layout()
    return figure, (
        f"Of each of {len(rows)} seeds the network after AdamW alone (hollow) and its reduction (filled), and the paper's value "
        "(bar), log scale."
    )


def regression(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """Table 2: coefficients of the learned polynomial beside one step of gradient descent, and what is left over."""
    rows = data.get("rows")
    if not rows:
        return None
    figure = Figure(figsize=(8.5, 3.2))
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    eta, count = rows[0]["rate"], len(rows[0]["coefficients"])
    left.axhspan(0.99 * eta, 1.01 * eta, color="#dddddd", label="within 1%")
    left.axhline(eta, color=INK, lw=1, ls=":", label=f"one optimal GD step, {eta:.4g}")
    for i, row in enumerate(rows):
        place = np.arange(count) + 0.12 * (i - (len(rows) - 1) / 2)
        look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
        left.scatter(place, row["coefficients"], **look, s=28, label=f"seed {row.get('seed', i)}")
        right.scatter([i], [row["residual_norm"]], **look, s=28)
    left.scatter(
        np.arange(count) - 0.35, data.get("paper", [np.nan] * count), color=INK, marker="_", s=90, label="paper"
    )
    left.set_xticks(range(count), [f"$x_{i + 1}^2 y_1$" for i in range(count)])
    left.set_xlim(-0.6, count - 0.4)
    left.legend(fontsize=7, frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(0, -0.1))
    style(left, "coefficients", "", "coefficient in the first output")
    right.axhline(1.5e-3, color=INK, lw=1, ls=":")
    right.set_ylim(0, None)
    right.set_xticks(range(len(rows)))
    style(right, "all other coefficients", "seed", "norm")
    figure.tight_layout()
    return figure, (
        "Left: coefficients of every seed, the band is 1% around one optimal step of gradient descent. Right: the norm of "
        "every other coefficient to degree 4; the dotted line is what is allowed, 1.5e-3 (paper: 1.35e-3)."
    )


def layers(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """Table 3: the error of each cell against the scale at which its gates are linearised."""
    curves = data.get("curves")
    if not curves:
        return None
    figure = Figure(figsize=(10, 3.6))
    grid = figure.subplots(1, 2, sharey=True)
    for axes, dtype in zip(grid, ("float32", "float64"), strict=True):
        for i, curve in enumerate(curves):
            errors = np.array([float(error) for error in curve["errors"][dtype]], np.float64)
            look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
            look["ls"] = "-" if i < len(PALETTE) else "--"
            axes.plot(
                curve["scales"],
                np.where(np.isfinite(errors), np.maximum(errors, 1e-18), np.nan),
                **look,
                ms=3.5,
                lw=0.9,
                mfc=look["color"] if i < len(PALETTE) else "none",
                label=curve["cell"],
            )
        axes.axhline(1e-6, color=INK, lw=1, ls=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        style(axes, dtype, "scale of the linearised weights", "relative error" if axes is grid[0] else "")
    figure.tight_layout()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure, (
        "Each cell of Table 3, built: its relative error against the scale of the linearised weights. It falls with the "
        "scale until rounding wins. The dotted line is the error allowed in float64, 1e-6."
    )


def fits(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """Table 3's last row: what training finds, from many starts, for a GRU and for the others."""
    rows = data.get("fits")
    if not rows:
        return None
    figure = Figure(figsize=(8, 3.2))
    axes = figure.subplots()
    names = []
    for place, row in enumerate(rows):
        colour, marker = LOOKS.get(row["architecture"], (OTHER, "."))
        beside(axes, place, row["errors"], color=colour, marker=marker, s=22)
        count = row["layers"]
        names.append(
            f"{ARCHITECTURES.get(row['architecture'], row['architecture'])}\n{count} layer{'s' * (count > 1)}, {row['width']}"
        )
    axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), names)
    style(axes, "found by training", "architecture, layers, hidden units", "relative error")
    figure.tight_layout()
    return (
        figure,
        "Relative error on attention with d = 2 after training, every start a point; no construction is used.",
    )


def lstm_gates(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """Table 4: the gates of the LSTMs as printed, one row for each layer."""
    cells = [
        (f"{half}, layer {i + 1}", cell)
        for half, layers in (data.get("cells") or {}).items()
        for i, cell in enumerate(layers)
    ]
    if not cells:
        return None
    parts = (("u", "U"), ("v", "V"), ("b", "b"))
    columns = [(gate, part, f"{gate}: ${text}$") for gate in cells[0][1] for part, text in parts]
    figure = Figure(figsize=(0.95 * len(columns), 1.9 * len(cells)))
    grid = figure.subplots(
        len(cells), len(columns), squeeze=False, width_ratios=[0.3 if part == "b" else 1 for _, part, _ in columns]
    )
    for row, (name, cell) in zip(grid, cells, strict=True):
        for axes, (gate, part, title) in zip(row, columns, strict=True):
            values = _stored_matrix(cell[gate][part])
            known = np.abs(values[np.isfinite(values)])
            limit = float(known.max(initial=0.0)) or 1.0
            matrix(axes, np.nan_to_num(np.clip(values, -limit, limit)), title, limit)
            axes.set_title(title, fontsize=7, color=INK)
            if not np.isfinite(values).all():
                axes.set_xlabel("∞" if values.max() > 0 else "-∞", fontsize=8, color=INK)
        row[0].set_ylabel(name, fontsize=8, color=INK)
    figure.tight_layout(h_pad=0.6, w_pad=0.2)
    return figure, (
        "Table 4 as printed: input weights U, recurrent weights V and bias b of each gate, blue positive, red negative, grey "
        "zero, each on its own scale; infinite entries are named below."
    )


def _stored_matrix(stored: Mapping[str, Any]) -> Float[np.ndarray, "rows columns"]:
    values = np.array([float(value) for value in stored["values"]], np.float64)
    shape = tuple(stored["shape"])
    return values.reshape(shape if len(shape) == 2 else (-1, 1))


def scaling(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """Beyond the paper: steps, losses and time against the width of the attention."""
    rows = data.get("rows")
    if not rows:
        return None
    widths = data.get("widths") or []
    figure = Figure(figsize=(11 if not widths else 14, 3.1))
    steps, losses, time, *more = figure.subplots(1, 4 if widths else 3)
    for i, level in enumerate(rows[0].get("steps_to", {})):
        look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
        reached = [(row["d"], finite(_several(row["steps_to"].get(level)))) for row in rows]
        reached = [(d, counts) for d, counts in reached if len(counts)]
        steps.plot(
            [d for d, _ in reached], [np.median(f) for _, f in reached], **look, ms=5, lw=1.2, label=f"loss {level}"
        )
        for d, counts in reached:
            steps.scatter([d] * len(counts), counts, color=look["color"], marker=look["marker"], s=10, alpha=0.5)
    steps.set_yscale("log")
    steps.legend(fontsize=7, frameon=False)
    style(steps, "steps to reach a loss", "width d of the attention", "steps (line: median)")
    for row in rows:
        beside(losses, row["d"], row["first_losses"], color=STUDENT, marker="o", s=20)
    losses.set_yscale("log")
    style(losses, "after training", "width d of the attention", "loss / target power")
    time.plot([r["d"] for r in rows], [r["milliseconds"] for r in rows], color=STUDENT, marker="o", ms=5, lw=1.2)
    time.set_ylim(0, None)
    style(time, "time", "width d of the attention", "ms a step and seed")
    for axes in (steps, losses, time):
        axes.set_xticks([row["d"] for row in rows])
    for axes in more:
        for i, d in enumerate(dict.fromkeys(row["d"] for row in widths)):
            of_d = [row for row in widths if row["d"] == d]
            look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
            axes.plot([r["width"] for r in of_d], [r["loss"] for r in of_d], **look, ms=5, lw=1.2, label=f"d = {d}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend(fontsize=7, frameon=False)
        style(axes, "width that is needed", "hidden and pre-readout units", "median loss")
    figure.tight_layout()
    return figure, (
        "Students with twice the compact construction's units: steps of AdamW until a loss is reached (seeds that never reach "
        "it have no point), the loss of every seed in the end, and the time of a step. "
        "Where widths were varied, the last panel has the median loss against them."
    )


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def beyond(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """Beyond the paper: learned learning rates, depth against steps of gradient descent, associative recall."""
    panels = {
        "learning_rates": (_learned_rates, "the learning rate that a network learned against the best one"),
        "depth": (_depth, "stacks beside 1, 2, ... steps of gradient descent (dotted), mean and range of the seeds"),
        "recall": (_recall, "associative recall, every seed a point, chance dotted"),
    }
    filled = [name for name in panels if data.get(name)]
    if not filled:
        return None
    figure = Figure(figsize=(4 * len(filled), 3.3))
    for axes, name in zip(figure.subplots(1, len(filled), squeeze=False)[0], filled, strict=True):
        panels[name][0](axes, data[name])
    figure.tight_layout()
    text = "; ".join(panels[name][1] for name in filled)
    return figure, f"{text[0].upper()}{text[1:]}."


def _learned_rates(axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for i, row in enumerate(rows):
        look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
        label = f"T = {row['pairs']}, noise {row['noise']:g}"
        axes.scatter([row["rate"]], [row["learned_rate"]], **look, s=30, label=label)
    ends = [0.9 * min(row["rate"] for row in rows), 1.1 * max(row["rate"] for row in rows)]
    axes.plot(ends, ends, color=INK, lw=0.9, ls=":")
    axes.legend(fontsize=6.5, frameon=False)
    style(axes, "learning rate of the learned step", "best rate of one step", "learned rate")


def _depth(axes, losses: Mapping[str, Any]) -> None:
    for step in losses["steps"]:
        axes.axhline(step["loss"], color=INK, lw=0.9, ls=":")
        axes.text(
            1.01, step["loss"], f"{step['steps']} GD", transform=axes.get_yaxis_transform(), fontsize=7, color=INK
        )
    for mixer in dict.fromkeys(row["mixer"] for row in losses["stacks"]):
        rows = sorted((row for row in losses["stacks"] if row["mixer"] == mixer), key=lambda row: row["layers"])
        colour, marker = LOOKS.get(mixer, (OTHER, "."))
        mean_and_range(
            axes,
            [row["layers"] for row in rows],
            [row["loss"] for row in rows],
            color=colour,
            marker=marker,
            label=ARCHITECTURES.get(mixer, mixer),
        )
    axes.set_xticks(sorted({row["layers"] for row in losses["stacks"]}))
    axes.legend(fontsize=7, frameon=False)
    style(axes, "depth against GD steps", "layers", "loss")


def _recall(axes, accuracies: Mapping[str, Any]) -> None:
    rows = accuracies["mixers"]
    for place, row in enumerate(rows):
        colour, marker = LOOKS.get(row["mixer"], (OTHER, "."))
        beside(axes, place, row["accuracy"], color=colour, marker=marker, s=30)
    axes.axhline(accuracies["chance"], color=INK, lw=0.9, ls=":")
    axes.set_ylim(0, 1.04)
    names = [str(ARCHITECTURES.get(row["mixer"], row["mixer"])) for row in rows]
    axes.set_xticks(range(len(rows)), [name.replace(" ", "\n") for name in names])
    style(axes, "associative recall", "", "accuracy")
