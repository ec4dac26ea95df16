"""From a program's values to a graph: everything linear is folded, registers become linear states.

The first pass of the compiler, and the one that refuses: what is no linear state, and what depends on itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from dualform.errors import InputError
from dualform.programs.graph import Atom, Block, Form, Graph, Relu, Step, Times, atom_form, combined
from dualform.programs.values import Concat, Constant, Input, Linear, Now, Product, Register, ReLU, Row, Slice, Value


def nodes(output: Value) -> list[Value]:
    """All values that an output is made of, registers' updates too, in the order in which they were written."""
    found: dict[int, Value] = {}
    waiting = [output]
    while waiting:
        value = waiting.pop()
        if id(value) in found:
            continue
        found[id(value)] = value
        waiting += value.operands
        register = value.register if isinstance(value, Now) else value
        if isinstance(register, Register):
            if register.update is None:
                raise InputError(f"{register.place}: {register.name} is read, and nothing says what it becomes.")
            waiting += [register, register.update]
    return sorted(found.values(), key=lambda value: value.order)


def input_of(output: Value) -> Input:
    """The one input of a program.

    **Raises:** `InputError` where there is none, or more than one.
    """
    found = [value for value in nodes(output) if isinstance(value, Input)]
    if len(found) != 1:
        places = f" ({', '.join(each.place for each in found)})" if found else ""
        raise InputError(f"a program has one input; this one has {len(found)}{places}.")
    return found[0]


@dataclass
class _Draft:
    """What is found before there is an order: provisional atoms, by number, and what each of them is.

    - units: by atom.  previous, now: what a register's row was and is, as (the register's place among `registers`, row).
    """

    units: dict[Atom, Relu | Times] = field(default_factory=dict)
    previous: dict[Atom, tuple[int, int]] = field(default_factory=dict)
    now: dict[Atom, tuple[int, int]] = field(default_factory=dict)
    registers: list[Register] = field(default_factory=list)
    forms: dict[int, tuple[Form, ...]] = field(default_factory=dict)
    size: int = 0

    def atom(self) -> Atom:
        self.size += 1
        return self.size - 1


def lowered(output: Value) -> Graph:
    """The graph of a program.

    **Raises:** `InputError`, with file and line, where a register depends on its own past in a way that is not linear, or on
    its own present.
    """
    source = input_of(output)
    draft = _Draft(size=source.width)
    draft.forms[id(source)] = tuple(atom_form(i) for i in range(source.width))
    for value in _in_order(output):
        if id(value) not in draft.forms:
            draft.forms[id(value)] = _forms(value, draft)
    outputs = draft.forms[id(output)]
    try:
        return _ordered(draft, *_blocks(draft, outputs, _joined(draft)), source, outputs)
    except InputError:
        # Only those that write each other have to be one block; apart, they do not wait for what the other one needs.
        return _ordered(draft, *_blocks(draft, outputs, _mutual(draft)), source, outputs)


def _in_order(output: Value) -> list[Value]:
    """Every value behind its operands; registers' updates, which may read what comes later, are roots of their own."""
    found: list[Value] = []
    seen: set[int] = set()
    for root in nodes(output):
        waiting = [(root, False)]
        while waiting:
            value, ready = waiting.pop()
            if ready:
                found.append(value)
            elif id(value) not in seen:
                seen.add(id(value))
                waiting.append((value, True))
                waiting += [(operand, False) for operand in value.operands]
    return found


