"""What programs are written with beyond the vocabulary: steps, comparisons, logic, conditionals, counters and delays.

A step is a ramp of slope `SCALE`: between 0 and 1 / SCALE it is neither 0 nor 1. What is compared must therefore differ by more
than that, or be moved by a half first, as whole numbers are here.

**Source:** the constructions of Petrov et al. 2024 (arXiv 2406.01424), App. A; the delay by digits is ours.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from dualform.programs.values import (
    Linear,
    Number,
    Operand,
    Register,
    Value,
    as_value,
    broadcast,
    concat,
    error,
    fraction,
    relu,
    state,
    summed,
    total,
    whole_number,
)

SCALE = 1000
"""The slope of a step's ramp, as published."""

LARGE = 10**10
"""What a conditional without products subtracts from the branch that is not taken, as published."""

RAMPS = ("whole", "published")
CONDITIONALS = ("direct", "optimised", "step", "multiplicative")


def step(x: Operand, scale: Number = SCALE, ramp: str = "whole") -> Value:
    """1 where x > 1 / scale, 0 where x <= 0, a ramp between.

    **Arguments:** ramp: one of `RAMPS`, equal in exact arithmetic.

    - "whole": ReLU(scale x) - ReLU(scale x - 1): whole numbers stay whole, and floating point adds them without rounding.
    - "published": ReLU(scale x) - scale ReLU(x - 1 / scale): 1 / scale is no binary fraction, and what rounding or noise does to
      it is multiplied by scale; a conditional that multiplies it by `LARGE` once more loses everything.

    **Raises:** `InputError`, with file and line, for another ramp.
    """
    x = as_value(x)
    if ramp not in RAMPS:
        raise error(f"there is no ramp {ramp!r}; there are {', '.join(RAMPS)}.")
    if ramp == "published":
        return relu(x * scale) - relu(x - 1 / fraction(scale)) * scale
    return relu(x * scale) - relu(x * scale - 1)


def larger(x: Operand, y: Operand, scale: Number = SCALE, ramp: str = "whole") -> Value:
    """1 where x > y (by 1 / scale), 0 where x <= y; arguments as of `step`."""
    return step(as_value(x) - y, scale, ramp)


def smaller(x: Operand, y: Operand, scale: Number = SCALE, ramp: str = "whole") -> Value:
    """1 where x < y (by 1 / scale), 0 where x >= y; arguments as of `step`."""
    return step(as_value(y) - x, scale, ramp)


def exceeds(x: Operand, y: Operand) -> Value:
    """1 where the whole number x is larger than the whole number y, 0 elsewhere, though either be off by an eighth.

    Its ramp of slope 2 takes small errors out, where one of slope 1000 makes large ones of them; its numbers are few bits long.
    """
    return larger(x, as_value(y) + Fraction(1, 4), scale=2)


def bump(x: Operand, low: Operand, high: Operand, scale: Number = SCALE, ramp: str = "whole") -> Value:
    """1 where low < x <= high, up to 1 / scale, 0 elsewhere; arguments as of `step`."""
    return larger(x, low, scale, ramp) - larger(x, high, scale, ramp)


def equal(x: Operand, y: Operand, scale: Number = SCALE) -> Value:
    """1 where the whole numbers x and y are one, 0 where they differ."""
    return bump(as_value(x) - y, Fraction(-1, 2), Fraction(1, 2), scale)


def differ(x: Operand, y: Operand, scale: Number = SCALE) -> Value:
    """1 where the whole numbers x and y differ, 0 where they are one."""
    return 1 - equal(x, y, scale)


def invert(x: Operand) -> Value:
    """1 - x: not, of what is 0 or 1."""
    return 1 - as_value(x)


def both(*conditions: Operand) -> Value:
    """1 where all are 1: ReLU of their sum less all but one of them; of what is 0 or 1."""
    values = [as_value(each) for each in conditions]
    if len(values) < 2:
        raise error("both takes two conditions or more.")
    return relu(_sum(values) - (len(values) - 1))


def either(*conditions: Operand) -> Value:
    """1 where at least one is 1; of what is 0 or 1."""
    values = [as_value(each) for each in conditions]
    if len(values) < 2:
        raise error("either takes two conditions or more.")
    return 1 - relu(1 - _sum(values))


