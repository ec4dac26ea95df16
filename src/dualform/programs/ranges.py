"""What is known of a number before it is there: its bounds, and whether it is one of a lattice, as whole numbers are."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

End: TypeAlias = Fraction | float
"""A bound; infinite where there is none."""


@dataclass(frozen=True)
class Range:
    """low <= x <= high, and x = offset + step * (a whole number).

    - low, high: None where there is no bound.  step: None where x may be any real number, 0 where it is `offset` itself.
    """

    low: Fraction | None = None
    high: Fraction | None = None
    offset: Fraction = Fraction(0)
    step: Fraction | None = None

    def __str__(self) -> str:
        kind = "a number" if self.step is None else "a whole number" if self.step == 1 else f"a multiple of {self.step}"
        low = "" if self.low is None else f", at least {self.low}"
        return kind + low + ("" if self.high is None else f", at most {self.high}")

    @property
    def ends(self) -> tuple[End, End]:
        """Both bounds."""
        return (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)

    def __add__(self, other: "Range") -> "Range":
        (a, b), (c, d) = self.ends, other.ends
        return _range(a + c, b + d, self.offset + other.offset, _common(self.step, other.step))

    def times(self, factor: Fraction) -> "Range":
        """Of the number times another one."""
        return self.product(exactly(factor))

    def product(self, other: "Range") -> "Range":
        """Of the product of two numbers."""
        ends = [a * b if a and b else Fraction(0) for a in self.ends for b in other.ends]
        step = None
        if self.step == 0 == self.offset or other.step == 0 == other.offset:
            step = Fraction(0)
        elif self.step is not None and other.step is not None:
            step = _common(self.step * other.step, self.step * other.offset, self.offset * other.step)
        return _range(min(ends), max(ends), self.offset * other.offset, step)

    def joined(self, other: "Range") -> "Range":
        """Of a number that is in one of the two."""
        (a, b), (c, d) = self.ends, other.ends
        return _range(min(a, c), max(b, d), self.offset, _common(self.step, other.step, self.offset - other.offset))

    @property
    def positive(self) -> "Range":
        """Of max(x, 0)."""
        low, high = self.ends
        zero = Fraction(0)
        step = self.step if low >= 0 else _common(self.step, self.offset)
        return _range(max(low, zero), max(high, zero), self.offset if low >= 0 else zero, step)

    def points(self, most: int, low: End = -math.inf, high: End = math.inf) -> list[Fraction] | None:
        """The numbers that it can be, of those from `low` to `high`; None where there may be more than `most`."""
        low, high = max(low, self.ends[0]), min(high, self.ends[1])
        if self.step is None or low > high:
            return None if self.step is None else []
        if self.step == 0:
            return [self.offset] if low <= self.offset <= high else []
        if low == -math.inf or high == math.inf:
            return None
        first, last = math.ceil((low - self.offset) / self.step), math.floor((high - self.offset) / self.step)
        return None if last - first >= most else [self.offset + self.step * n for n in range(first, last + 1)]

    def above(self, x: Fraction) -> Fraction:
        """The smallest number of the lattice that is above x."""
        assert self.step
        return self.offset + self.step * (math.floor((x - self.offset) / self.step) + 1)

    def at_least(self, x: Fraction) -> Fraction:
        """The smallest number of the lattice that is x or above."""
        assert self.step
        return self.offset + self.step * math.ceil((x - self.offset) / self.step)

    def holds(self, x: np.ndarray) -> bool:
        """Whether all of some numbers are in it."""
        low, high = (float(end) for end in self.ends)
        inside = np.all((x >= low) & (x <= high))
        steps = np.zeros_like(x) if not self.step else (x - float(self.offset)) / float(self.step)
        return bool(inside and np.all(steps == np.rint(steps)))


def exactly(x: Fraction) -> Range:
    """Of a number that is known."""
    return Range(x, x, x, Fraction(0))


def _range(low: End, high: End, offset: Fraction, step: Fraction | None) -> Range:
    least = low if isinstance(low, Fraction) else None
    most = high if isinstance(high, Fraction) else None
    return exactly(least) if least is not None and least == most else Range(least, most, offset, step)


def _common(*steps: Fraction | None) -> Fraction | None:
    """The largest step of which all of these are whole multiples; None if one of them is."""
    known = [abs(step) for step in steps if step is not None]
    if len(known) < len(steps):
        return None
    found = Fraction(0)
    for step in known:
        below = found.denominator * step.denominator
        found = Fraction(math.gcd(int(found * below), int(step * below)), below)
    return found


def total(ranges: Iterable[Range], constant: Fraction) -> Range:
    """Of the sum of independent numbers and a constant."""
    found = exactly(constant)
    for each in ranges:
        found = found + each
    return found
