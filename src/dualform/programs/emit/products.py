"""Products of two numbers by units that have none: by gates that are sigmoids, and by squares that a tanh has.

Neither is exact. A sigmoid's pair is its argument up to terms of higher order, a tanh's is its square; several pairs of
different scales, with factors that least squares find, take these terms out, and then the scale can be so large that little
is lost to rounding. What is left, in units of the sizes of both factors:

    a pair of gates, of two scales     3e-14 in float64, 1e-6 in float32, times the other factor as it is
    a square, of four biases or five   3e-14 in float64, 1e-6 in float32

So a factor's size has to be known: it is measured on the inputs that the program is meant for, and continued to longer ones
as it grew (to `HORIZON` tokens). Beyond twice that the product is wrong.
"""

import functools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.construct.linearised import mirrored
from dualform.programs.bounds import of_form
from dualform.programs.decisions import Decisions, Times, evaluated, valued
from dualform.programs.emit.lanes import Gate, Lane, Lanes, Unit, power_of_two
from dualform.programs.graph import Atom, Form, atom_form, combined

ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-24}
HORIZON = {"float64": 4096, "float32": 128, "bfloat16": 128}
"""Tokens to which sizes are continued: in float32 no digit can be spared for more."""

GATES = {"float64": 2.0**-5, "float32": 2.0**-0.5, "bfloat16": 2.0**-0.5}
"""The larger of the two scales of a pair of gates: where what is left of higher orders is about what is rounded."""

SQUARES = {"float64": 2.0**-2.25, "float32": 2.0**-0.5, "bfloat16": 2.0**-0.5}
"""The scale of squares, likewise; their biases are equal parts of 2."""

BIASES = {"float64": 5, "float32": 4, "bfloat16": 4}
"""How many biases a square has: with one more, in float32, nothing is gained."""

ROOM = 1.5
"""How much larger than the largest that was measured a factor may be."""


LEVELS = {"float64": 0, "float32": 32, "bfloat16": 32}
"""Into so many steps at most a factor is cut, of which each lets the other one through exactly; what is left is small."""


class Size(NamedTuple):
    """How large a factor is at the most; and as which power of the number of tokens it grows."""

    most: Fraction
    growth: float


def sizes(
    decisions: Decisions, drawn: Float[np.ndarray, "batch time d"] | None, dtype: str
) -> Mapping[Atom, tuple[Size, Size]]:
    """The sizes of both factors of each product."""
    products = [
        (at, step) for at, step in zip(decisions.first, decisions.steps, strict=True) if isinstance(step, Times)
    ]
    if not products:
        return {}
    if drawn is None:
        drawn = np.random.default_rng(0).standard_normal((64, 65, decisions.width))
    atoms, one = evaluated(decisions, drawn), np.ones(drawn.shape[:2])
    size = lambda form: _size(form, decisions, valued(form, atoms, one), HORIZON[dtype])
    return {at: (size(step.left), size(step.right)) for at, step in products}


def _size(form: Form, decisions: Decisions, values: Float[np.ndarray, "batch time"], horizon: int) -> Size:
    time = values.shape[1]
    early, all_ = (float(np.max(np.abs(part))) for part in (values[:, : math.ceil(time / 4)], values))
    growth = min(max(math.log(all_ / early, 4), 0.0), 3.0) if early > 0 else 0.0
    most = Fraction(ROOM * (all_ or 1.0) * max(1.0, horizon / time) ** growth)
    bound = max(abs(end) for end in of_form(form, decisions.ranges).ends)
    most = bound if isinstance(bound, Fraction) and bound else most
    unit = power_of_two(most) / 8  # few bits, which scale without rounding
    return Size(unit * math.ceil(most / unit), growth)


class Levels(NamedTuple):
    """What an architecture decides with.

    - level: (lanes, form of atoms) -> a form of lanes, 1 where that is above 0 and 0 elsewhere, and what passes a value there.
    - passed: (lanes, form of atoms, that) -> a lane that is the value, or 0.
    - rest: (lanes, form, form, layer, sizes of both) -> a form of lanes that is nearly the product of two forms of lanes.
    """

    level: Callable[[Lanes, Form], tuple[Form, Any]]
    passed: Callable[[Lanes, Form, Any], Lane]
    rest: Callable[[Lanes, Form, Form, int, tuple[Size, Size]], Form]


def product(lanes: Lanes, step: Times, size: tuple[Size, Size], by: Levels) -> Form:
    """A product of two numbers.

    Where `LEVELS` says so, x y = d (sum of [x > d / 2 + i d] y - sum of [-x > d / 2 + i d] y) + r y, of which the sums are exact,
    as what lets y through is 0 or 1, and r, the rest of x, is d / 2 at the most.
    """
    (gate, most), (value, other) = steadier_first((step.left, size[0]), (step.right, size[1]))
    if not LEVELS[lanes.name]:
        at = lanes.layer(gate, value)
        return by.rest(lanes, lanes.read(gate, at), lanes.read(value, at), at, (most, other))
    spacing = power_of_two(2 * most.most / LEVELS[lanes.name])
    steps, found = Form(), Form()
    for side in (spacing, -spacing):
        for i in range(math.ceil(most.most / spacing)):
            on, opens = by.level(lanes, gate.times(side / spacing**2) + Form({}, -i - Fraction(1, 2)))
            steps = steps + on.times(side)
            found = found + Form({by.passed(lanes, value, opens): side})
    at = max(lanes.layer(gate, value), 1 + max(lanes.units[lane].layer for lane in steps.terms))
    rest = lanes.read(gate, at) + steps.times(Fraction(-1))
    left = by.rest(lanes, rest, lanes.read(value, at), at, (Size(spacing * Fraction(17, 32), 0.0), other))
    return found + atom_form(lanes.value(left, at + 1))


