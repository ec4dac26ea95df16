"""How series of numbers look in every picture: colours and markers, means with their range, points side by side."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a8a8a")
"""Okabe and Ito's colours, told apart without red or without green; the yellow, too pale on white, is left out."""

MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
LOOKS = {
    "gated_rnn": ("#0072B2", "o"),
    "dense_gated_rnn": ("#56B4E9", "s"),
    "lru_out": ("#E69F00", "v"),
    "lru_in_out": ("#D55E00", "^"),
    "lru_in_skip": ("#CC79A7", "D"),
    "lstm": ("#009E73", "P"),
    "gru": ("#000000", "X"),
    "linear_attention": ("#8a8a8a", "*"),
}
"""The colour and the marker of each architecture, the same in every picture."""


def finite(values: Sequence[Any]) -> Float[np.ndarray, " finite"]:
    """The finite ones among numbers as a stored record holds them: "inf" and "nan" in words, None for what is not there."""
    numbers = np.array([float(value) for value in values if value is not None], np.float64)
    return numbers[np.isfinite(numbers)]


def mean_and_range(axes, x: Sequence[float | int], groups: Sequence[Sequence[Any]], **look: Any) -> None:
    """A line through the mean of each group, a bar from its least to its most; a group without a finite number has none."""
    filled = [(place, numbers) for place, numbers in zip(x, map(finite, groups), strict=True) if len(numbers)]
    if not filled:
        return
    mean = np.array([numbers.mean() for _, numbers in filled])
    low, high = np.array([[numbers.min(), numbers.max()] for _, numbers in filled]).T
    bars = np.maximum([mean - low, high - mean], 0)
    axes.errorbar([place for place, _ in filled], mean, yerr=bars, ms=5, lw=1.2, capsize=2, elinewidth=0.8, **look)


def beside(axes, place: float | int, values: Sequence[Any], *, smallest: float = 1e-18, **look: Any) -> None:
    """The finite ones of some values as points side by side around a place, for a log scale none below `smallest`."""
    heights = np.maximum(finite(values), smallest)
    offsets = np.linspace(-0.18, 0.18, len(heights)) if len(heights) > 1 else np.zeros(len(heights))
    axes.scatter(place + offsets, heights, **look)


def ticks_at(axes, sizes: Iterable[int]) -> None:
    """A logarithmic axis of sizes that names the sizes themselves."""
    places = sorted(set(sizes))
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place}" for place in places])
    axes.set_xticks([], minor=True)
