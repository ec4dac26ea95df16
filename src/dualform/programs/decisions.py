"""A graph in terms of decisions: what a saturated unit gives exactly, told apart from what has to pass a number on.

A tanh or a sigmoid that is given something large is 1 or 0, and nothing between. So a step of a number that is never within its
ramp is one unit; and where nothing says so, a ramp is a number that is let through while it is between 0 and 1.
Everything here is exact: what is found gives what the graph gave, to the fraction, for all inputs that are what they are said
to be.

- ReLUs of one number at several places, as steps and bumps have, are ramps between these places; the last ReLU, which is where
  the sum would grow, goes as soon as everything that reads it has taken the difference.
- A ReLU or a ramp of a number of a lattice that has few points on its slope is a sum of `Threshold`s.
- A ramp of what comes round by itself, whatever the input, as a point on a circle does, and is never on its slope, is a
  `Threshold`: followed for `FOLLOWED` tokens.
- A product with a number of few values is a sum of `Gated`s.
- A large constant that shuts a ReLU, of which a bit says whether it is there, is as large as it has to be and no larger; where
  nothing says how large that is, it is never added and taken away again, L c - L, but times the opposite of c, which is 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from dualform.programs.bounds import of_block, of_form
from dualform.programs.graph import Atom, Block, Form, Graph, Relu, Times, atom_form, combined
from dualform.programs.ranges import Range, exactly

FEW = 8
"""So many thresholds at most stand for one ReLU, ramp or product."""

FOLLOWED = 2**12
"""Tokens for which what does not depend on the input is followed; what takes longer to come round is taken for any number."""

HEAVY = 2**6
"""A factor that is so many times another one counts as large beside it: what it leaves is rounded to as many digits less."""

BIT = Range(Fraction(0), Fraction(1), Fraction(0), Fraction(1))


@dataclass(frozen=True)
class Threshold:
    """1 where form >= 1, 0 where form <= -1; it is never between."""

    form: Form
    place: str = ""
    size = 1

    @property
    def forms(self) -> tuple[Form, ...]:
        """What it reads."""
        return (self.form,)


@dataclass(frozen=True)
class Ramp:
    """min(max(form, 0), 1)."""

    form: Form
    place: str = ""
    size = 1

    @property
    def forms(self) -> tuple[Form, ...]:
        """What it reads."""
        return (self.form,)


@dataclass(frozen=True)
class Gated:
    """value where gate >= 1, 0 where gate <= -1; gate is never between."""

    gate: Form
    value: Form
    place: str = ""
    size = 1

    @property
    def forms(self) -> tuple[Form, ...]:
        """What it reads."""
        return (self.gate, self.value)


Single: TypeAlias = Threshold | Ramp | Gated | Relu | Times
Decision: TypeAlias = Single | Block


@dataclass(frozen=True)
class Decisions:
    """Steps in an order that can be run; atoms are numbered as in a `Graph`.

    - ranges: of each atom.
    """

    width: int
    steps: tuple[Decision, ...]
    outputs: tuple[Form, ...]
    ranges: tuple[Range, ...]

    @property
    def first(self) -> tuple[Atom, ...]:
        """The first atom of each step."""
        found, at = [], self.width
        for step in self.steps:
            found.append(at)
            at += step.size
        return tuple(found)


def decided(graph: Graph) -> Decisions:
    """The graph's decisions; its states start at 0."""
    draft = _Draft([*(graph.declared or (Range(),) * graph.width)])
    to: dict[Atom, Form] = {i: atom_form(i) for i in range(graph.width)}
    slopes = _slopes(graph)
    for first, step in zip(graph.first, graph.steps, strict=True):
        if first in to:  # with another place of the same slope
            continue
        forms = [form.moved(to) for form in step.forms]
        if isinstance(step, Block):
            at = draft.add(replace(step, drive=tuple(forms)))
            to |= {first + i: atom_form(at + i) for i in range(step.size)}
        elif isinstance(step, Times):
            to[first] = draft.product(forms[0], forms[1], step.place)
        elif first in slopes:
            to |= draft.slope(slopes[first], forms[0], step.place)
        else:
            to[first] = draft.relu(forms[0], step.place)
    return _used(draft, graph.width, [form.moved(to) for form in graph.outputs])


