"""In what interval a mean, a share and an area under a curve are known."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit


def mean_interval(values: Float[np.ndarray, " n"] | Sequence[float]) -> tuple[float, float, float]:
    """The mean of some measured values, and an interval of 95% for that of all that could be measured.

    mean -+ t s / sqrt(n), with s the spread of the n values and t the quantile .975 of Student's t of n - 1 degrees of freedom:
    12.7 for two values, 2.13 for 16.

    **Returns:** mean, low, high; of one value, which has no spread, low and high are infinite.

    **Source:** Student 1908 (Biometrika 6, 1-25).

        >>> from dualform.intervals import mean_interval
        >>> [round(each, 2) for each in mean_interval([1.0, 2.0, 3.0])]
        [2.0, -0.48, 4.48]
    """
    values = np.asarray(values, np.float64)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return mean, -math.inf, math.inf
    half = float(stdtrit(count - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(count)
    return mean, mean - half, mean + half


def share_interval(share: float, trials: float | int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval for a share of so many independent trials, 95% for z = 1.96; also where it is 0 or 1.

    **Source:** Wilson 1927 (J. Am. Stat. Assoc. 22, 209-212).

        >>> from dualform.intervals import share_interval
        >>> [round(each, 3) for each in share_interval(1.0, 10)]
        [0.722, 1.0]
    """
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def area_interval(area: float, positive: float | int, negative: float | int, z: float = 1.96) -> tuple[float, float]:
    """An interval for the area under a ROC curve, of so many positive and negative trials; also where it is 0 or 1.

    All areas A with |A - area| <= z SE(A), where SE(A)^2 = A (1 - A) (1 + (N - 1) ((1 - A) / (2 - A) + A / (1 + A))) /
    (positive negative), N = (positive + negative) / 2.

    **Source:** Hanley and McNeil 1982 (Radiology 143, 29-36), inverted as method 5 of Newcombe 2006 (Stat. Med. 25, 559-573).

        >>> from dualform.intervals import area_interval
        >>> [round(each, 3) for each in area_interval(1.0, 20, 20)]
        [0.899, 1.0]
    """
    from scipy.optimize import brentq

    root: Any = brentq  # whose types ask for all of its options

    half, inside = (positive + negative) / 2, min(max(area, 1e-9), 1 - 1e-9)

    def beyond(a: float) -> float:
        spread = 1 + (half - 1) * ((1 - a) / (2 - a) + a / (1 + a))
        return abs(a - area) - z * math.sqrt(a * (1 - a) * spread / (positive * negative))

    # At an edge the error is 0, and beside the area itself the distance: there is one end between them.
    low, high = (edge if area == edge else float(root(beyond, *sorted((edge, inside)))) for edge in (0.0, 1.0))
    return low, high