def if_else(
    condition: Operand,
    then: Operand,
    otherwise: Operand = 0,
    *,
    form: str = "multiplicative",
    large: Number = LARGE,
    scale: Number = SCALE,
) -> Value:
    """`then` where the condition is 1, `otherwise` where it is 0.

    **Arguments:** form: one of `CONDITIONALS`, as published.

    - "multiplicative": c t + (1 - c) o: exact, and needs an architecture with products.
    - "direct": ReLU(o - L c) - ReLU(-o - L c) and likewise of t with 1 - c: no product; what c is off 0 or 1 is multiplied by L.
    - "step": the same behind a step of c - 1/2, which takes small errors out of c.
    - "optimised": ReLU(t - L (1 - c)) + ReLU(o - L c): half of it, for branches that are not negative.

    large: L, above the size of both branches.

    **Raises:** `InputError`, with file and line, for another form.
    """
    condition, then, otherwise = as_value(condition), as_value(then), as_value(otherwise)
    width = max(condition.width, then.width, otherwise.width)
    condition, then, otherwise = (broadcast(each, width) for each in (condition, then, otherwise))
    if form not in CONDITIONALS:
        raise error(f"there is no conditional {form!r}; there are {', '.join(CONDITIONALS)}.")
    if form == "multiplicative":
        return condition * then + (1 - condition) * otherwise
    no = large * (1 - condition) if form != "step" else large * (1 - step(condition - Fraction(1, 2), scale))
    yes = large * condition if form != "step" else large * (1 - step(Fraction(1, 2) - condition, scale))
    positive = relu(then - no) + relu(otherwise - yes)
    return positive if form == "optimised" else positive - relu(-then - no) - relu(-otherwise - yes)


def unless(condition: Operand, x: Operand, large: Number = LARGE) -> Value:
    """x, which is not negative, where the condition is 0, and 0 where it is 1: ReLU(x - L c).

    Half of the "optimised" conditional. Where c is a step that is 0 since both of its ReLUs are, it is 0 exactly, whatever noise
    there is in its numbers; 1 - c is not, which is why the published programs compute the condition's opposite as a step.
    """
    condition, x = as_value(condition), as_value(x)
    width = max(condition.width, x.width)
    return relu(broadcast(x, width) - large * broadcast(condition, width))


def constant_like(x: Value, number: Number) -> Value:
    """The number, as wide as x."""
    return x * 0 + number


def counter(every: Operand = 1, start: Number = 0, name: str = "counter") -> Value:
    """How often, or how much of it: start + every_1 + ... + every_t."""
    return state(as_value(every), start=start, name=name)


def cycle(n: int, form: str = "rotation", first: int = 0, name: str = "cycle", ramp: str = "whole") -> Value:
    """One-hot, (n,): entry (first + t - 1) mod n is 1 at token t.

    **Arguments:** form: "rotation", a unit vector turned by 1 / n of a circle at each token, and steps that see where it is, as
    published; "ring", n entries that move on by one place, which is exact in any arithmetic. ramp: of the rotation's steps.

    **Raises:** `InputError`, with file and line, for another form.
    """
    n = whole_number("the length of a cycle", n)
    if form == "ring":
        ring = Register(n, [int(i == (first - 1) % n) for i in range(n)], name)
        return ring.becomes(Linear(ring, [{(i - 1) % n: Fraction(1)} for i in range(n)]))
    if form != "rotation":
        raise error(f"there is no cycle {form!r}; there are rotation and ring.")
    cosine, sine = (lambda i: _cosine(4 * i, n)), (lambda i: _cosine(4 * i - n, n))
    turn = Register(2, [cosine(first - 1), sine(first - 1)], name)
    at = turn.becomes(Linear(turn, [{0: cosine(1), 1: -sine(1)}, {0: sine(1), 1: cosine(1)}]))
    if n == 1:
        return 1 + 0 * at[0]
    along = Linear(at, [{0: cosine(i), 1: sine(i)} for i in range(n)])
    return larger(along, fraction(math.cos(math.pi / n)), scale=100 * n * n, ramp=ramp)


def modulo(n: int, form: str = "rotation", first: int = 0, name: str = "modulo", ramp: str = "whole") -> Value:
    """(first + t - 1) mod n at token t, a whole number; arguments as of `cycle`."""
    return Linear(cycle(n, form, first, name, ramp), [{i: Fraction(i) for i in range(n) if i}])


