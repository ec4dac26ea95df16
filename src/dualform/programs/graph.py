"""A program as the compiler sees it: atoms that are one number each, and affine forms of them.

Everything linear is folded into forms. What is left are units, each a ReLU or a product of forms, and blocks, each a linear
state s_t = A s_{t-1} + drive_t, in an order in which every form reads only what stands before it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeAlias

from dualform.programs.ranges import Range
from dualform.programs.values import Row

Atom: TypeAlias = int
"""A number that every token has, by its place: first the input's entries, then what each step gives, one behind the other."""


@dataclass(frozen=True)
class Form:
    """constant + sum of terms[atom] * atom; no term is 0."""

    terms: Mapping[Atom, Fraction] = field(default_factory=dict)
    constant: Fraction = Fraction(0)

    def __add__(self, other: "Form") -> "Form":
        terms = dict(self.terms)
        for atom, factor in other.terms.items():
            terms[atom] = terms.get(atom, Fraction(0)) + factor
        return Form({atom: factor for atom, factor in terms.items() if factor}, self.constant + other.constant)

    def times(self, factor: Fraction) -> "Form":
        """All of it times a number."""
        if not factor:
            return Form()
        return Form({atom: factor * each for atom, each in self.terms.items()}, factor * self.constant)

    def moved(self, to: Mapping[Atom, "Form"]) -> "Form":
        """The form with every atom replaced by a form."""
        return combined(((factor, to[atom]) for atom, factor in self.terms.items()), self.constant)

    @property
    def key(self) -> tuple:
        """Equal for equal forms."""
        return (self.constant, *sorted(self.terms.items()))

    @property
    def alone(self) -> Atom | None:
        """The one atom that it is, with factor 1 and nothing added; None otherwise."""
        if self.constant or len(self.terms) != 1:
            return None
        ((atom, factor),) = self.terms.items()
        return atom if factor == 1 else None


def combined(parts: Iterable[tuple[Fraction, Form]], constant: Fraction = Fraction(0)) -> Form:
    """The sum of forms times numbers."""
    terms: dict[Atom, Fraction] = {}
    for factor, form in parts:
        constant = constant + factor * form.constant
        for atom, each in form.terms.items():
            terms[atom] = terms.get(atom, Fraction(0)) + factor * each
    return Form({atom: factor for atom, factor in terms.items() if factor}, constant)


def atom_form(atom: Atom) -> Form:
    """The form that is one atom."""
    return Form({atom: Fraction(1)})


@dataclass(frozen=True)
class Relu:
    """max(form, 0).  place: file and line."""

    form: Form
    place: str = ""

    @property
    def forms(self) -> tuple[Form, ...]:
        """What it reads."""
        return (self.form,)

    @property
    def size(self) -> int:
        """How many atoms it gives."""
        return 1


@dataclass(frozen=True)
class Times:
    """left * right."""

    left: Form
    right: Form
    place: str = ""

    @property
    def forms(self) -> tuple[Form, ...]:
        """What it reads."""
        return (self.left, self.right)

    @property
    def size(self) -> int:
        """How many atoms it gives."""
        return 1


@dataclass(frozen=True)
class Block:
    """s_t = A s_{t-1} + drive_t, from s_0 = start; its atoms are s_t.

    - matrix: A, by row.  drive, start: one for each row.  name: as it was called.
    """

    matrix: tuple[Row, ...]
    drive: tuple[Form, ...]
    start: tuple[Fraction, ...]
    name: str = ""
    place: str = ""

    @property
    def forms(self) -> tuple[Form, ...]:
        """What it reads."""
        return self.drive

    @property
    def size(self) -> int:
        """How many atoms it gives."""
        return len(self.matrix)


Step: TypeAlias = Relu | Times | Block


