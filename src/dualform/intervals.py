"""In what interval a mean is known."""

import math
from collections.abc import Sequence

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
