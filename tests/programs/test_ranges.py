"""What is known of a number beforehand: bounds and lattices of sums, products and states, and inputs that are declared."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualform.errors import InputError
from dualform.programs.bounds import of_block
from dualform.programs.graph import Block, Form
from dualform.programs.program import Program, interpret
from dualform.programs.ranges import Range, exactly
from dualform.programs.values import Input

ZERO, ONE = Fraction(0), Fraction(1)
BIT, ANY = Range(ZERO, ONE, ZERO, ONE), Range()
FRACTIONS = st.sampled_from([Fraction(n, d) for n in range(-4, 5) for d in (1, 2, 3)])


@st.composite
def members(draw):
    """A range, and a number that is in it."""
    offset, step = draw(FRACTIONS), abs(draw(FRACTIONS))
    x = offset + step * draw(st.integers(-5, 5))
    low = draw(st.sampled_from([None, x, x - step, x - 1]))
    high = draw(st.sampled_from([None, x, x + step, x + 1]))
    return draw(st.sampled_from([Range(low, high, offset, step), Range(low, high), exactly(x)])), x


def holds(found: Range, x: Fraction) -> bool:
    low, high = found.ends
    if not low <= x <= high:
        return False
    return found.step is None or (x == found.offset if not found.step else (x - found.offset) % found.step == 0)


@given(members(), members(), FRACTIONS)
def test_arithmetic_holds_its_numbers(first, second, factor):
    """A sum, a product, a multiple, a union and a positive part are in the range that is made for them."""
    (a, x), (b, y) = first, second
    assert holds(a, x) and holds(b, y)
    assert holds(a + b, x + y) and holds(a.product(b), x * y) and holds(a.times(factor), x * factor)
    assert holds(a.joined(b), x) and holds(a.joined(b), y) and holds(a.positive, max(x, ZERO))


@given(members(), st.integers(1, 6))
def test_points_are_all(drawn, most):
    """The points of a range are its numbers, in order and no other, or more than were asked for, or without end."""
    found, x = drawn
    points = found.points(most)
    if points is not None:
        assert x in points and points == sorted(set(points)) and len(points) <= most
        assert all(holds(found, point) for point in points)


def test_known_lattices():
    """1 - a bit is a bit; the sum of two has three points; halves of whole numbers between 0 and 1 have one point inside."""
    assert BIT.times(-ONE) + exactly(ONE) == Range(ZERO, ONE, ONE, ONE)
    assert (BIT + BIT).points(3) == [0, 1, 2] and (BIT + BIT).points(2) is None
    half = Range(None, None, ZERO, Fraction(1, 2))
    assert half.points(9, ZERO, ONE) == [0, Fraction(1, 2), 1] and half.points(9) is None
    assert half.above(ZERO) == Fraction(1, 2) and half.at_least(ZERO) == 0
    assert ANY.points(9, ZERO, ONE) is None
    assert ANY.product(exactly(ZERO)) == exactly(ZERO)


def block(*rows, drive=None):
    matrix = tuple({j: Fraction(a) for j, a in enumerate(row) if a} for row in rows)
    return Block(matrix, (Form(),) * len(rows), (ZERO,) * len(rows)), drive


@pytest.mark.parametrize(
    ("rows", "drive", "expected"),
    [
        # A count of tokens is 1 at the least; one of bits, 0; neither has an end.
        ([[1]], [exactly(ONE)], [(1, math.inf)]),
        ([[1]], [BIT], [(0, math.inf)]),
        # A decay of 1/3 stays below 1 / (1 - 1/3); a shift holds what it was given.
        ([["1/3"]], [BIT], [(0, "3/2")]),
        ([[0, 0], [1, 0]], [BIT, exactly(ZERO)], [(0, 1), (0, 1)]),
        # What changes its sign at each token is given up; so is what nothing is known of.
        ([[-1]], [BIT], [(-math.inf, math.inf)]),
        ([["1/2"]], [ANY], [(-math.inf, math.inf)]),
    ],
)
def test_known_states(rows, drive, expected):
    """Bounds of states that are known by hand."""
    step, _ = block(*rows)
    ends = [each.ends for each in of_block(step, drive)]
    exact = lambda end: Fraction(end) if isinstance(end, str) else end
    assert ends == [(exact(low), exact(high)) for low, high in expected]


@given(st.data())
def test_states_stay_in_their_ranges(data):
    """Whatever bits or whole numbers drive a state, after any number of tokens it is where it was said to be."""
    n = data.draw(st.integers(1, 3))
    rows = [
        [data.draw(FRACTIONS) / 4 if data.draw(st.booleans()) else data.draw(FRACTIONS) for _ in range(n)]
        for _ in range(n)
    ]
    drive = [
        data.draw(st.sampled_from([BIT, exactly(ONE), exactly(ZERO), Range(-ONE, 2 * ONE, -ONE, ONE)]))
        for _ in range(n)
    ]
    step, _ = block(*rows)
    found, state = of_block(step, drive), [ZERO] * n
    for _ in range(6):
        given_ = [data.draw(st.sampled_from(each.points(9) or [])) for each in drive]
        state = [
            sum((a * state[j] for j, a in row.items()), each) for row, each in zip(step.matrix, given_, strict=True)
        ]
        assert all(holds(each, s) for each, s in zip(found, state, strict=True))


@pytest.mark.parametrize(
    ("options", "x", "says"),
    [
        ({"low": 0, "high": 1, "whole": True}, 0.5, "entry 0 of .* a whole number, at least 0, at most 1, and is not"),
        ({"low": 0}, -1.0, "a number, at least 0, and is not"),
        ({"high": [2]}, 3.0, "at most 2, and is not"),
    ],
)
def test_what_is_declared_is_held_to(options, x, says):
    """An input that is not what the program says of it is refused where it is interpreted; others are as without a word."""
    program = Program(Input(1, **options) * 2)
    with pytest.raises(InputError, match=says):
        interpret(program, [[x]])
    assert interpret(program, [[1.0]]).tolist() == [[2.0]]


def test_no_such_number():
    """Bounds that leave no number are refused with the line, and so are bounds of another width."""
    with pytest.raises(InputError, match=r"test_ranges.py:\d+: an input is at least 2 and at most 1"):
        Input(1, low=2, high=1)
    with pytest.raises(InputError, match="low has 2 numbers; it must have 3"):
        Input(3, low=[1, 2])


def test_holds_is_per_number():
    """A lattice holds its numbers and no others."""
    odd = Range(None, None, ONE, Fraction(2))
    assert odd.holds(np.array([-1.0, 3.0])) and not odd.holds(np.array([1.0, 2.0]))
