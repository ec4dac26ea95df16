"""Into a stack of GRUs: with update gates shut they are tanh RNNs whose units have a reset gate r each.

The gate multiplies what is read of the token before, and a constant: n = tanh(U x + b + r (V h + b_h)). So a value that stands in
the layer below is let through by tanh(e v - 80 r) + tanh(80 r) with r exactly 0 or 1, and a ReLU takes two layers more than the
states that it reads, its signs being decided beside these. What is said of the tanh RNN holds for the rest.
"""

from fractions import Fraction
from typing import Any

import numpy as np

from dualform.construct.linearised import CLOSED, SATURATED
from dualform.mixers import GRU
from dualform.models import Stack
from dualform.programs.decisions import Gated, Ramp, Relu, Single, Threshold
from dualform.programs.emit.lanes import FIRM, SHUT, SURE, Gate, Lane, Lanes, Unit
from dualform.programs.emit.layered import Layered, cast, stacked
from dualform.programs.emit.products import Parts, product, squared
from dualform.programs.emit.registration import register
from dualform.programs.emit.rnn import HALF, MINUS, bit, ends
from dualform.programs.graph import Atom, Form, atom_form
from dualform.programs.path import Path


@register("gru", "a stack of GRUs")
def gru(path: Path, dtype: Any) -> Stack:
    """States and decisions in one layer; two more for what lets a number through."""
    return stacked(path, dtype, place, layer)


def place(lanes: Lanes, first: Atom, step: Single, size: Any) -> None:
    """The units of a step."""
    if isinstance(step, Threshold):
        found = bit(lanes, step.form)
    elif isinstance(step, Relu):
        at = lanes.layer(step.form)
        found = atom_form(passed(lanes, step.form, level(lanes, lanes.read(step.form, at), at)[1]))
    elif isinstance(step, Gated):
        at = max(lanes.layer(step.gate, sure=True), lanes.layer(step.value, above=True))
        found = atom_form(let(lanes, step.value, Gate(lanes.read(step.gate, at, sure=True).times(MINUS), SURE), at))
    elif isinstance(step, Ramp):
        low, high, at = ends(lanes, step.form)
        at = max(at + 1, lanes.layer(step.form, above=True))
        shut = Gate(Form({low: MINUS, high: Fraction(1)}, Fraction(3, 2)), FIRM)
        # Where x is so near to 1 that neither is sure, the gate is shut just where this is 1.
        over = lanes.sign(Form({high: Fraction(1)}, HALF + Fraction(1, 2**20)), at, FIRM)
        found = atom_form(let(lanes, step.form, shut, at)) + Form({over: HALF}, HALF)
    else:
        found = product(lanes, step, size, Parts(level, passed, squared, bounded=True))
    lanes.give(first, found)


def level(lanes: Lanes, form: Form, at: int) -> tuple[Form, Lane]:
    """1 where a form is above 0, and 0 elsewhere; and the unit that is its sign, beside the states that it reads."""
    sign = lanes.sign(form, at, lanes.steep(form, at))
    firm = lanes.sign(Form({sign: Fraction(1)}, -HALF), at + 1, FIRM)
    return Form({firm: HALF}, HALF), sign


def passed(lanes: Lanes, value: Form, sign: Lane) -> Lane:
    """A value where a sign is above 1 / 2, and 0 elsewhere."""
    at = max(lanes.units[sign].layer + 1, lanes.layer(value, above=True))
    return let(lanes, value, Gate(Form({sign: MINUS}, HALF), FIRM), at)


def let(lanes: Lanes, value: Form, shut: Gate, at: int) -> Lane:
    """A value where a gate is shut, and 0 where it is open: units of a layer above the value, and of the one above that."""
    gates = {"reset": shut}
    form = lanes.read(value, at)
    open_ = lanes.add(Unit(form, lanes.epsilon, lanes.epsilon, at, None, gates, -SHUT))
    back = lanes.add(Unit(Form(), Fraction(1), Fraction(1), at, None, gates, SHUT))
    return lanes.value(Form({open_: Fraction(1), back: 1 / lanes.epsilon}), at + 1)


def layer(layered: Layered, at: int, dtype: Any) -> GRU:
    """A layer: reset gates open unless they are some unit's own, update gates shut."""
    given = layered.given(at)
    nothing = given._replace(u=0 * given.u, v=0 * given.v, b=np.full_like(given.b, CLOSED))
    u, v, b = (np.stack(each) for each in zip(layered.gate(at, "reset", SATURATED), nothing, given, strict=True))
    inner = [0.0 if unit is None else float(unit.inner) for unit in layered.native(at)]
    return GRU(cast(u, dtype), cast(v, dtype), cast(b, dtype), cast(np.array(inner), dtype))