def _forms(value: Value, draft: _Draft) -> tuple[Form, ...]:
    """A form for each entry of a value whose operands have theirs."""
    operands = [draft.forms[id(operand)] for operand in value.operands]
    if isinstance(value, Constant):
        return tuple(Form({}, entry) for entry in value.entries)
    if isinstance(value, Linear):
        (x,) = operands
        rows = zip(value.rows, value.bias, strict=True)
        return tuple(combined(((factor, x[j]) for j, factor in row.items()), bias) for row, bias in rows)
    if isinstance(value, Concat):
        return tuple(form for operand in operands for form in operand)
    if isinstance(value, Slice):
        return tuple(operands[0][j] for j in value.columns)
    if isinstance(value, ReLU):
        return tuple(_unit(Relu(form, value.place), draft) for form in operands[0])
    if isinstance(value, Product):
        return tuple(_unit(Times(x, y, value.place), draft) for x, y in zip(*operands, strict=True))
    register = value.register if isinstance(value, Now) else value
    assert isinstance(register, Register)
    number = next((i for i, each in enumerate(draft.registers) if each is register), len(draft.registers))
    if number == len(draft.registers):
        draft.registers.append(register)
    where, found = draft.now if isinstance(value, Now) else draft.previous, []
    for row in range(register.width):
        atom = draft.atom()
        where[atom] = (number, row)
        found.append(atom_form(atom))
    return tuple(found)


def _unit(unit: Relu | Times, draft: _Draft) -> Form:
    atom = draft.atom()
    draft.units[atom] = unit
    return atom_form(atom)


def _written_by(draft: _Draft) -> list[set[int]]:
    """For each register, those whose past stands in what it becomes, itself too."""
    found = [{number} for number in range(len(draft.registers))]
    for number, register in enumerate(draft.registers):
        for form in draft.forms[id(register.update)]:
            found[number] |= {draft.previous[atom][0] for atom in form.terms if atom in draft.previous}
    return found


def _joined(draft: _Draft) -> list[int]:
    """A group for each register: one for all that write each other, in whichever direction."""
    group = list(range(len(draft.registers)))
    for number, writers in enumerate(_written_by(draft)):
        for writer in writers:
            group = [group[number] if each == group[writer] else each for each in group]
    return group


def _mutual(draft: _Draft) -> list[int]:
    """A group for each register: one for those that write each other in both directions."""
    reach = _written_by(draft)
    for _ in reach:
        reach = [set().union(*(reach[other] for other in each)) for each in reach]
    return [min(other for other in each if number in reach[other]) for number, each in enumerate(reach)]


def _blocks(
    draft: _Draft, outputs: Sequence[Form], group: Sequence[int]
) -> tuple[list[Block], dict[Atom, tuple[int, int]]]:
    """A block for each group of registers; and (block, row) of every atom that is what a register is, or was.

    A register's past that is read by anything but what its own group becomes is a state more: the register, one token later.
    """
    numbers = sorted(set(group))
    rows = [
        [(i, row) for i, register in enumerate(draft.registers) if group[i] == number for row in range(register.width)]
        for number in numbers
    ]
    where = {key: (block, at) for block, keys in enumerate(rows) for at, key in enumerate(keys)}
    drafts: list[tuple[list[Row], list[Form]]] = []
    outside = {atom for form in outputs for atom in form.terms}
    outside |= {atom for unit in draft.units.values() for form in unit.forms for atom in form.terms}
    for block, keys in enumerate(rows):
        matrix: list[Row] = []
        drive: list[Form] = []
        for i, row in keys:
            form = draft.forms[id(draft.registers[i].update)][row]
            own = {a: where[draft.previous[a]] for a in form.terms if a in draft.previous}
            own = {atom: at for atom, (other, at) in own.items() if other == block}
            matrix.append({})
            for atom, at in own.items():  # a register may be read at several places of the program
                matrix[-1][at] = matrix[-1].get(at, Fraction(0)) + form.terms[atom]
            drive.append(Form({a: factor for a, factor in form.terms.items() if a not in own}, form.constant))
            outside |= set(drive[-1].terms)
        drafts.append((matrix, drive))
    place = {atom: where[key] for atom, key in draft.now.items()}
    delayed: dict[tuple[int, int], tuple[int, int]] = {}
    for atom in sorted(outside & set(draft.previous)):
        block, at = where[draft.previous[atom]]
        if (block, at) not in delayed:
            delayed[block, at] = (block, len(drafts[block][0]))
            drafts[block][0].append({at: Fraction(1)})
            drafts[block][1].append(Form())
        place[atom] = delayed[block, at]
    blocks = []
    for keys, (matrix, drive) in zip(rows, drafts, strict=True):
        start = [draft.registers[i].start[row] for i, row in keys]
        members = [draft.registers[i] for i in dict.fromkeys(i for i, _ in keys)]
        names = " and ".join(dict.fromkeys(register.name for register in members))
        start += [Fraction(0)] * (len(matrix) - len(start))
        blocks.append(Block(tuple(matrix), tuple(drive), tuple(start), names, members[0].place))
    return blocks, place