def paired(lanes: Lanes, gate: Form, value: Form, layer: int, size: tuple[Size, Size]) -> Form:
    """gate * value as a form of units that have an input gate: pairs of gates of one factor, times the other as it is."""
    square = float(power_of_two(size[0].most)) ** 2
    found = Form()
    for share, scale in pair_scales(lanes.name):
        rows, undo = mirrored(np.array([[1.0, 0.0]]), np.diag([square, 0.0]), scale, 4)
        for (factor, bias), weight in zip(rows, undo, strict=True):
            given = combined([(Fraction(factor), gate)], Fraction(bias))
            lane = lanes.value(value, layer, {"input": Gate(given, Fraction(1))})
            found = found + Form({lane: Fraction(share * weight)})
    return found


def steadier_first(left: tuple[Form, Size], right: tuple[Form, Size]) -> tuple[tuple[Form, Size], tuple[Form, Size]]:
    """Both factors: first the one that grows less with the number of tokens, or else is smaller."""
    swap = (right[1].growth, right[1].most) < (left[1].growth, left[1].most)
    return (right, left) if swap else (left, right)


def squared(lanes: Lanes, left: Form, right: Form, layer: int, size: tuple[Size, Size]) -> Form:
    """left * right as a form of tanh units: of x and y that are 1 at the most ((x + y) / 2)^2 - ((x - y) / 2)^2."""
    x, y = (form.times(1 / each.most) for form, each in zip((left, right), size, strict=True))
    half, minus = Fraction(1, 2), Fraction(-1)
    if x.key == y.key:
        found = _square(lanes, x, layer)
    else:
        found = _square(lanes, (x + y).times(half), layer)
        found = found + _square(lanes, (x + y.times(minus)).times(half), layer).times(minus)
    return found.times(size[0].most * size[1].most)


def _square(lanes: Lanes, x: Form, layer: int) -> Form:
    """The square of what is 1 at the most: the sum of w (tanh(b + e x) + tanh(b - e x) - 2 tanh(b)) over the biases."""
    found = Form()
    for weight, bias in square_weights(lanes.name):
        for sign in (1, -1):
            given = combined([(sign * Fraction(SQUARES[lanes.name]), x)], Fraction(bias))
            lane = lanes.add(Unit(given, Fraction(1), Fraction(1), layer, None))
            found = found + Form({lane: Fraction(weight)}, Fraction(-weight * math.tanh(bias)))
    return found


@functools.cache
def pair_scales(dtype: str) -> tuple[tuple[float, float], ...]:
    """(share, scale) of the pairs that make one product, each undone by itself: shares near 16 / 15 and -1 / 15."""
    scales = (GATES[dtype] / 2, GATES[dtype])
    one = lambda scale: mirrored(np.array([[1.0, 0.0]]), np.diag([1.0, 0.0]), scale, 4)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))

    def pair(x: np.ndarray, scale: float) -> np.ndarray:
        rows, undo = one(scale)
        return sigmoid(x[:, None] * rows[:, 0] + rows[:, 1]) @ undo

    shares = _fitted(lambda x: np.stack([pair(x, scale) for scale in scales], axis=1), lambda x: x, ROUNDING[dtype])
    return tuple(zip(shares, scales, strict=True))


@functools.cache
def square_weights(dtype: str) -> tuple[tuple[float, float], ...]:
    """(weight, bias) of the tanh units whose sum is a square."""
    biases = 2.0 * np.arange(1, BIASES[dtype] + 1) / BIASES[dtype]

    def columns(x: np.ndarray) -> np.ndarray:
        x, b = SQUARES[dtype] * x[:, None], biases[None]
        return np.tanh(b + x) + np.tanh(b - x) - 2 * np.tanh(b)

    return tuple(zip(_fitted(columns, np.square, ROUNDING[dtype]), biases.tolist(), strict=True))


def _fitted(
    columns: Callable[[np.ndarray], np.ndarray], target: Callable[[np.ndarray], np.ndarray], rounding: float
) -> list[float]:
    """The factors of some functions whose sum is nearest to a target on (0, 1], each rounding of theirs counted with it."""
    x = np.cos(np.pi * (np.arange(64) + 0.5) / 128)
    a = columns(x)
    n = a.shape[1]
    ridge = rounding * math.sqrt(len(x)) * np.eye(n)
    return np.linalg.lstsq(np.concatenate([a, ridge]), np.concatenate([target(x), np.zeros(n)]), rcond=None)[0].tolist()
