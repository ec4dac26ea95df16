"""Units as layers: which lanes each layer has, its own and those that are carried through it, and the weights of all."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform.errors import require
from dualform.mixers import AbstractMixer
from dualform.models import Stack
from dualform.programs.decisions import Block, Decisions, Gated, Ramp, Threshold, decided
from dualform.programs.emit.lanes import Gate, Lane, Lanes, Unit
from dualform.programs.emit.products import sizes
from dualform.programs.graph import Atom, Form, atom_form
from dualform.programs.path import Path

GROWTH = 1.001
"""A state that grows by less at each token is one of 1 whose eigenvalues are known to so many digits."""


class Weights(NamedTuple):
    """What some units are given: u x_t + v h_{t-1} + b."""

    u: Float[np.ndarray, "n d"]
    v: Float[np.ndarray, "n n"]
    b: Float[np.ndarray, " n"]


class Layered:
    """The lanes of each layer, from the embedding, 0, to the last.

    - lanes: of each layer, its units.  outputs: forms of lanes of the last one.
    """

    def __init__(self, lanes: Lanes, outputs: Sequence[Form]):
        self.units, self.parted, self.outputs = lanes.units, lanes.parted, outputs
        wanted = self._wanted(lane for form in outputs for lane in form.terms)
        depth = max([1, *(self.units[lane].layer for lane in wanted)])
        self.depth, last = depth, dict.fromkeys((lane for form in outputs for lane in form.terms), depth)
        for lane in wanted:
            for read in self._reads(lane):
                beside = self.units[read].state is not None and self.units[read].layer == self.units[lane].layer
                last[read] = max(last.get(read, 0), self.units[lane].layer - (not beside))
        if not any(self.units[lane].layer == 0 for lane in wanted):
            last[0] = depth  # a layer has one unit at least: of a program of constants, the input
        self.lanes = [
            [
                lane
                for lane in sorted(last)
                if self.units[lane].layer <= layer <= max(last[lane], self.units[lane].layer)
            ]
            for layer in range(depth + 1)
        ]
        self.columns = [{lane: i for i, lane in enumerate(each)} for each in self.lanes]

    def _wanted(self, waiting: Iterable[Lane]) -> set[Lane]:
        """The lanes that some are made of, themselves too."""
        found: set[Lane] = set()
        left = list(waiting)
        while left:
            lane = left.pop()
            if lane not in found:
                found.add(lane)
                left += self._reads(lane)
        return found

    def _reads(self, lane: Lane) -> list[Lane]:
        """The lanes that a unit reads, at this token or at the one before."""
        unit = self.units[lane]
        return [
            *unit.form.terms,
            *(unit.state or ()),
            *(read for gate in unit.gates.values() for read in gate.form.terms),
        ]

    def native(self, layer: int) -> list[Unit | None]:
        """The units of a layer; None for one that is carried through it."""
        return [unit if (unit := self.units[lane]).layer == layer else None for lane in self.lanes[layer]]

    def given(self, layer: int) -> Weights:
        """What the tanhs of a layer are given."""
        rows = []
        for lane in self.lanes[layer]:
            unit = self.units[lane]
            if unit.layer < layer:
                assert unit.carry is not None
                rows.append(Gate(atom_form(lane), unit.carry * unit.scale))
            else:
                rows.append(Gate(unit.form if unit.state is None else atom_form(lane), unit.gain))
        return self.weights(layer, rows)

    def gate(self, layer: int, name: str, otherwise: float) -> Weights:
        """What the gates of some name are given; those of units that have none, a constant."""
        gates = [None if unit is None else unit.gates.get(name) for unit in self.native(layer)]
        found = self.weights(layer, [gate or Gate(Form(), Fraction(1)) for gate in gates])
        return found._replace(b=np.where([gate is None for gate in gates], otherwise, found.b))

    def weights(self, layer: int, rows: Sequence[Gate]) -> Weights:
        """Of each gain * (a form of lanes), states of the layer itself as what they become."""
        below, here = self.columns[layer - 1], self.columns[layer]
        u, v, b = np.zeros((len(rows), len(below))), np.zeros((len(rows), len(here))), np.zeros(len(rows))
        for i, (form, gain) in enumerate(rows):
            own, past = self.parted(form, layer)
            b[i] = number(gain * own.constant)
            for lane, factor in own.terms.items():
                u[i, below[lane]] = number(gain * factor / self.units[lane].scale)
            for lane, factor in past.terms.items():
                v[i, here[lane]] = number(gain * factor / self.units[lane].scale)
        return Weights(u, v, b)

    def embedding(self, width: int) -> Float[np.ndarray, "d_1 columns"]:
        """Each input that is wanted, times its scale; the last column is for a 1."""
        found = np.zeros((len(self.lanes[0]), width + 1))
        for i, lane in enumerate(self.lanes[0]):
            found[i, lane] = number(self.units[lane].scale)  # inputs are the first lanes
        return found

    def readout(self) -> Float[np.ndarray, "d_out columns"]:
        """The outputs; the last column is for a 1."""
        columns = self.columns[-1]
        found = np.zeros((len(self.outputs), len(columns) + 1))
        for i, form in enumerate(self.outputs):
            found[i, -1] = number(form.constant)
            for lane, factor in form.terms.items():
                found[i, columns[lane]] = number(factor / self.units[lane].scale)
        return found


def number(x: Fraction) -> float:
    """A fraction as a float; infinite where it is beyond them."""
    try:
        return float(x)
    except OverflowError:
        return float("inf") if x > 0 else -float("inf")


def cast(w: np.ndarray, dtype: Any):
    """Weights in a dtype.

    **Raises:** `InputError` where one is too large for it.
    """
    largest, limit = float(np.max(np.abs(w), initial=0)), float(jnp.finfo(dtype).max)
    require(
        largest <= limit,
        f"a weight of this network is {largest:.3g}; {jnp.dtype(dtype).name} ends at {limit:.3g}. Compile it in float64, or use "
        "smaller constants.",
    )
    return jax.device_put(w.astype(jnp.dtype(dtype)))  # asarray compiles a program for each shape


Place: TypeAlias = Callable[[Lanes, Atom, Any, Any], None]
"""(lanes, the first atom of a step, the step, the sizes of a product's factors) -> its units added to the lanes."""

Layer: TypeAlias = Callable[[Layered, int, Any], AbstractMixer]
"""(layers, which one, dtype) -> the mixer."""


def stacked(path: Path, dtype: Any, place: Place, layer: Layer) -> Stack:
    """The path's graph as a stack: a unit for each value and decision, and a mixer for each layer of them.

    **Raises:** `InputError`, with file and line, where a state grows, or a factor is so large that what it multiplies would not
    come through a tanh as it is; where a weight is too large for the dtype.
    """
    decisions = decided(path.graph)
    lanes = Lanes(decisions, dtype)
    check_factors(decisions, lanes)
    factors = sizes(decisions, path.drawn, lanes.name)
    for first, step in zip(decisions.first, decisions.steps, strict=True):
        if isinstance(step, Block):
            check_growth(step)
            lanes.hold(first, step)
        else:
            place(lanes, first, step, factors.get(first))
    above = max(2, lanes.layer(*decisions.outputs, above=True))
    layered = Layered(lanes, [lanes.read(form, above) for form in decisions.outputs])
    return Stack(
        cast(layered.embedding(decisions.width), dtype),
        tuple(layer(layered, at, dtype) for at in range(1, layered.depth + 1)),
        cast(layered.readout(), dtype),
    )


def check_factors(decisions: Decisions, lanes: Lanes) -> None:
    """Raise `InputError` where a value is multiplied by so much that a tanh would not give it as it is."""
    most = 1 / (lanes.epsilon * 2**12)
    for step in decisions.steps:
        forms = () if isinstance(step, Threshold | Ramp) else (step.value,) if isinstance(step, Gated) else step.forms
        largest = max((abs(factor) for form in forms for factor in form.terms.values()), default=Fraction(0))
        require(
            largest <= most,
            f"{step.place}: a value is multiplied by {float(largest):.3g}; values up to {float(most):.3g} go through a tanh of "
            f"{lanes.name} as they are. Use smaller constants.",
        )


def check_growth(block: Block) -> None:
    """Raise `InputError` where a state grows from token to token whatever drives it: a tanh holds what is within its bounds."""
    a = np.zeros((block.size, block.size))
    for i, row in enumerate(block.matrix):
        for j, entry in row.items():
            a[i, j] = float(entry)
    radius = float(np.max(np.abs(np.linalg.eigvals(a)), initial=0))
    require(
        radius <= GROWTH,
        f"{block.place}: {block.name} grows by {radius:.4g} at each token; a saturating network cannot hold what has no bound. "
        "Give it a decay of at most 1.",
    )