def _ordered(
    draft: _Draft, blocks: list[Block], place: dict[Atom, tuple[int, int]], source: Input, outputs: tuple[Form, ...]
) -> Graph:
    """Units and blocks in an order that can be run, atoms numbered anew."""
    steps: list[Step] = []
    width = source.width
    to: dict[Atom, Form] = {i: atom_form(i) for i in range(width)}
    first: dict[int, Atom] = {}
    size, open_ = width, []
    atoms_of: dict[int, list[Atom]] = {}
    for atom, (block, _) in place.items():
        atoms_of.setdefault(block, []).append(atom)

    def visit(kind: str, which: int) -> list[tuple[str, int]]:
        """What has to be there first."""
        forms = draft.units[which].forms if kind == "unit" else blocks[which].drive
        needed = []
        for form in forms:
            for atom in form.terms:
                if atom not in to:
                    needed.append(("unit", atom) if atom in draft.units else ("block", place[atom][0]))
        return needed

    wanted = [
        ("unit", atom) if atom in draft.units else ("block", place[atom][0])
        for form in outputs
        for atom in form.terms
        if atom >= width
    ]
    waiting = [(each, False) for each in reversed(wanted)]
    while waiting:
        (kind, which), ready = waiting.pop()
        done = which in to if kind == "unit" else which in first
        if done:
            continue
        if not ready:
            if (kind, which) in open_:
                raise _circle(open_[open_.index((kind, which)) :], draft, blocks)
            open_.append((kind, which))
            waiting.append(((kind, which), True))
            needed = visit(kind, which)
            for each in needed:
                if each in open_:
                    raise _circle(open_[open_.index(each) :], draft, blocks)
            waiting += [(each, False) for each in needed]
            continue
        open_.remove((kind, which))
        step: Step = draft.units[which] if kind == "unit" else blocks[which]
        moved = [form.moved(to) for form in step.forms]
        if isinstance(step, Relu):
            step = Relu(moved[0], step.place)
        elif isinstance(step, Times):
            step = Times(moved[0], moved[1], step.place)
        else:
            step = Block(step.matrix, tuple(moved), step.start, step.name, step.place)
        steps.append(step)
        if kind == "unit":
            to[which] = atom_form(size)
        else:
            first[which] = size
            to |= {atom: atom_form(size + place[atom][1]) for atom in atoms_of.get(which, ())}
        size += step.size
    return Graph(width, tuple(steps), tuple(form.moved(to) for form in outputs), source.ranges)


def _circle(circle: list[tuple[str, int]], draft: _Draft, blocks: list[Block]) -> InputError:
    """What is said of steps that wait for each other."""
    states = [blocks[which] for kind, which in circle if kind == "block"]
    units = [draft.units[which] for kind, which in circle if kind == "unit"]
    if not states:
        return InputError(f"{units[0].place}: a value depends on itself.")
    name, place = states[0].name, states[0].place
    if not units:
        return InputError(
            f"{place}: what {name} becomes depends on what it becomes at the same token. Read the register itself, which holds "
            "what it became at the token before."
        )
    kinds = " and ".join(sorted({"a ReLU" if isinstance(unit, Relu) else "a product" for unit in units}))
    return InputError(
        f"{place}: {name} depends on its own past through {kinds} ({units[0].place}). The state of a linear recurrence is linear "
        "in its past; write the register with sums and constant factors of registers alone, or put what is not linear behind it."
    )
