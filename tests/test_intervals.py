"""Intervals of means: Student's, from the table."""

import math

import pytest

from dualform.intervals import mean_interval


@pytest.mark.parametrize(("n", "t"), [(2, 12.7062), (3, 4.3027), (5, 2.7764), (16, 2.1314)])
def test_the_quantile_is_students(n, t):
    """Of values with a spread of 1 around 5, half of the interval is t / sqrt(n), with t of the table."""
    spread = [math.sqrt((n - 1) / 2), -math.sqrt((n - 1) / 2), *[0.0] * (n - 2)]
    mean, low, high = mean_interval([5 + each for each in spread])
    assert mean == pytest.approx(5, abs=1e-12)
    assert high - mean == pytest.approx(t / math.sqrt(n), rel=1e-4) and mean - low == pytest.approx(high - mean)


def test_one_value_has_no_interval():
    """It says nothing of how others would be; equal ones say that they are all the same."""
    assert mean_interval([3.0]) == (3.0, -math.inf, math.inf)
    assert mean_interval([3.0, 3.0]) == (3.0, 3.0, 3.0)