def remainder(x: Operand, n: int, largest: int, base: int = 4) -> Value:
    """x modulo n, of a whole number x from 0 to `largest`.

    As on paper: as many times n base^k as fit are taken off, then as many times n base^(k-1), down to n; what is left is the
    remainder. Every power is a layer of ReLUs, with 2 (base - 1) of them, and no state: where no state may turn, what a
    `cycle` counts is counted by this, up to a largest number.
    """
    left, n, base = as_value(x), whole_number("n", n), whole_number("base", base)
    largest = whole_number("largest", largest)
    if base < 2:
        raise error("the base of a division is 2 or more.")
    sizes = [n]
    while sizes[-1] * base <= largest:
        sizes.append(sizes[-1] * base)
    for size in reversed(sizes):
        times = [exceeds(left, size * m - 1) for m in range(1, min(base - 1, largest // size) + 1)]
        left = left - size * _sum(times) if times else left
    return left


def one_hot(x: Operand, n: int, scale: Number = SCALE) -> Value:
    """(n,): entry i is 1 where the whole number x is i."""
    x = as_value(x)
    if x.width != 1:
        raise error(f"one_hot takes one number; got {x.width}.")
    return equal(broadcast(x, n), list(range(n)), scale)


def look_up(x: Operand, table: Sequence[Any], scale: Number = SCALE) -> Value:
    """Row x of a table of numbers, x a whole number from 0; 0 beyond its end."""
    rows = [list(row) if isinstance(row, (list, tuple)) else [row] for row in table]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise error("a table needs at least one row, and rows of one length.")
    columns = [{i: fraction(row[j]) for i, row in enumerate(rows) if row[j] != 0} for j in range(len(rows[0]))]
    return Linear(one_hot(x, len(rows), scale), columns)


def select(chosen: Operand, values: Operand, form: str = "multiplicative", **options: Any) -> Value:
    """The entry of `values` where the one-hot `chosen` is 1."""
    return summed(if_else(chosen, values, 0, form=form, **options))


def delay(x: Operand, by: int = 1, form: str = "shift", name: str = "delay") -> Value:
    """x of `by` tokens ago; 0 before the first.

    **Arguments:** form: "shift", a register that is read before it is written, for any x; "digits", for x of 0s and 1s: a number
    whose digits in base 3 are x_t, x_{t-1}, ..., of which a step reads one after the other. A shift needs a state matrix
    that has no eigenvectors; digits, one decay of 1/3, which every recurrence can have, and ReLUs.

    **Raises:** `InputError`, with file and line, for another form.
    """
    x = as_value(x)
    return shift_register(x, whole_number("a delay", by) + 1, form, name)[-x.width :]


def shift_register(x: Operand, length: int, form: str = "shift", name: str = "shift") -> Value:
    """x_t, x_{t-1}, ..., `length` of them one behind the other, 0 before the first; forms as of `delay`."""
    x = as_value(x)
    length = whole_number("the length of a shift register", length)
    seen = [x]
    if form == "shift":
        while len(seen) < length:
            kept = Register(x.width, name=f"{name} {len(seen)}")
            kept.becomes(seen[-1])
            seen.append(kept)
    elif form == "digits":
        # A state below 3/2 is off by 15/8 of an epsilon, each digit that is read makes that 3 times as much, and 3/8 more; a step
        # is right while it is off by less than 1/8.
        roundoff = Fraction(1, 18) / 3 ** (length - 1) if length > 1 else None
        rest = state(x, a=[{i: Fraction(1, 3)} for i in range(x.width)], name=name, roundoff=roundoff)
        while len(seen) < length:
            # What is left after x_t is in [0, 1/2] where the next digit is 0 and in [1, 3/2] where it is 1, once times 3.
            rest = (rest - seen[-1]) * 3
            seen.append(step(rest - Fraction(3, 4), scale=8))
    else:
        raise error(f"there is no delay {form!r}; there are shift and digits.")
    return concat(*seen)


def running_maximum(x: Operand, largest: int, name: str = "maximum") -> Value:
    """The largest of x_1, ..., x_t, whole numbers from 0 to `largest`: how many of 1, ..., largest were reached at all."""
    x = as_value(x)
    reached = larger(broadcast(x, largest), [Fraction(2 * i + 1, 2) for i in range(largest)])
    return summed(1 - relu(1 - state(reached, name=name)))


def first_token(name: str = "first") -> Value:
    """1 at the first token, 0 at all others."""
    return relu(2 - counter(1, name=name))


def _cosine(quarters: int, n: int) -> Fraction:
    """cos(2 pi quarters / (4 n)), exactly so where it is 0, 1 or -1, and floating point has 6e-17."""
    if quarters % n == 0:
        return Fraction((1, 0, -1, 0)[quarters // n % 4])
    return fraction(math.cos(math.pi * quarters / (2 * n)))


def _sum(values: Sequence[Value]) -> Value:
    found = values[0]
    for value in values[1:]:
        found = total(found, value)
    return found
