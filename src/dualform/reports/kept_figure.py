"""What a bounded model keeps, as one picture: the end of the text for all layers, and every layer over time."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from dualform.errors import require
from dualform.reports.attention_view import KeptView
from dualform.reports.figures import style, svg
from dualform.tensor_file import write_atomically

NAMED = 96
"""Up to so many tokens are written along the axis."""
ACROSS = 6
"""Panels in a row."""
LOOK = {
    "cmap": LinearSegmentedColormap.from_list("kept", ["#e6e6e6", "#5b8fc7", "#123f7a"]),
    "vmin": 0,
    "vmax": 1,
    "aspect": "auto",
    "interpolation": "nearest",
}
"""Grey is dropped, blue kept, white not read yet."""


def kept_figure(kept: KeptView, tokens: Sequence[str]) -> Figure:
    """The share of heads that keep each token in the end, layer by layer; below, for every layer, what is kept after each.

    **Arguments:** tokens: (time,), what each says.
    """
    count, time = len(kept.layers), len(tokens)
    rows = -(-count // ACROSS)
    figure = Figure(figsize=(11, 1.4 + 0.16 * count + 1.8 * rows), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.4 + 0.16 * count, 1.8 * rows])
    top, below = parts
    axes = top.subplots()
    axes.imshow((kept.dropped == time).mean(axis=1), **LOOK)
    axes.set_yticks(range(count), kept.layers, fontsize=5 if count > 12 else 7)
    style(axes, f"kept in the end: {kept.policy}; darker is by more heads", "" if time <= NAMED else "token")
    if time <= NAMED:
        names = [repr(token)[1:-1] or "empty" for token in tokens]
        axes.set_xticks(range(time), [name.replace("$", r"\$") for name in names], rotation=90, fontsize=5)
    for place, panel in enumerate(below.subplots(rows, min(ACROSS, count), squeeze=False).ravel()):
        if place >= count:
            panel.set_axis_off()
            continue
        panel.imshow(over_time(kept, place), **LOOK)
        style(panel, kept.layers[place], "token", "after token" if place % ACROSS == 0 else "")
    return figure


def over_time(kept: KeptView, layer: int) -> Float[np.ndarray, "time source"]:
    """The share of a layer's heads that keep each token after each token; nan where it is not read yet."""
    dropped = kept.dropped[layer]
    t = np.arange(dropped.shape[1])
    total = np.zeros((len(t), len(t)), np.float32)
    for head in dropped:
        total += t[:, None] < head[None]
    return np.where(t[:, None] >= t[None], total / len(dropped), np.nan).astype(np.float32)


def write_kept_figure(kept: KeptView, tokens: Sequence[str], path: Path) -> Path:
    """The picture as a PNG or an SVG, by its name's ending.

    **Raises:** `InputError` for another ending; `FileError` where it cannot be written.
    """
    check_picture(path)
    figure = kept_figure(kept, tokens)
    if path.suffix.lower() == ".svg":
        write_atomically(path, svg(figure, "white").encode())
        return path
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    write_atomically(path, data.getvalue())
    return path


def check_picture(path: Path) -> None:
    """Raise `InputError` unless the name ends in .png or .svg."""
    require(
        path.suffix.lower() in (".png", ".svg"),
        f"{os.fspath(path)!r} is no picture's name: let it end in .png or .svg.",
    )
