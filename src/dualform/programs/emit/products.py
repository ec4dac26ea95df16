"""Products of two numbers by units that have none: by gates that are sigmoids, and by squares that a tanh has.

Neither is exact. A sigmoid's pair is its argument up to terms of higher order, a tanh's is its square; several pairs of
different scales, with factors that least squares find, take these terms out, and then the scale can be so large that little
is lost to rounding. What is left, in units of the sizes of both factors, is 3e-14 in float64 and 1e-6 in float32.

So one factor, the steadier one, is cut into levels first, where that is not enough: each lets the other factor through or not,
which is exact, and what is left of the one is small, and so is the error. It is 0 where the factor is a multiple of the levels'
distance, as whole numbers are.

A factor's size has to be known: it is measured on the inputs that the program is meant for, states as if all that drives them
had one sign, and continued to longer inputs as it grew, to `HORIZON` tokens. Beyond `ROOM` times that, the product is wrong.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.construct.linearised import mirrored
from dualform.programs.bounds import of_form
from dualform.programs.decisions import Block, Decisions, Gated, Relu, Times, evaluated, given
from dualform.programs.emit.lanes import Gate, Lane, Lanes, Unit, power_of_two
from dualform.programs.graph import Atom, Form, atom_form, combined

ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-24}
HORIZON = {"float64": 4096, "float32": 512, "bfloat16": 512}
"""Tokens to which sizes are continued: in float32 no digit can be spared for more."""

GATES = {"float64": 2.0**-5, "float32": 2.0**-0.5, "bfloat16": 2.0**-0.5}
"""The larger of the two scales of a pair of gates: where what is left of higher orders is about what is rounded."""

SQUARES = {"float64": 2.0**-2.25, "float32": 2.0**-0.5, "bfloat16": 2.0**-0.5}
"""The scale of squares, likewise; their biases are equal parts of 2."""

BIASES = {"float64": 5, "float32": 4, "bfloat16": 4}
"""How many biases a square has: with one more, in float32, nothing is gained."""


ROOM = Fraction(3, 2)
"""How many times as large as that a factor may be."""

LEVELS = 16
"""Into so many a factor is cut at most; if that is not enough, what is left of it once more."""

LEAST = {"float64": 0, "float32": 1, "bfloat16": 1}
"""How often a factor is cut: in float32 always, so that products with 0 and 1 are exact."""

TARGET = {"float64": 2e-11, "float32": 2e-6, "bfloat16": 2e-6}
"""The error of a product down to which it is cut once more, ..."""

ATTAINED = {"float64": 3e-14, "float32": 1e-6, "bfloat16": 1e-6}
"""... with this error in units of the sizes of both factors."""


class Size(NamedTuple):
    """How large a factor is: met, the most that was measured; most, what it may be; growth, as which power of the tokens."""

    met: Fraction
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
    found = magnitudes(decisions, drawn)
    size = lambda form: _size(form, decisions, _magnitude(form, found), HORIZON[dtype])
    return {at: (size(step.left), size(step.right)) for at, step in products}


def magnitudes(decisions: Decisions, drawn: Float[np.ndarray, "batch time d"]) -> np.ndarray:
    """How large each atom is at the most, (atoms, batch, time), whatever cancels in states here and not elsewhere."""
    values, one = evaluated(decisions, drawn), np.ones(drawn.shape[:2])
    found = [np.abs(values[i]) for i in range(decisions.width)]
    for at, step in zip(decisions.first, decisions.steps, strict=True):
        if isinstance(step, Block):
            rows = tuple({j: abs(a) for j, a in row.items()} for row in step.matrix)
            found += given(replace(step, matrix=rows), [_magnitude(form, found) for form in step.drive])
        elif isinstance(step, Times):
            found.append(_magnitude(step.left, found) * _magnitude(step.right, found))
        else:  # what is decided is what it is; a number that is let through is as large as what it is made of
            form = step.value if isinstance(step, Gated) else step.form
            most = _magnitude(form, found) if isinstance(step, Gated | Relu) else one
            # A large constant that shuts a ReLU is taken from nothing that comes through.
            large = np.max(most) > 64 * max(1.0, np.max(np.abs(values[at])))
            found.append(np.where(values[at] != 0, np.abs(values[at]) if large else most, 0))
    return np.stack(found)


def _magnitude(form: Form, atoms: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    found = np.full(atoms[0].shape, abs(float(form.constant)))
    for atom, factor in form.terms.items():
        found = found + abs(float(factor)) * atoms[atom]
    return found


def _size(form: Form, decisions: Decisions, values: Float[np.ndarray, "batch time"], horizon: int) -> Size:
    time = values.shape[1]
    early, all_ = (float(np.max(part)) for part in (values[:, : math.ceil(time / 4)], values))
    growth = min(max(math.log(all_ / early, 4), 0.0), 3.0) if early > 0 else 0.0
    met = Fraction(all_ or 1.0)
    most = ROOM * met * Fraction(max(1.0, horizon / time) ** growth)
    bound = max(abs(end) for end in of_form(form, decisions.ranges).ends)
    return Size(met, bound if isinstance(bound, Fraction) and bound else most, growth)


class Parts(NamedTuple):
    """What an architecture makes products of.

    - level: (lanes, form of lanes, layer) -> a form of lanes, 1 where that is above 0 and 0 elsewhere, and what passes a value.
    - passed: (lanes, form of atoms, that) -> a lane that is the value, or 0.
    - rest: (lanes, form, form, layer, their sizes, whether it is 0 where the first is) -> a form that is nearly their product.
    - bounded: whether the second of these has to stay within its size, too; the error is one of that size, then.
    """

    level: Callable[[Lanes, Form, int], tuple[Form, Any]]
    passed: Callable[[Lanes, Form, Any], Lane]
    rest: Callable[[Lanes, Form, Form, int, tuple[Fraction, Fraction], bool], Form]
    bounded: bool


def product(lanes: Lanes, step: Times, size: tuple[Size, Size], parts: Parts) -> Form:
    """A product of two numbers: x y = d (sum of [x > d / 2 + i d] y - sum of [-x > d / 2 + i d] y) + r y.

    The sums are exact, as what lets y through is 0 or 1, and r, the rest of x, is d / 2 at the most; it may be cut once more.
    """
    (gate, its), (value, other) = steadier_first((step.left, size[0]), (step.right, size[1]))
    most, room = its.most, other.most if parts.bounded else other.met / 16
    cuts, found = 0, Form()
    at = lanes.layer(gate)
    rest, low = lanes.read(gate, at), of_form(gate, lanes.ranges).ends[0]
    while cuts < LEAST[lanes.name] or (cuts < 3 and ATTAINED[lanes.name] * float(most * room) > TARGET[lanes.name]):
        spacing, steps, after = power_of_two(2 * most / LEVELS), Form(), at
        for side in (spacing,) if low >= 0 and not cuts else (spacing, -spacing):
            for i in range(math.ceil(most / spacing)):
                above = rest.times(side / spacing**2) + Form({}, -i - Fraction(1, 2))
                on, opens = parts.level(lanes, above, at)
                steps, after = steps + on.times(side), max(lanes.units[lane].layer for lane in on.terms)
                found = found + Form({parts.passed(lanes, value, opens): side})
        after = max(after + 1, lanes.layer(gate)) if not cuts else after + 1
        kept = lanes.read(gate, after) if not cuts else rest
        rest = atom_form(lanes.value(kept + steps.times(Fraction(-1)), after))
        cuts, at, most = cuts + 1, after + 1, spacing * Fraction(17, 32)
    at = max(at, lanes.layer(value)) if cuts else lanes.layer(gate, value)
    rest = rest if cuts else lanes.read(gate, at)
    return found + parts.rest(lanes, rest, lanes.read(value, at), at, (most, room), cuts > 0)


def paired(lanes: Lanes, gate: Form, value: Form, layer: int, most: tuple[Fraction, Fraction], exact: bool) -> Form:
    """gate * value as a form of units that have an input gate: pairs of gates of one factor, times the other as it is."""
    square = float(power_of_two(most[0])) ** 2
    found = Form()
    for share, scale in pair_scales(lanes.name):
        rows, undo = mirrored(np.array([[1.0, 0.0]]), np.diag([square, 0.0]), scale, 4)
        pair = Form()
        for (factor, bias), side in zip(rows, (1, -1), strict=True):
            given = combined([(Fraction(factor), gate)], Fraction(bias))
            lane = lanes.value(value, layer, {"input": Gate(given, Fraction(1))})
            pair = pair + Form({lane: Fraction(side)})
        # The difference of the two by itself is 0 where they are equal; summed with others it is rounded.
        found = found + (atom_form(lanes.value(pair, layer + 1)) if exact else pair).times(Fraction(share * undo[0]))
    return found


def steadier_first(left: tuple[Form, Size], right: tuple[Form, Size]) -> tuple[tuple[Form, Size], tuple[Form, Size]]:
    """Both factors: first the one that grows less with the number of tokens, or else is smaller."""
    swap = (right[1].growth, right[1].met) < (left[1].growth, left[1].met)
    return (right, left) if swap else (left, right)


def squared(lanes: Lanes, left: Form, right: Form, layer: int, most: tuple[Fraction, Fraction], exact: bool) -> Form:
    """left * right as a form of tanh units: p^2 - q^2 with p = (x + y) / 2, q = (x - y) / 2, of x and y that are 1 at the most.

    A square is the sum of w (tanh(b + e p) + tanh(b - e p) - 2 tanh(b)) over some biases. Where x is 0, q is -p, and units of
    the one are those of the other.
    """
    x, y = (form.times(1 / each) for form, each in zip((left, right), most, strict=True))
    half, scale = Fraction(1, 2), Fraction(SQUARES[lanes.name])
    p, q = (x + y).times(half * scale), (x + y.times(Fraction(-1))).times(half * scale)
    tanh = lambda form, bias: lanes.add(Unit(form + Form({}, Fraction(bias)), Fraction(1), Fraction(1), layer, None))
    found = Form()
    for weight, bias in square_weights(lanes.name):
        for side in (1, -1):
            plus, minus = tanh(p.times(Fraction(side)), bias), tanh(q.times(Fraction(-side)), bias)
            pair = Form({plus: Fraction(1)}) + Form({minus: Fraction(-1)})
            found = found + (atom_form(lanes.value(pair, layer + 1)) if exact else pair).times(Fraction(weight))
    return found.times(most[0] * most[1])


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
