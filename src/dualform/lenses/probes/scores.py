"""How well a probe tells labels apart on what is held out: shares with their intervals."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dualform.intervals import area_interval, share_interval


class Rate(NamedTuple):
    """A share between 0 and 1, and an interval of 95% in which it is known."""

    value: float
    low: float
    high: float


def accuracy(right: Float[np.ndarray, " row"] | Bool[np.ndarray, " row"], texts: Int[np.ndarray, " row"]) -> Rate:
    """The share of rows that are right.

    The interval is Wilson's of as many trials as there are texts: rows of one text may be right or wrong together.
    """
    share = float(np.mean(right))
    return Rate(share, *share_interval(share, len(np.unique(texts))))


def area(
    scores: Float[np.ndarray, " row"],
    positive: Int[np.ndarray, " row"] | Bool[np.ndarray, " row"],
    texts: Int[np.ndarray, " row"],
) -> Rate:
    """The area under the ROC curve: how often a positive row has the higher score of two; ties are half.

    **Arguments:** positive: 0 or 1, both of which there are.
    """
    from scipy.stats import rankdata

    of_positive = np.asarray(positive, bool)
    count, others = int(of_positive.sum()), int((~of_positive).sum())
    ranks = rankdata(scores)
    value = float((ranks[of_positive].sum() - count * (count + 1) / 2) / (count * others))
    many = [len(np.unique(texts[rows])) for rows in (of_positive, ~of_positive)]
    return Rate(value, *area_interval(value, *many))


def mean_area(scores: Float[np.ndarray, "row label"], labels: Int[np.ndarray, " row"], texts: np.ndarray) -> Rate:
    """Of two labels the area for the second; of more the mean over each against the rest, its interval that of the widest.

    **Arguments:** labels: each of which there is.
    """
    if scores.shape[1] == 2:
        return area(scores[:, 1] - scores[:, 0], labels, texts)
    each = [area(scores[:, i], (labels == i).astype(int), texts) for i in range(scores.shape[1])]
    value = float(np.mean([rate.value for rate in each]))
    widest = max(each, key=lambda rate: rate.high - rate.low)
    below, above = widest.value - widest.low, widest.high - widest.value
    return Rate(value, max(0.0, value - below), min(1.0, value + above))
