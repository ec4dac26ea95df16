"""The vocabulary of a program: values that each token has, and registers, which alone go from token to token.

A program is written in plain Python. Every operator makes a node of one graph, which is run for each token; numbers are kept
as the fractions that they are, so that what is compiled can be compared with what was written without any rounding.

**Source:** LSRL, Petrov et al. 2024 (arXiv 2406.01424), Sec. 3. Deviates: a `Register` may be read, too, before it is
written, and several may write each other, as long as it is linear; LSRL's state is `state`, made of one.
"""

import itertools
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias, Union

import numpy as np

from dualform.errors import InputError
from dualform.programs.ranges import Range

Number: TypeAlias = int | float | Fraction
Row: TypeAlias = dict[int, Fraction]
"""A row of a matrix: its entries that are not 0, by column."""

Operand: TypeAlias = Union["Value", int, float, Fraction, Sequence[Any], np.ndarray]
"""What an operator takes: a value, or the numbers of a constant."""

_counter = itertools.count()
_INSIDE = {str(Path(__file__).with_name(name)) for name in ("values.py", "sugar.py")}


class Value:
    """A vector that every token has.

    Operators: `+`, `-`, `*` of two values (entry by entry) or with a number, `/` by a number, `-x`, and `x[i]`, `x[i:j]` of
    its entries. A value of one entry fits every width; so does a number.

    - width: of how many numbers.  operands: the values that it is made of.  place: file and line where it was written.
    """

    def __init__(self, width: int, operands: Sequence["Value"] = (), name: str = ""):
        self.width, self.operands, self.name, self.place = width, tuple(operands), name, written_at()
        self.order = next(_counter)

    def __repr__(self) -> str:
        return f"{self.name or type(self).__name__}({self.width})"

    def __len__(self) -> int:
        return self.width

    def __add__(self, other: Operand) -> "Value":
        return total(self, other)

    def __radd__(self, other: Operand) -> "Value":
        return total(other, self)

    def __sub__(self, other: Operand) -> "Value":
        return total(self, -as_value(other))

    def __rsub__(self, other: Operand) -> "Value":
        return total(other, -self)

    def __neg__(self) -> "Value":
        return Linear(self, [{i: Fraction(-1)} for i in range(self.width)])

    def __mul__(self, other: Operand) -> "Value":
        other = as_value(other)
        if isinstance(other, Constant) or isinstance(self, Constant):
            constant, value = (other, self) if isinstance(other, Constant) else (self, other)
            assert isinstance(constant, Constant)
            value, entries = broadcast(value, constant.width), constant.entries
            entries = entries * value.width if len(entries) == 1 else entries
            fits("*", value.width, len(entries))
            return Linear(value, [{i: entry} if entry else {} for i, entry in enumerate(entries)])
        left, right = broadcast(self, other.width), broadcast(other, self.width)
        fits("*", left.width, right.width)
        return Product(left, right)

    def __rmul__(self, other: Operand) -> "Value":
        return self * other

    def __truediv__(self, other: Any) -> "Value":
        if isinstance(other, Value):
            raise error("a value can be divided by a number only: no layer of these networks divides.")
        by = fraction(other)
        if by == 0:
            raise error("a value is divided by 0.")
        return self * (1 / by)

    def __rtruediv__(self, other: Any) -> "Value":
        raise error("nothing can be divided by a value: no layer of these networks divides.")

    def __getitem__(self, index: Any) -> "Value":
        if isinstance(index, int):
            if not -self.width <= index < self.width:
                raise error(f"there is no entry {index} in a value of {self.width}.")
            index = slice(index % self.width, index % self.width + 1)
        if not isinstance(index, slice):
            raise error(f"entries are taken as x[i] or x[i:j]; got {type(index).__name__}.")
        columns = range(self.width)[index]
        if not columns:
            raise error(f"x[{index.start}:{index.stop}] of a value of {self.width} is empty.")
        return Slice(self, columns)

    def __iter__(self):
        return (self[i] for i in range(self.width))

    def __bool__(self) -> bool:
        raise error(
            "a value has no truth in Python: it differs from token to token. Use if_else, both and either in place of if, and "
            "and or."
        )

    __hash__ = object.__hash__


