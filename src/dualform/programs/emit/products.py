"""Products of two numbers by units that have none: by gates that are sigmoids, and by squares that a tanh has.

Neither is exact. A sigmoid's pair is its argument up to terms of higher order, a tanh's is its square; several pairs of
different scales, with factors that least squares find, take these terms out, and then the scale can be so large that little
is lost to rounding. What is left, in units of the sizes of both factors:

    a pair of gates, two scales            2e-14 in float64, 1e-6 in float32, times the other factor as it is
    differences of squares, four biases    1e-13 in float64, 1e-6 in float32

So a factor's size has to be known: it is measured on the inputs that the program is meant for, and continued to longer ones
as it grew (to `HORIZON` tokens). Beyond twice that the product is wrong.
"""

import functools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.construct.linearised import mirrored
from dualform.programs.bounds import of_form
from dualform.programs.decisions import Decisions, Times, evaluated, valued
from dualform.programs.emit.lanes import Gate, Lanes, Unit, power_of_two
from dualform.programs.graph import Atom, Form, combined

ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-24}
HORIZON = {"float64": 4096, "float32": 128, "bfloat16": 128}
"""Tokens to which sizes are continued: in float32 no digit can be spared for more."""

GATES = {"float64": 2.0**-5, "float32": 2.0**-0.5, "bfloat16": 2.0**-0.5}
"""The larger of the two scales of a pair of gates: where what is left of higher orders is about what is rounded."""

SQUARES = {"float64": 2.0**-3.5, "float32": 2.0**-0.5, "bfloat16": 2.0**-0.5}
"""The scale of squares, likewise."""

BIASES = {"float64": 1.75, "float32": 2.0, "bfloat16": 2.0}
"""The largest of the four biases of squares, likewise."""

ROOM = 1.5
"""How much larger than the largest that was measured a factor may be."""


class Size(NamedTuple):
    """How large a factor is at the most; and as which power of the number of tokens it grows."""

    most: Fraction
    growth: float


def sizes(
    decisions: Decisions, drawn: Float[np.ndarray, "batch time d"] | None, dtype: str
) -> Mapping[Atom, tuple[Size, Size]]:
    """The sizes of both factors of each product."""
    products = [(at, step) for at, step in zip(decisions.first, decisions.steps, strict=True) if isinstance(step, Times)]
    if not products:
        return {}
    if drawn is None:
        drawn = np.random.default_rng(0).standard_normal((64, 65, decisions.width))
    atoms, one = evaluated(decisions, drawn), np.ones(drawn.shape[:2])
    return {
        at: tuple(_size(form, decisions, valued(form, list(atoms), one), HORIZON[dtype]) for form in step.forms)
        for at, step in products
    }


def _size(form: Form, decisions: Decisions, values: Float[np.ndarray, "batch time"], horizon: int) -> Size:
    time = values.shape[1]
    early, all_ = (float(np.max(np.abs(part))) for part in (values[:, : math.ceil(time / 4)], values))
    growth = min(max(math.log(all_ / early, 4), 0.0), 3.0) if early > 0 else 0.0
    most = Fraction(ROOM * (all_ or 1.0) * max(1.0, horizon / time) ** growth)
    bound = max(abs(end) for end in of_form(form, decisions.ranges).ends)
    most = bound if isinstance(bound, Fraction) and bound else most
    unit = power_of_two(most) / 8  # few bits, which scale without rounding
    return Size(unit * math.ceil(most / unit), growth)


def gated(lanes: Lanes, left: Form, right: Form, layer: int, size: tuple[Size, Size]) -> Form:
    """left * right as a form of units that have an input gate: pairs of gates of one factor, times the other as it is.

    The factor in the gate is the steadier one; the other has no bound.
    """
    (gate, most), (value, _) = steadier_first((left, size[0]), (right, size[1]))
    square = float(power_of_two(most.most)) ** 2
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
        return sum(weight * sigmoid(factor * x + bias) for (factor, bias), weight in zip(rows, undo, strict=True))

    shares = _fitted(lambda x: np.stack([pair(x, scale) for scale in scales], axis=1), lambda x: x, ROUNDING[dtype])
    return tuple(zip(shares, scales, strict=True))


@functools.cache
def square_weights(dtype: str) -> tuple[tuple[float, float], ...]:
    """(weight, bias) of the tanh units whose sum is a square."""
    biases = BIASES[dtype] * np.arange(1, 5) / 4

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
