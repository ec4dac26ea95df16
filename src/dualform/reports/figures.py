"""The pictures of a discovery, each a function from arrays to a matplotlib figure; `svg` makes it part of a page.

Colours: blue is positive, red negative, grey zero, as in Fig. 2 of Zucchet et al. 2023; both ends keep their order for
readers who see no red or no green.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from dualform.mixers import GatedRNN

SIGNED = LinearSegmentedColormap.from_list("signed", ["#8c1c13", "#d9776c", "#d4d4d4", "#5b8fc7", "#123f7a"])
INK, TEACHER, STUDENT, MEMORY, FORGET, OTHER = "#333333", "#b8860b", "#1f5fa8", "#1f5fa8", "#b03a2e", "#8a8a8a"


def svg(figure: Figure, background: str | None = None) -> str:
    """The figure as SVG text to stand inside a page: no fonts, no links, the same bytes for the same figure.

    **Arguments:** background: a colour, for a picture that stands alone; transparent where none is given.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "dualform"}):  # else its ids are random
        figure.savefig(
            file,
            format="svg",
            bbox_inches="tight",
            transparent=background is None,
            facecolor=background or "none",
            metadata={"Date": None, "Creator": None},
        )
    text = file.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)


def style(axes, title: str = "", x: str = "", y: str = "") -> None:
    """The look of every pair of axes: small words, two spines."""
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    axes.tick_params(which="both", labelsize=7, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def matrix(axes, values, title: str, limit: float | None = None) -> None:
    """One signed matrix."""
    values = np.asarray(values, np.float64)
    limit = float(limit or np.abs(values).max() or 1.0)
    axes.imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.set_title(f"{title}  {values.shape[0]}×{values.shape[1]}", fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor("#bbbbbb")


WEIGHTS = {
    "w_m_in": "input gate $W_m$",
    "w_x_in": "input gate $W_x$",
    "decay": r"$\lambda$",
    "w_m_out": "output gate $W_m$",
    "w_x_out": "output gate $W_x$",
    "readout": "readout $D$",
}
"""A gated RNN's weights in the order of Fig. 2 of the paper, and what the pictures call them."""


def weights(rnn: GatedRNN, title: str) -> Figure:
    """Fig. 2A of the paper: the five weight matrices and the decays of one network, signed, each on its own scale."""
    return weight_matrices({name: getattr(rnn, name) for name in WEIGHTS}, title)


def weight_matrices(named: Mapping[str, Any], title: str) -> Figure:
    """Weight matrices and decays, each on its own signed scale, from arrays or nested lists by the names in `WEIGHTS`."""
    figure = Figure(figsize=(11, 3.4))
    parts = figure.subplots(1, 6, width_ratios=[1.1, 1.1, 0.35, 2.2, 2.2, 1.3])
    for axes, (name, text) in zip(parts, WEIGHTS.items(), strict=True):
        if name != "decay":
            matrix(axes, named[name], text)
            continue
        decay = np.asarray(named[name], np.float64)[:, None]
        axes.imshow(decay, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(text, fontsize=8, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def decays(
    before: Float[np.ndarray, " n"], saliency: Float[np.ndarray, " n"], after: Float[np.ndarray, " k"]
) -> Figure:
    """Each unit's decay against how much it matters, after first-order training; and the decays that are left."""
    figure = Figure(figsize=(7.5, 2.8))
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    colour = np.where(before >= 0.99, MEMORY, np.where(before <= 0.01, FORGET, OTHER))
    left.scatter(before, np.maximum(saliency, 1e-18), c=colour, s=18)
    left.set_yscale("log")
    left.set_xlim(-0.05, 1.05)
    style(left, "after first-order training", r"decay $\lambda$", "share of output power lost without the unit")
    counts = (np.sum(after <= 0.01), np.sum((after > 0.01) & (after < 0.99)), np.sum(after >= 0.99))
    right.bar([0, 0.5, 1], counts, color=[FORGET, OTHER, MEMORY], width=0.4)
    for place, count in zip((0, 0.5, 1), counts, strict=True):
        right.text(place, count, f"{count}", ha="center", va="bottom", fontsize=9, color=INK)
    right.set_xticks([0, 0.5, 1], ["at 0", "between", "at 1"])
    style(right, "after reduction", "", "units")
    figure.tight_layout()
    return figure


def learning(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    polishing: Sequence[float],
    levels: Mapping[str, float],
) -> Figure:
    """Relative loss against steps for each named curve, then against iterations of polishing; `levels` are drawn across."""
    figure = Figure(figsize=(9, 3.0))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.4, 1])
    for (name, (steps, losses)), colour in zip(curves.items(), (STUDENT, TEACHER, OTHER), strict=False):
        left.plot(steps, losses, label=name, color=colour, lw=1.2, marker=".", ms=3)
    right.plot(np.arange(len(polishing)), polishing, color=STUDENT, lw=1.2, marker=".", ms=3)
    for axes in (left, right):
        for name, loss in levels.items():
            axes.axhline(max(loss, 1e-32), color=INK, lw=0.9, ls=":", label=f"{name}: {loss:.1e}")
    left.set_yscale("log")
    left.legend(fontsize=7, frameon=False)
    right.xaxis.get_major_locator().set_params(integer=True)
    style(left, "AdamW", "step", "loss / target power")
    style(right, "Levenberg-Marquardt", "iteration")
    figure.tight_layout()
    return figure


def coefficients(
    names: Sequence[str], student: Float[np.ndarray, "d_out monomial"], teacher: Float[np.ndarray, "d_out monomial"]
) -> Figure:
    """Every coefficient of the instantaneous polynomial, student over teacher, one row of axes for each output."""
    outputs = len(teacher)
    figure = Figure(figsize=(11, 1.0 + 1.05 * outputs))
    for row, axes in enumerate(np.atleast_1d(figure.subplots(outputs, 1, sharex=True))):
        place = np.arange(len(names))
        axes.bar(place, teacher[row], color=TEACHER, width=0.8, label="attention")
        axes.plot(place, student[row], ".", color=STUDENT, ms=4, label="student")
        axes.set_xlim(-1, len(names))
        style(axes, "", "", f"$y_{row + 1}$")
        if row == 0:
            axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper right")
        axes.set_xticks(place, names, rotation=90, fontsize=4.5)
    figure.tight_layout(h_pad=0.2)
    return figure


def kernels(values: Float[np.ndarray, "d_out n n"], memory_units: int) -> Figure:
    """Fig. 2C of the paper: each output as a quadratic form in the hidden state, units at 1 first."""
    figure = Figure(figsize=(2.4 * min(len(values), 4), 2.5 * -(-len(values) // 4)))
    grid = np.atleast_1d(figure.subplots(-(-len(values) // 4), min(len(values), 4), squeeze=False)).ravel()
    for place, axes in enumerate(grid):
        if place >= len(values):
            axes.set_axis_off()
            continue
        matrix(axes, values[place], f"$y_{place + 1}$:")
        axes.axhline(memory_units - 0.5, color=INK, lw=0.6)
        axes.axvline(memory_units - 0.5, color=INK, lw=0.6)
    figure.tight_layout()
    return figure


def maps(named: Mapping[str, Float[np.ndarray, "time source"]], limit: float | None = None) -> Figure:
    """Attention maps side by side, on one signed scale: rows are the tokens that read, columns those read from."""
    limit = float(limit or max(np.abs(values).max() for values in named.values()) or 1.0)
    figure = Figure(figsize=(3.6 * len(named), 3.6))
    drawn = None
    grid = figure.subplots(1, len(named), squeeze=False)[0]
    for axes, (name, values) in zip(grid, named.items(), strict=True):
        hidden = np.where(np.tril(np.ones(values.shape, bool)), values, np.nan)
        drawn = axes.imshow(hidden, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
        style(axes, name, "token read from", "token that reads" if axes is grid[0] else "")
    if drawn is not None:
        figure.colorbar(drawn, ax=list(grid), shrink=0.8).ax.tick_params(labelsize=7)
    return figure