class Input(Value):
    """What comes in with each token, `width` numbers. A program has one.

    **Arguments:** width.  low, high: what they are at the least and at the most, one number or (width,).  whole: that they are
    whole numbers. What is said here is held to, and lets networks that decide by saturation do it with fewer layers: of whole
    numbers a step is never halfway. Nothing said is nothing assumed.

    **Raises:** `InputError`, with file and line, where low is above high.
    """

    def __init__(self, width: int = 1, *, low: Any = None, high: Any = None, whole: bool = False):
        super().__init__(whole_number("the width of an input", width), name="input")
        lows, highs = (
            (None,) * self.width if bound is None else vector(bound, self.width, name)
            for bound, name in ((low, "low"), (high, "high"))
        )
        self.ranges = tuple(
            Range(low, high, Fraction(0), Fraction(1) if whole else None) for low, high in zip(lows, highs, strict=True)
        )
        for each in self.ranges:
            if each.low is not None and each.high is not None and each.low > each.high:
                raise error(f"an input is at least {each.low} and at most {each.high}: there is no such number.")


class Constant(Value):
    """The same numbers at every token."""

    def __init__(self, entries: Any):
        found = np.ravel(np.asarray(entries, dtype=object))
        if not len(found):
            raise error("a constant needs at least one number.")
        super().__init__(len(found), name="constant")
        self.entries = tuple(fraction(entry) for entry in found)


class Linear(Value):
    """A x + b.

    **Arguments:** x: a value; a: (width, x.width), numbers, or for each row its entries by column; b: (width,), 0 if not given.

    **Raises:** `InputError`, with file and line, where shapes do not fit or a number is not finite.
    """

    def __init__(self, x: Operand, a: Any, b: Any = None, name: str = ""):
        x = as_value(x)
        self.rows = matrix(a, x.width, "A")
        super().__init__(len(self.rows), (x,), name)
        self.bias = vector(b, self.width, "b")


class ReLU(Value):
    """max(x, 0), entry by entry."""

    def __init__(self, x: Operand):
        x = as_value(x)
        super().__init__(x.width, (x,))


class Product(Value):
    """x * y, entry by entry: what a multiplicative gate does."""

    def __init__(self, x: Value, y: Value):
        fits("*", x.width, y.width)
        super().__init__(x.width, (x, y))


class Concat(Value):
    """Values one behind the other."""

    def __init__(self, values: Sequence[Operand]):
        parts = [as_value(value) for value in values]
        if not parts:
            raise error("concat needs at least one value.")
        super().__init__(sum(part.width for part in parts), parts)


class Slice(Value):
    """Some entries of a value."""

    def __init__(self, x: Value, columns: Sequence[int]):
        super().__init__(len(columns), (x,))
        self.columns = tuple(columns)


class Register(Value):
    """What goes from token to token. Read, it is what was written at the token before; `now` is what is written at this one.

        count = Register(1)
        count.becomes(count + x)        # count.now is x_1 + ... + x_t, count the same without x_t

    What it becomes must be linear in every register that leads to itself: only such a state can be a network's. A program that
    breaks this is refused, with the place where.

    **Arguments:** width; start: (width,), what is read at the first token, 0 if not given; roundoff: the largest epsilon of
    floating point with which what is read from it is right, None where any is; what is coarser is refused when it is compiled.
    """

    def __init__(self, width: int = 1, start: Any = None, name: str = "register", roundoff: Number | None = None):
        width = whole_number("the width of a register", width)
        super().__init__(width, name=name)
        self.start = vector(start, width, "start")
        self.roundoff = roundoff
        self.update: Value | None = None

    def becomes(self, value: Operand) -> "Value":
        """Say what is written at each token; gives `now`.

        **Raises:** `InputError` where it is said twice, or the widths differ.
        """
        if self.update is not None:
            raise error(f"what {self.name} becomes is said twice; the first time in {self.update.place}.")
        value = broadcast(as_value(value), self.width)
        if value.width != self.width:
            raise error(f"{self.name} is {self.width} wide; what it becomes, {value.width}.")
        self.update = value
        return self.now

    @property
    def now(self) -> "Value":
        """What is written at this token."""
        return Now(self)


class Now(Value):
    """What a register is written at this token."""

    def __init__(self, register: Register):
        super().__init__(register.width, (), register.name)
        self.register = register


def state(
    x: Operand,
    a: Any = None,
    b: Any = None,
    bias: Any = None,
    start: Any = None,
    name: str = "state",
    roundoff: Number | None = None,
) -> Value:
    """s_t = A s_{t-1} + B x_t + bias, the linear state; read after it was written.

    **Arguments:** a: (n, n), the identity if not given; b: (n, x.width), the identity if not given; bias, start: (n,), 0 if not
    given; start is s_0; roundoff: as of a `Register`.

    **Raises:** `InputError`, with file and line, where shapes do not fit.
    """
    x = as_value(x)
    driven = x if b is None else Linear(x, b)
    n = driven.width
    rows = matrix([{i: Fraction(1)} for i in range(n)] if a is None else a, n, "A")
    if len(rows) != n:
        raise error(f"A has {len(rows)} rows; what drives the state is {n} wide, and A must be {(n, n)}.")
    register = Register(n, start, name, roundoff)
    return register.becomes(Linear(register, rows, vector(bias, n, "bias")) + driven)


