"""What the compiler does to a graph, one thing in each pass: every pass gives what the one before it gave, to the fraction."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType
from typing import TypeAlias

from dualform.programs.graph import Atom, Block, Form, Graph, Relu, Step, Times, atom_form, combined, rebuilt

Pass: TypeAlias = Callable[[Graph], Graph]


def known(graph: Graph) -> Graph:
    """What is known beforehand is folded: ReLUs and products of constants, ReLUs of what is never or always negative.

    Signs come from signs: a ReLU is never negative, nor is a sum of such with positive factors, nor a state that starts and is
    driven and carried by them.
    """
    positive: set[Atom] = set()

    def never_negative(form: Form) -> bool:
        return form.constant >= 0 and all(factor > 0 and atom in positive for atom, factor in form.terms.items())

    def make(step: Step, add: Callable[[Step], Atom]):
        if isinstance(step, Times):
            for constant, other in ((step.left, step.right), (step.right, step.left)):
                if not constant.terms:
                    return [other.times(constant.constant)]
            at = add(step)
            if (never_negative(step.left) and never_negative(step.right)) or step.left.key == step.right.key:
                positive.add(at)
            return [atom_form(at)]
        if isinstance(step, Relu):
            if never_negative(step.form):
                return [step.form]
            if never_negative(step.form.times(Fraction(-1))):
                return [Form()]
            at = add(step)
            positive.add(at)
            return [atom_form(at)]
        at = add(step)
        carried = all(a > 0 for row in step.matrix for a in row.values()) and min(step.start) >= 0
        if carried and all(never_negative(form) for form in step.drive):
            positive.update(range(at, at + step.size))
        return [atom_form(at + i) for i in range(step.size)]

    return rebuilt(graph, make)


def used(graph: Graph) -> Graph:
    """Without what nothing reads: steps, and rows of states that lead to nothing."""
    wanted: set[Atom] = {atom for form in graph.outputs for atom in form.terms}
    kept: dict[int, list[int]] = {}
    for first, (i, step) in reversed(list(zip(graph.first, enumerate(graph.steps), strict=True))):
        rows = {row for row in range(step.size) if first + row in wanted}
        if isinstance(step, Block):
            waiting = list(rows)
            while waiting:
                for column in step.matrix[waiting.pop()]:
                    if column not in rows:
                        rows.add(column)
                        waiting.append(column)
            read = [step.drive[row] for row in rows]
        else:
            read = step.forms if rows else ()
        kept[i] = sorted(rows)
        wanted |= {atom for form in read for atom in form.terms}
    count = iter(range(len(graph.steps)))

    def make(step: Step, add: Callable[[Step], Atom]):
        rows = kept[next(count)]
        if not rows:
            return [Form()] * step.size  # nothing reads it
        if not isinstance(step, Block) or len(rows) == step.size:
            return None
        at = add(_rows(step, rows))
        places = {row: at + i for i, row in enumerate(rows)}
        return [atom_form(places[row]) if row in places else Form() for row in range(step.size)]

    return rebuilt(graph, make)


def apart(graph: Graph) -> Graph:
    """States that do not touch each other as blocks of their own, so that none waits for what another one needs."""

    def make(step: Step, add: Callable[[Step], Atom]):
        if not isinstance(step, Block):
            return None
        group = list(range(step.size))
        for row, entries in enumerate(step.matrix):
            for column in entries:
                group = [group[row] if each == group[column] else each for each in group]
        found: dict[int, Form] = {}
        for number in dict.fromkeys(group):
            rows = [row for row in range(step.size) if group[row] == number]
            at = add(_rows(step, rows))
            found |= {row: atom_form(at + i) for i, row in enumerate(rows)}
        return [found[row] for row in range(step.size)]

    return rebuilt(graph, make)


def merged(graph: Graph) -> Graph:
    """Equal steps as one; ReLUs and products that differ by a factor as one, too, where it is positive (a product's: any).

    Of a product whose one factor alone reads what was before this token, that factor is the right one: a gate, which a dual form
    freezes, is made of the left.
    """
    seen: dict[tuple, Atom] = {}
    past: set[Atom] = set()
    reads_past = lambda form: any(atom in past for atom in form.terms)

    def make(step: Step, add: Callable[[Step], Atom]):
        if isinstance(step, Block):
            rows = tuple(tuple(sorted(row.items())) for row in step.matrix)
            key = ("state", rows, tuple(form.key for form in step.drive), step.start)
            if key not in seen:
                seen[key] = add(step)
                past.update(range(seen[key], seen[key] + step.size))
            return [atom_form(seen[key] + i) for i in range(step.size)]
        if isinstance(step, Relu):
            factor = _size(step.form)
            form = step.form.times(1 / factor)
            key = ("relu", form.key)
        else:
            sizes = [_signed(each) for each in (step.left, step.right)]
            factor = sizes[0] * sizes[1]
            left, right = (each.times(1 / size) for each, size in zip((step.left, step.right), sizes, strict=True))
            left, right = sorted((left, right), key=lambda each: each.key)
            key = ("product", left.key, right.key)
        if key not in seen:
            if isinstance(step, Times) and reads_past(step.left) and not reads_past(step.right):
                step = replace(step, left=step.right, right=step.left)
            seen[key] = add(step)
            own[key] = factor
            if any(reads_past(form) for form in step.forms):
                past.add(seen[key])
        return [Form({seen[key]: factor / own[key]})]

    own: dict[tuple, Fraction] = {}
    return rebuilt(graph, make)


def from_zero(graph: Graph) -> Graph:
    """Every state starts at 0, as a network's does: what it would have started with comes in with the first token.

    The first token is known by a count of tokens: ReLU(2 - count) is 1 there, and 0 behind it.
    """
    if all(not any(step.start) for step in graph.steps if isinstance(step, Block)):
        return graph
    one: dict[str, Form] = {}

    def make(step: Step, add: Callable[[Step], Atom]):
        if not isinstance(step, Block) or not any(step.start):
            return None
        if not one:
            count = add(Block(({0: Fraction(1)},), (Form({}, Fraction(1)),), (Fraction(0),), "tokens"))
            one["first"] = atom_form(add(Relu(Form({count: Fraction(-1)}, Fraction(2)))))
        brought = [sum((a * step.start[j] for j, a in row.items()), Fraction(0)) for row in step.matrix]
        drive = [
            combined([(Fraction(1), form), (b, one["first"])]) for form, b in zip(step.drive, brought, strict=True)
        ]
        at = add(replace(step, drive=tuple(drive), start=(Fraction(0),) * step.size))
        return [atom_form(at + i) for i in range(step.size)]

    return rebuilt(graph, make)


PASSES: Mapping[str, Pass] = MappingProxyType(
    {"known": known, "used": used, "apart": apart, "merged": merged, "from_zero": from_zero}
)
"""Every pass by name, in the order in which they are run."""


def passed(graph: Graph, passes: Mapping[str, Pass] = PASSES) -> list[tuple[str, Graph]]:
    """The graph after each pass, each with its name; they are run again until none changes the number of steps."""
    found: list[tuple[str, Graph]] = [("folded", graph)]
    while True:
        before = _shape(found[-1][1])
        for name, each in passes.items():
            found.append((name, each(found[-1][1])))
        if _shape(found[-1][1]) == before:
            return found


def _shape(graph: Graph) -> tuple[int, int]:
    return len(graph.steps), graph.numbers()


def _rows(block: Block, rows: list[int]) -> Block:
    """The block of some of its rows, which read no others."""
    at = {row: i for i, row in enumerate(rows)}
    matrix = tuple({at[column]: a for column, a in block.matrix[row].items()} for row in rows)
    return replace(
        block,
        matrix=matrix,
        drive=tuple(block.drive[row] for row in rows),
        start=tuple(block.start[row] for row in rows),
    )


def _size(form: Form) -> Fraction:
    """The size of a form's first factor, or of its constant: above 0, and equal for forms that differ by a factor alone."""
    atoms = sorted(form.terms)
    return abs(form.terms[atoms[0]] if atoms else form.constant) or Fraction(1)


def _signed(form: Form) -> Fraction:
    """The form's first factor with its sign, or its constant."""
    atoms = sorted(form.terms)
    return (form.terms[atoms[0]] if atoms else form.constant) or Fraction(1)
