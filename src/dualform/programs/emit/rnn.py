"""Into a stack of tanh RNNs: states and values are tiny, decisions are large, and what has to be shut is driven to -1.

A tanh has no gate. A value v is let through or shut by o, exactly 0 or 1: tanh(e v - 80 o) + tanh(80 o) is e v, added to
nothing, or -1 + 1. The sum of the two is taken by a unit of the next layer that reads nothing else, for beside a 1 the digits of
e v are lost. To make o from a sign takes a layer, too: tanh(K (1 - s)) is 0 where s is 1, and 1 where it is anything less. So a
ReLU takes three layers more than the states that it reads, where a threshold takes none.
"""

from fractions import Fraction
from typing import Any

from dualform.mixers import TanhRNN
from dualform.models import Stack
from dualform.programs.decisions import Gated, Ramp, Relu, Single, Threshold
from dualform.programs.emit.lanes import FIRM, SHUT, Lane, Lanes, Unit
from dualform.programs.emit.layered import Layered, cast, stacked
from dualform.programs.emit.products import Parts, product, squared
from dualform.programs.emit.registration import register
from dualform.programs.graph import Atom, Form, atom_form, combined
from dualform.programs.path import Path

ONE, HALF, MINUS = Form({}, Fraction(1)), Fraction(1, 2), Fraction(-1)


@register("rnn", "a stack of tanh RNNs")
def rnn(path: Path, dtype: Any) -> Stack:
    """States and decisions in one layer; three more for what lets a number through."""
    return stacked(path, dtype, place, layer)


def place(lanes: Lanes, first: Atom, step: Single, size: Any) -> None:
    """The units of a step."""
    if isinstance(step, Threshold):
        found = bit(lanes, step.form)
    elif isinstance(step, Relu):
        at = lanes.layer(step.form)
        found = atom_form(passed(lanes, step.form, level(lanes, lanes.read(step.form, at), at)[1]))
    elif isinstance(step, Gated):
        form, at = decision(lanes, step.gate)
        found = atom_form(passed(lanes, step.value, closed(lanes, ONE + form.times(MINUS), at + 1)))
    elif isinstance(step, Ramp):
        low, high, at = ends(lanes, step.form)
        over = Form({high: Fraction(1)}, Fraction(1))  # 0 below the end, more at it and above
        shut = closed(lanes, over + Form({low: MINUS}, Fraction(1)), at + 1)
        found = atom_form(passed(lanes, step.form, shut)) + atom_form(closed(lanes, over, at + 1))
    else:
        found = product(lanes, step, size, Parts(level, passed, squared, bounded=True))
    lanes.give(first, found)


def bit(lanes: Lanes, form: Form) -> Form:
    """1 where a form of atoms is at least 1, 0 where it is at most -1: (1 + s) / 2."""
    at = lanes.layer(form, sure=True)
    return Form({lanes.sign(lanes.read(form, at, sure=True), at): HALF}, HALF)


def decision(lanes: Lanes, gate: Form) -> tuple[Form, int]:
    """1 or -1 as a gate is, a form of lanes, and the layer where it is: the gate itself if it is a sign already."""
    at = lanes.layer(gate, sure=True)
    form = lanes.read(gate, at, sure=True)
    alone = next(iter(form.terms)) if len(form.terms) == 1 and not form.constant else None
    if alone is not None and lanes.units[alone].scale == 1 and abs(form.terms[alone]) == 1:
        return form, at - 1
    return atom_form(lanes.sign(form, at)), at


def level(lanes: Lanes, form: Form, at: int) -> tuple[Form, Lane]:
    """1 where a form is above 0, and 0 elsewhere; and the unit, 0 and 1, that shuts a value elsewhere."""
    sign = lanes.sign(form, at, lanes.steep(form, at))
    shut = closed(lanes, ONE + Form({sign: MINUS}), at + 1)
    return ONE + Form({shut: MINUS}), shut


def ends(lanes: Lanes, form: Form) -> tuple[Lane, Lane, int]:
    """The signs of x and of x - 1, beside the states that x reads, and their layer."""
    at = lanes.layer(form)
    low = lanes.read(form, at)
    high = low + Form({}, MINUS)
    return lanes.sign(low, at, lanes.steep(low, at)), lanes.sign(high, at, lanes.steep(high, at)), at


def closed(lanes: Lanes, form: Form, layer: int) -> Lane:
    """0 where a form of signs is 0, and 1 where it is above, by however little."""
    return lanes.add(Unit(form, FIRM, Fraction(1), layer, SHUT))


def passed(lanes: Lanes, value: Form, shut: Lane) -> Lane:
    """A value where `shut` is 0, and 0 where it is 1: units of the next layer, and of the one above that."""
    at = max(lanes.units[shut].layer + 1, lanes.layer(value))
    unit = 1 / lanes.epsilon
    form = combined([(Fraction(1), lanes.read(value, at)), (-SHUT * unit, atom_form(shut))])
    open_ = lanes.add(Unit(form, lanes.epsilon, lanes.epsilon, at, None))
    back = lanes.add(Unit(atom_form(shut), SHUT, Fraction(1), at, None))
    return lanes.value(Form({open_: Fraction(1), back: unit}), at + 1)


def layer(layered: Layered, at: int, dtype: Any) -> TanhRNN:
    """A layer, as its units are given."""
    return TanhRNN(*(cast(each, dtype) for each in layered.given(at)))
