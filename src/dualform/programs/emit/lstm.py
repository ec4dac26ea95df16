"""Into a stack of LSTMs: a linear state goes through h, and gates that are open or shut make ReLUs and conditionals.

With the forget gate shut, c = i * g, and h = o * tanh(c): of a tiny g, h = o * i * g. So a unit has a value and two gates, and
reads, beside the layer below it, the h of the token before, in which states are. A ReLU's gate is its own sign, enlarged:
sigma(K x) x, which is off by 0.28 / K at the most, K about 2^60 in float32.
"""

from fractions import Fraction
from typing import Any

import numpy as np

from dualform.construct.linearised import CLOSED, SATURATED
from dualform.mixers import LSTM
from dualform.models import Stack
from dualform.programs.decisions import Gated, Ramp, Relu, Single, Threshold
from dualform.programs.emit.lanes import SURE, Gate, Lane, Lanes
from dualform.programs.emit.layered import Layered, cast, stacked
from dualform.programs.emit.products import Parts, paired, product
from dualform.programs.emit.registration import register
from dualform.programs.graph import Atom, Form, atom_form
from dualform.programs.path import Path

ONE = Form({}, Fraction(1))


@register("lstm", "a stack of LSTMs")
def lstm(path: Path, dtype: Any) -> Stack:
    """A layer of LSTM units for each layer of the path: states, and what reads them."""
    return stacked(path, dtype, place, layer)


def place(lanes: Lanes, first: Atom, step: Single, size: Any) -> None:
    """The units of a step: of most, one."""
    sure = isinstance(step, Threshold)
    at = lanes.layer(*step.forms, sure=sure)
    forms = [lanes.read(form, at, sure) for form in step.forms]
    if isinstance(step, Threshold):
        found = atom_form(lanes.value(ONE, at, {"input": Gate(forms[0], SURE)}))
    elif isinstance(step, Gated):
        found = atom_form(lanes.value(forms[1], at, {"input": Gate(forms[0], SURE)}))
    elif isinstance(step, Relu):
        found = atom_form(lanes.value(forms[0], at, {"input": Gate(forms[0], lanes.steep(forms[0], at))}))
    elif isinstance(step, Ramp):
        found = ramp(lanes, forms[0], at)
    else:
        found = product(lanes, step, size, Parts(level, passed, paired, bounded=False))
    lanes.give(first, found)


def level(lanes: Lanes, form: Form, at: int) -> tuple[Form, Lane]:
    """1 where a form is above 0, and 0 elsewhere; what passes a value there is that unit."""
    on = lanes.value(ONE, at, {"input": Gate(form, lanes.steep(form, at))})
    return atom_form(on), on


def passed(lanes: Lanes, value: Form, on: Lane) -> Lane:
    """A value where a unit is 1, and 0 where it is 0."""
    at = max(lanes.units[on].layer + 1, lanes.layer(value))
    gate = Gate(Form({on: Fraction(2)}, Fraction(-1)), SURE)
    return lanes.value(lanes.read(value, at), at, {"input": gate})


def ramp(lanes: Lanes, form: Form, at: int) -> Form:
    """min(max(x, 0), 1) as x where both gates say that it is between, and 1 where one says that it is above."""
    rest = form.times(Fraction(-1)) + ONE
    above, below = Gate(form, lanes.steep(form, at)), Gate(rest, lanes.steep(rest, at))
    inside = lanes.value(form, at, {"input": above, "output": below})
    return atom_form(inside) + atom_form(lanes.value(ONE, at, {"input": Gate(rest, -below.gain)}))


def layer(layered: Layered, at: int, dtype: Any) -> LSTM:
    """A layer: input gates and output gates open unless they are some unit's own, forget gates shut."""
    given = layered.given(at)
    nothing = given._replace(u=0 * given.u, v=0 * given.v, b=np.full_like(given.b, CLOSED))
    parts = [layered.gate(at, "input", SATURATED), nothing, given, layered.gate(at, "output", SATURATED)]
    u, v, b = (np.stack(each) for each in zip(*parts, strict=True))
    return LSTM(cast(u, dtype), cast(v, dtype), cast(b, dtype))