@dataclass(frozen=True)
class Graph:
    """Steps in an order that can be run.

    - width: entries of an input, which are the first atoms.  outputs: a form for each entry of the output.
    - declared: what is known of each entry of an input; nothing where it is empty.
    """

    width: int
    steps: tuple[Step, ...]
    outputs: tuple[Form, ...]
    declared: tuple[Range, ...] = ()

    @property
    def first(self) -> tuple[Atom, ...]:
        """The first atom of each step."""
        found, at = [], self.width
        for step in self.steps:
            found.append(at)
            at += step.size
        return tuple(found)

    @property
    def atoms(self) -> int:
        """How many there are."""
        return self.width + sum(step.size for step in self.steps)

    @property
    def forms(self) -> tuple[Form, ...]:
        """Every form of it."""
        return tuple(form for step in self.steps for form in step.forms) + self.outputs

    def count(self, kind: type) -> int:
        """How many steps are of a kind."""
        return sum(isinstance(step, kind) for step in self.steps)

    def numbers(self) -> int:
        """How many numbers that are not 0 it is written with."""
        own = sum(len(row) for step in self.steps if isinstance(step, Block) for row in step.matrix)
        starts = sum(bool(each) for step in self.steps if isinstance(step, Block) for each in step.start)
        return own + starts + sum(len(form.terms) + bool(form.constant) for form in self.forms)


Maker: TypeAlias = Callable[[Step, Callable[[Step], Atom]], Sequence[Form] | None]
"""(a step whose forms are of the new graph, a way to add a step there, which gives its first atom) -> what stands for the
step's atoms; None to keep the step."""


def rebuilt(graph: Graph, make: Maker) -> Graph:
    """The graph with each step made anew in its turn."""
    to: dict[Atom, Form] = {i: atom_form(i) for i in range(graph.width)}
    steps: list[Step] = []
    size = graph.width

    def add(step: Step) -> Atom:
        nonlocal size
        steps.append(step)
        size += step.size
        return size - step.size

    for first, step in zip(graph.first, graph.steps, strict=True):
        step = with_forms(step, [form.moved(to) for form in step.forms])
        made = make(step, add)
        if made is None:
            at = add(step)
            made = [atom_form(at + i) for i in range(step.size)]
        to |= {first + i: form for i, form in enumerate(made)}
    return Graph(graph.width, tuple(steps), tuple(form.moved(to) for form in graph.outputs), graph.declared)


def with_forms(step: Step, forms: Sequence[Form]) -> Step:
    """A step that reads other forms."""
    if isinstance(step, Relu):
        return replace(step, form=forms[0])
    if isinstance(step, Times):
        return replace(step, left=forms[0], right=forms[1])
    return replace(step, drive=tuple(forms))


def run(graph: Graph, inputs: Sequence[Sequence[Any]], number: Callable[[Any], Any] = Fraction) -> list[list[Any]]:
    """What a graph gives, token by token.

    **Arguments:** inputs: (time, width).  number: what is computed with: `Fraction`, without any rounding, or `float`.

    **Returns:** (time, outputs).
    """
    convert = lambda form: ([(atom, number(factor)) for atom, factor in form.terms.items()], number(form.constant))
    steps = [(step, [convert(form) for form in step.forms]) for step in graph.steps]
    matrices = {
        i: [[(j, number(a)) for j, a in row.items()] for row in step.matrix]
        for i, step in enumerate(graph.steps)
        if isinstance(step, Block)
    }
    states = {i: [number(each) for each in step.start] for i, step in enumerate(graph.steps) if isinstance(step, Block)}
    outputs, zero, found = [convert(form) for form in graph.outputs], number(0), []
    for token in inputs:
        atoms = [number(each) for each in token]
        value = lambda form: sum((factor * atoms[atom] for atom, factor in form[0]), form[1])  # noqa: B023 - called in this turn
        for i, (step, forms) in enumerate(steps):
            if isinstance(step, Relu):
                atoms.append(max(value(forms[0]), zero))
            elif isinstance(step, Times):
                atoms.append(value(forms[0]) * value(forms[1]))
            else:
                before = states[i]
                states[i] = [
                    sum((a * before[j] for j, a in row), value(drive))
                    for row, drive in zip(matrices[i], forms, strict=True)
                ]
                atoms += states[i]
        found.append([value(form) for form in outputs])
    return found