def _slopes(graph: Graph) -> dict[Atom, list[tuple[Atom, Fraction, Fraction]]]:
    """ReLUs of one number at several places, by the first of their atoms: (atom, size, place), by place.

    Such a ReLU is size * max(x - place, 0), and x is the same for all.
    """
    found: dict[tuple, list[tuple[Atom, Fraction, Fraction]]] = {}
    for first, step in zip(graph.first, graph.steps, strict=True):
        if isinstance(step, Relu) and step.form.terms:
            size = abs(step.form.terms[min(step.form.terms)])
            line = Form(step.form.terms).times(1 / size)
            found.setdefault(line.key, []).append((first, size, -step.form.constant / size))
    return {each[0][0]: sorted(each, key=lambda place: place[2]) for each in found.values() if len(each) > 1}


@dataclass
class _Draft:
    """Steps so far, the range of each atom, the steps by their first atoms, and by what they are.

    - clocks: of atoms that do not depend on the input, what they are at each token.
    """

    ranges: list[Range]
    steps: list[Decision] = field(default_factory=list)
    made: dict[Atom, Decision] = field(default_factory=dict)
    seen: dict[tuple, Atom] = field(default_factory=dict)
    clocks: dict[Atom, np.ndarray] = field(default_factory=dict)

    def add(self, step: Decision) -> Atom:
        """The first atom of a step, which may be there already."""
        key = None
        if not isinstance(step, Block):
            key = (type(step).__name__, *(form.key for form in step.forms))
            if key in self.seen:
                return self.seen[key]
        at = len(self.ranges)
        forms = [self.range(form) for form in step.forms]
        if isinstance(step, Block):
            self.ranges += of_block(step, forms)
        elif isinstance(step, Threshold):
            self.ranges.append(BIT)
        elif isinstance(step, Ramp):
            self.ranges.append(Range(Fraction(0), Fraction(1)))
        elif isinstance(step, Gated):
            self.ranges.append(forms[1].joined(exactly(Fraction(0))))
        elif isinstance(step, Relu):
            self.ranges.append(forms[0].positive)
        else:
            self.ranges.append(forms[0].product(forms[1]))
        self.steps.append(step)
        self.made[at] = step
        if all(atom in self.clocks for form in step.forms for atom in form.terms):
            one = np.ones((1, FOLLOWED))
            found = given(step, [valued(form, self.clocks, one) for form in step.forms])
            self.clocks |= {at + i: each for i, each in enumerate(found)}
        if key is not None:
            self.seen[key] = at
        return at

    def range(self, form: Form) -> Range:
        return of_form(form, self.ranges)

    def threshold(self, form: Form, point: Fraction, below: Fraction, place: str) -> Form:
        """1 where the form is at least at a point, 0 where it is at most at the one below; it is never between."""
        middle, half = (point + below) / 2, (point - below) / 2
        form = combined([(1 / half, form)], -middle / half)
        found = self.range(form)
        if found.ends[0] >= 1 or found.ends[1] <= -1:
            return Form({}, Fraction(found.ends[0] >= 1))
        if found.points(2) == [-1, 1]:
            return combined([(Fraction(1, 2), form)], Fraction(1, 2))
        return atom_form(self.add(Threshold(form, place)))

    def stairs(
        self, form: Form, height: Callable[[Fraction], Fraction], points: Sequence[Fraction], place: str
    ) -> Form:
        """The sum of thresholds that is height(form), which is 0 below the first of a lattice's neighbouring points."""
        step, found, below = self.range(form).step, Form(), Fraction(0)
        assert step
        for point in points:
            rise, below = height(point) - below, height(point)
            found = found + self.threshold(form, point, point - step, place).times(rise)
        return found

    def relu(self, form: Form, place: str) -> Form:
        """max(form, 0)."""
        form = self.opposed(self.tightened(form))
        found = self.range(form)
        low, high = found.ends
        if high <= 0 or low >= 0:
            return Form() if high <= 0 else form
        points = found.points(FEW, found.above(Fraction(0))) if found.step else None
        if points is not None:
            return self.stairs(form, lambda x: x, points, place)
        return atom_form(self.add(Relu(form, place)))

    def ramp(self, form: Form, place: str) -> Form:
        """min(max(form, 0), 1)."""
        form = self.opposed(self.tightened(form))
        found, one = self.range(form), Fraction(1)
        low, high = found.ends
        if high <= 0 or low >= 1:
            return Form({}, Fraction(low >= 1))
        if low >= 0 and high <= 1:
            return form
        points = found.points(FEW, found.above(Fraction(0)), found.at_least(one)) if found.step else None
        if points is not None:
            return self.stairs(form, lambda x: min(x, one), points, place)
        if self.comes_round(form):
            return atom_form(self.add(Threshold(combined([(Fraction(2), form)], -one), place)))
        return atom_form(self.add(Ramp(form, place)))

    def comes_round(self, form: Form) -> bool:
        """Whether a form depends on no input, and is again and again what it was, and never between 0 and 1."""
        if any(atom not in self.clocks for atom in form.terms):
            return False
        values = valued(form, self.clocks, np.ones((1, FOLLOWED)))[0]
        early, late = np.sort(values[: FOLLOWED // 2]), values[FOLLOWED // 2 :]
        at = np.clip(np.searchsorted(early, late), 1, len(early) - 1)
        again = np.minimum(np.abs(late - early[at - 1]), np.abs(late - early[at])) <= 1e-6
        return bool(np.all(again) and not np.any((values > 1e-6) & (values < 1 - 1e-6)))

    def slope(self, places: Sequence[tuple[Atom, Fraction, Fraction]], form: Form, place: str) -> dict[Atom, Form]:
        """ReLUs of one number as ramps between their places, and a ReLU at the last one.

        max(x - p_k, 0) is the sum over the places from p_k on of min(max(x - p_i, 0), p_{i+1} - p_i), and max(x - p_last, 0).
        """
        first, size, at = min(places)  # that whose form is given
        line = combined([(1 / size, form)], at)
        found: dict[Atom, Form] = {}
        above = Form()
        for (atom, size, here), (*_, then) in zip(places[::-1], [places[-1], *places[:0:-1]], strict=True):
            moved = line + Form({}, -here)
            width = then - here
            part = self.ramp(moved.times(1 / width), place).times(width) if width else Form()
            above = above + (part if found else self.relu(moved, place))
            found[atom] = above.times(size)
        return found

    def product(self, left: Form, right: Form, place: str) -> Form:
        """left * right."""
        few: list[tuple[list[Fraction], Form, Form]] = []
        for gate, value in ((left, right), (right, left)):
            points = self.range(gate).points(FEW + 1)
            if points is not None:
                few.append((points, gate, value))
        if not few:
            return atom_form(self.add(Times(left, right, place)))
        points, gate, value = min(few, key=lambda each: len(each[0]))
        found = value.times(points[0])
        for below, point in zip(points, points[1:], strict=False):
            found = found + self.gated(gate, point, below, value, place).times(point - below)
        return found

    def gated(self, gate: Form, point: Fraction, below: Fraction, value: Form, place: str) -> Form:
        """The value where the gate is at least at a point, 0 where it is at most at the one below."""
        values = self.range(value).points(FEW + 1)
        if values is None:
            middle, half = (point + below) / 2, (point - below) / 2
            return atom_form(self.add(Gated(combined([(1 / half, gate)], -middle / half), value, place)))
        # A value of few points is their sum of thresholds, each at a point and with the gate open.
        open_ = self.threshold(gate, point, below, place)
        room = values[-1] - values[0]
        both = combined([(Fraction(1), value), (room, open_)], -values[0] - room)
        return open_.times(values[0]) + self.relu(both, place)

    def tightened(self, form: Form) -> Form:
        """A form with the same max(form, 0), and the same ramp, in which bits shut no more than they have to.

        Where a bit at one of its values takes the form below 0 whatever the rest is, it may as well take it to 0 at the most.
        """
        for atom in sorted(form.terms):
            if self.ranges[atom] != BIT:
                continue
            factor = form.terms[atom]
            rest = Form({other: a for other, a in form.terms.items() if other != atom}, form.constant)
            shut = rest if factor > 0 else rest + Form({}, factor)  # where the bit takes it down
            most = self.range(shut).ends[1]
            if most < 0:
                assert isinstance(most, Fraction)
                more = min(-most, abs(factor))
                if factor > 0:
                    rest, factor = rest + Form({}, more), factor - more
                else:
                    factor += more
                form = rest + Form({atom: factor} if factor else {})
        return form

    def opposed(self, form: Form) -> Form:
        """The form, large multiples of bits and ramps as those of their opposites, if a large constant goes with that."""
        small = min((abs(factor) for factor in form.terms.values()), default=Fraction(0))
        for atom in sorted(form.terms):
            factor, opposite = form.terms.get(atom, Fraction(0)), self.opposite(atom)
            if (
                opposite
                and factor
                and abs(factor) >= HEAVY * small
                and abs(form.constant + factor) < abs(form.constant)
            ):
                form = combined([(Fraction(1), form), (-factor, atom_form(atom)), (-factor, opposite())], factor)
        return form

    def opposite(self, atom: Atom) -> Callable[[], Form] | None:
        """What gives 1 - atom as a decision of its own; None of what is none."""
        step = self.made.get(atom)
        if isinstance(step, Ramp):
            less = step.form.times(Fraction(-1)) + Form({}, Fraction(1))
            return lambda: atom_form(self.add(Ramp(less, step.place)))
        if self.ranges[atom] != BIT:
            return None
        less = step.form.times(Fraction(-1)) if isinstance(step, Threshold) else Form({atom: Fraction(-2)}, Fraction(1))
        return lambda: atom_form(self.add(Threshold(less, step.place if step else "")))


def _used(draft: _Draft, width: int, outputs: Sequence[Form]) -> Decisions:
    """Without the steps that nothing reads."""
    wanted = {atom for form in outputs for atom in form.terms}
    at, kept = len(draft.ranges), []
    for step in reversed(draft.steps):
        at -= step.size
        if wanted & set(range(at, at + step.size)):
            kept.append((at, step))
            wanted |= {atom for form in step.forms for atom in form.terms}
    to = {i: atom_form(i) for i in range(width)}
    ranges, steps = draft.ranges[:width], []
    for at, step in reversed(kept):
        forms = [form.moved(to) for form in step.forms]
        to |= {at + i: atom_form(len(ranges) + i) for i in range(step.size)}
        ranges += draft.ranges[at : at + step.size]
        steps.append(reading(step, forms))
    return Decisions(width, tuple(steps), tuple(form.moved(to) for form in outputs), tuple(ranges))


def evaluated(decisions: Decisions, inputs: np.ndarray) -> np.ndarray:
    """Every atom at every token, in the arithmetic of the inputs: floats, or `Fraction`s without any rounding.

    **Arguments:** inputs: (batch, time, width).

    **Returns:** (atoms, batch, time).
    """
    atoms = [inputs[..., i] for i in range(decisions.width)]
    one = np.ones_like(inputs[..., 0])
    for step in decisions.steps:
        atoms += given(step, [valued(form, atoms, one) for form in step.forms])
    return np.stack(atoms)


def given(step: Decision, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What a step gives of the values of its forms, (batch, time) each."""
    zero = values[0] * 0
    if isinstance(step, Block):
        number = (lambda x: x) if zero.dtype == object else float
        a, s = np.zeros((step.size, step.size), zero.dtype), np.stack([zero[:, 0]] * step.size, axis=1)
        for i, row in enumerate(step.matrix):
            for j, entry in row.items():
                a[i, j] = number(entry)
        drive, found = np.stack(values, axis=-1), []
        for t in range(zero.shape[1]):
            s = s @ a.T + drive[:, t]
            found.append(s)
        return list(np.moveaxis(np.stack(found, axis=1), -1, 0))
    if isinstance(step, Threshold):
        return [np.where(values[0] > 0, zero + 1, zero)]
    if isinstance(step, Gated):
        return [np.where(values[0] > 0, values[1], zero)]
    if isinstance(step, Times):
        return [values[0] * values[1]]
    positive = np.maximum(values[0], zero)
    return [np.minimum(positive, zero + 1) if isinstance(step, Ramp) else positive]


def valued(
    form: Form, atoms: Sequence[np.ndarray] | Mapping[Atom, np.ndarray] | np.ndarray, one: np.ndarray
) -> np.ndarray:
    """A form of such atoms."""
    number = (lambda x: x) if one.dtype == object else float
    found = one * number(form.constant)
    for atom, factor in form.terms.items():
        found = found + atoms[atom] * number(factor)
    return found


def reading(step: Decision, forms: Sequence[Form]) -> Decision:
    """A step that reads other forms."""
    if isinstance(step, Block):
        return replace(step, drive=tuple(forms))
    if isinstance(step, Times):
        return replace(step, left=forms[0], right=forms[1])
    if isinstance(step, Gated):
        return replace(step, gate=forms[0], value=forms[1])
    return replace(step, form=forms[0])
