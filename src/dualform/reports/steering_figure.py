"""The picture of steering: what each dose does, against what it costs."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from dualform.reports.figures import style
from dualform.reports.series import MARKERS, PALETTE


def share_against_cost(data: Mapping[str, Any]) -> tuple[Figure, str] | None:
    """The share of upper case at each dose against its cost in perplexity, of every way to steer."""
    if not data.get("arms"):
        return None
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, arm), colour, marker in zip(data["arms"].items(), PALETTE, MARKERS, strict=False):
        for kind, line in (("vector", "-"), ("control", ":")):
            costs, shares = zip(*((row["cost"][0], row["share"][0]) for row in arm[kind]), strict=True)
            label = name if kind == "vector" else None
            axes.plot(costs, shares, line, color=colour, marker=marker, ms=4, lw=1.2, label=label)
    axes.set_xscale("symlog", linthresh=0.1)
    style(axes, x="nats a token above the unsteered model", y="share of upper case")
    axes.legend(fontsize=7, frameon=False)
    return figure, (
        "The share of upper-case letters in what is written, against what the dose costs on held-out text: a point for each "
        "dose, from none at 0. Dotted: a random vector of the same norm at the same doses. The cost's axis is linear below 0.1 "
        "nats."
    )