def concat(*values: Operand) -> Value:
    """Values one behind the other; one is itself."""
    return as_value(values[0]) if len(values) == 1 else Concat(values)


def relu(x: Operand) -> Value:
    """max(x, 0), entry by entry."""
    return ReLU(x)


def summed(x: Operand) -> Value:
    """The sum of the entries of a value."""
    x = as_value(x)
    return Linear(x, [{i: Fraction(1) for i in range(x.width)}])


def total(x: Operand, y: Operand) -> Value:
    """x + y."""
    x, y = as_value(x), as_value(y)
    x, y = broadcast(x, y.width), broadcast(y, x.width)
    fits("+ or -", x.width, y.width)
    n, one = x.width, Fraction(1)
    if isinstance(y, Constant):
        return Linear(x, [{i: one} for i in range(n)], y.entries)
    if isinstance(x, Constant):
        return Linear(y, [{i: one} for i in range(n)], x.entries)
    return Linear(Concat([x, y]), [{i: one, n + i: one} for i in range(n)])


def broadcast(x: Value, width: int) -> Value:
    """A value of one entry, `width` times; any other as it is."""
    if x.width != 1 or width == 1:
        return x
    if isinstance(x, Constant):
        return Constant(x.entries * width)
    return Linear(x, [{0: Fraction(1)}] * width)


def as_value(x: Operand) -> Value:
    """A value as it is; numbers as a constant."""
    return x if isinstance(x, Value) else Constant(x)


def fraction(x: Any) -> Fraction:
    """The number as the fraction that it is: a float is one, too.

    **Raises:** `InputError`, with file and line, for what is no finite number.
    """
    x = x.item() if isinstance(x, np.generic) else x
    if not isinstance(x, int | float | Fraction) or x != x or x in (float("inf"), -float("inf")):
        raise error(f"a program's numbers are finite real numbers; got {x!r}.")
    return Fraction(x)


def matrix(a: Any, columns: int, name: str) -> tuple[Row, ...]:
    """The rows of a matrix, each as its entries that are not 0."""
    if isinstance(a, (list, tuple)) and a and all(isinstance(row, dict) for row in a):
        rows = tuple({int(j): fraction(entry) for j, entry in row.items() if entry != 0} for row in a)
        if any(not 0 <= j < columns for row in rows for j in row):
            raise error(f"a row of {name} has an entry beyond column {columns - 1}.")
        return rows
    found = np.asarray(a, dtype=object)
    if found.ndim == 0:
        found = found.reshape(1, 1)
    if found.ndim != 2 or found.shape[1] != columns or not len(found):
        raise error(f"{name} has shape {found.shape}; what it multiplies is {columns} wide: it must be (n, {columns}).")
    return tuple({j: fraction(entry) for j, entry in enumerate(row) if entry != 0} for row in found)


def vector(b: Any, width: int, name: str) -> tuple[Fraction, ...]:
    """So many numbers; 0 if there are none, and one number for all of them."""
    if b is None:
        return (Fraction(0),) * width
    found = np.ravel(np.asarray(b, dtype=object))
    if len(found) == 1:
        return (fraction(found[0]),) * width
    if len(found) != width:
        raise error(f"{name} has {len(found)} numbers; it must have {width}.")
    return tuple(fraction(entry) for entry in found)


def whole_number(what: str, n: Any) -> int:
    """A number of things, at least 1."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise error(f"{what} must be a whole number, at least 1; got {n!r}.")
    return int(n)


def fits(operator: str, left: int, right: int) -> None:
    """Raise unless two widths are one."""
    if left != right:
        raise error(f"{operator} takes values of one width, or of one entry; got {left} and {right}.")


def error(message: str) -> InputError:
    """The error, with the line of the user's file in front."""
    return InputError(f"{written_at()}: {message}")


def written_at() -> str:
    """File and line of the innermost call from outside the language."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _is_inside(frame: FrameType) -> bool:
    """Whether a call is the language's own, or that of a checker of types which wraps it."""
    checker = str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("jaxtyping", "beartype")
    return checker or frame.f_code.co_filename in _INSIDE or frame.f_code.co_filename.startswith("<@beartype")
