"""Hidden units of saturating networks: what each is given, what it stands for, and in which layer it is.

A tanh of something tiny is itself: tanh(u) = u (1 - u^2 / 3) is u to the last bit where u^2 is below a rounding, and a
floating-point number has as many digits when it is tiny. So a value times `epsilon`, a power of two, goes through a tanh
without any error, and a linear state is a tanh unit that reads itself. What is large comes out as 1 or -1 exactly: a decision.
A unit reads what is in the layer below it, and states of its own layer, too, since what these become, A s_{t-1} + drive_t, is a
sum of things that are there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

from dualform.programs.decisions import HEAVY, Decisions
from dualform.programs.graph import Atom, Block, Form, atom_form

Lane: TypeAlias = int
"""A unit, by its place among all of them. A form of lanes is one of what they stand for."""

EPSILON = {"float64": Fraction(1, 2**100), "float32": Fraction(1, 2**50), "bfloat16": Fraction(1, 2**50)}
"""What a value is multiplied with to go through a tanh: values up to 2^73 (2^38 in float32) come out exactly, and so do those
down to 2^-922 (2^-76), below which numbers end."""

STEEPEST = {"float64": Fraction(2**400), "float32": Fraction(2**112), "bfloat16": Fraction(2**112)}
"""The largest weight of what decides on which side of 0 any number is: a sum of others that is not 0 is then so far from it that
next to nothing comes out between."""

SURE = Fraction(2**12)
"""How much what is at least 1 in size is enlarged to decide: exp(-2^12) is 0."""

FIRM = Fraction(2**60)
"""How much what is 0, or a rounding of 1 at the least, is enlarged to decide which: 2^-53 of it still is beyond `SHUT`."""

SHUT = Fraction(80)
"""A size of which tanh is 1 exactly, also of half and of a quarter of it."""


class Gate(NamedTuple):
    """What a sigmoid is given: gain * form."""

    form: Form
    gain: Fraction


@dataclass(frozen=True)
class Unit:
    """A hidden unit. Its tanh is given gain * form; what comes out is scale * (what it stands for).

    - layer: in which it is; 0 is the embedding.
    - carry: what its tanh is multiplied with in the layers above to come out the same again, 1 of a tiny value; None where
      nothing does, and only the next layer can read it.
    - gates: by name, as its architecture has them; `inner`: a constant that stands within a GRU's reset.
    - state: of a row of a state its coefficients by lane, `form` being what drives it; None otherwise.
    """

    form: Form
    gain: Fraction
    scale: Fraction
    layer: int
    carry: Fraction | None = Fraction(1)
    gates: Mapping[str, Gate] = field(default_factory=dict)
    inner: Fraction = Fraction(0)
    state: Mapping[Lane, Fraction] | None = None

    @property
    def key(self) -> tuple:
        """Equal for equal units."""
        gates = tuple((name, gate.form.key, gate.gain) for name, gate in sorted(self.gates.items()))
        return (self.form.key, self.gain, self.scale, self.layer, self.carry, self.inner, gates)


class Lanes:
    """The units of a network, added one by one, each to the first layer that can have it.

    - units: by lane.  atoms: of each atom the form of lanes that it is, and the layer where these are.
    - name, epsilon, steepest: of the dtype.  ranges: of atoms.
    """

    def __init__(self, decisions: Decisions, dtype: Any):
        self.name = jnp.dtype(dtype).name
        self.ranges = decisions.ranges
        self.epsilon, self.steepest = EPSILON[self.name], STEEPEST[self.name]
        self.units: list[Unit] = []
        self.atoms: dict[Atom, tuple[Form, int]] = {}
        self._seen: dict[tuple, Lane] = {}
        self._collected: dict[Atom, Lane] = {}
        for atom in range(decisions.width):
            self.give(atom, atom_form(self.value(Form({atom: Fraction(1)}), 0)))

    def layer(self, *forms: Form, above: bool = False, sure: bool = False) -> int:
        """The first layer of which a unit can read some forms of atoms.

        **Arguments:** above: whether it has to be above states that they read, rather than beside them.  sure: whether they are
        never near 0, so that it is enough to know them roughly.
        """
        found = (self._open(atom, above, not sure and self._heavy(atom, form)) for form in forms for atom in form.terms)
        return max(found, default=1)

    def _open(self, atom: Atom, above: bool, heavy: bool) -> int:
        form, layer = self.atoms[atom]
        alone = form.alone
        beside = alone is not None and self.units[alone].state is not None and not above
        return layer + (2 if heavy else 0 if beside else 1)

    def _heavy(self, atom: Atom, form: Form) -> bool:
        """Whether an atom is the sum of things that are not small beside it, and multiplied by so much that it shows.

        A bit that is read as (1 + s) / 2, of s = -1 or 1, is 0 up to the rounding of 1 / 2: times 1e10, it is not. Whole
        numbers are not rounded, unless they are so large that beside them the dtype has no digit for the finest of the others.
        """
        signed = any(self.units[lane].scale == 1 for lane in self.atoms[atom][0].terms)
        if not signed or abs(form.terms[atom]) < HEAVY * min(abs(factor) for factor in form.terms.values()):
            return False
        steps = [(self.ranges[each].step, abs(factor)) for each, factor in form.terms.items()]
        finest = [factor if step == 0 else factor * step for step, factor in steps if step is not None]
        exact = len(finest) == len(steps) and all(dyadic(factor) for factor in form.terms.values())
        return not exact or abs(form.terms[atom]) > 2 ** (jnp.finfo(self.name).nmant - 1) * min(finest)

    def read(self, form: Form, layer: int, sure: bool = False) -> Form:
        """A form of atoms as one of lanes, for a unit in a layer; `sure` as of `layer`."""
        return form.moved({atom: self._at(atom, layer, not sure and self._heavy(atom, form)) for atom in form.terms})

    def _at(self, atom: Atom, layer: int, heavy: bool) -> Form:
        """What an atom is for a layer: above the first one that can read it, one lane alone."""
        form, made = self.atoms[atom]
        carried = len(form.terms) == 1 and all(self.units[lane].carry is not None for lane in form.terms)
        if not heavy and (layer <= made + 1 or carried or not form.terms):
            return form
        if atom not in self._collected:
            self._collected[atom] = self.value(form, made + 1)
        return atom_form(self._collected[atom])

    def value(self, form: Form, layer: int, gates: Mapping[str, Gate] | None = None) -> Lane:
        """A unit of a value, a form of lanes, which comes out as it is; gates may shut it."""
        return self.add(Unit(form, self.epsilon, self.epsilon, layer, gates=gates or {}))

    def sign(self, form: Form, layer: int, gain: Fraction = SURE) -> Lane:
        """A unit that is 1 where a form of lanes is above 0, and -1 where it is below."""
        return self.add(Unit(form, gain, Fraction(1), layer, SHUT))

    def add(self, unit: Unit) -> Lane:
        """A unit, or the one like it that is there."""
        if unit.key in self._seen:
            return self._seen[unit.key]
        self.units.append(unit)
        self._seen[unit.key] = len(self.units) - 1
        return len(self.units) - 1

    def give(self, atom: Atom, form: Form) -> None:
        """Say what an atom is in terms of lanes, which are all in one layer or carried there."""
        self.atoms[atom] = form, max((self.units[lane].layer for lane in form.terms), default=0)

    def hold(self, first: Atom, block: Block) -> None:
        """A linear state: a unit for each row, all in one layer."""
        layer = self.layer(*block.drive, above=True)
        drive = [self.read(form, layer) for form in block.drive]  # which may add units
        at = len(self.units)
        for i, (row, form) in enumerate(zip(block.matrix, drive, strict=True)):
            state = {at + j: a for j, a in row.items()}
            self.units.append(Unit(form, self.epsilon, self.epsilon, layer, state=state))
            self.give(first + i, atom_form(at + i))

    def steep(self, form: Form, layer: int) -> Fraction:
        """How much a form of any numbers is enlarged by a unit in a layer to decide on which side of 0 it is."""
        own, past = self.parted(form, layer)
        weights = [abs(own.constant)]
        weights += [abs(factor) / self.units[lane].scale for each in (own, past) for lane, factor in each.terms.items()]
        return self.steepest / power_of_two(max(*weights, Fraction(1)))

    def parted(self, form: Form, layer: int) -> tuple[Form, Form]:
        """A form for a unit in a layer, as one of the layer below, and one of the layer's states at the token before."""
        own, past = Form({}, form.constant), Form()
        for lane, factor in form.terms.items():
            unit = self.units[lane]
            if unit.state is not None and unit.layer == layer:
                own, past = own + unit.form.times(factor), past + Form(unit.state).times(factor)
            else:
                own = own + Form({lane: factor})
        return own, past


def power_of_two(x: Fraction) -> Fraction:
    """The smallest power of two that is at least x."""
    n = x.numerator.bit_length() - x.denominator.bit_length() - 1
    found = Fraction(2) ** n
    while found < x:
        found *= 2
    return found


def dyadic(x: Fraction) -> bool:
    """Whether a number is a whole one over a power of two, as a float is."""
    return x.denominator & (x.denominator - 1) == 0
