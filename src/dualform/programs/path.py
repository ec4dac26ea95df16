"""A graph as a path of layers: in each, states are updated, then units read them; what later layers read goes along."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.programs.graph import Atom, Block, Form, Graph, Relu, Times


class Placed(NamedTuple):
    """A step with the atoms that it gives, which are `step.size` from `first` on."""

    first: Atom
    step: Relu | Times | Block

    @property
    def atoms(self) -> range:
        """They."""
        return range(self.first, self.first + self.step.size)


@dataclass(frozen=True)
class PathLayer:
    """A layer of the path: its states read what goes into it; its units read that, and its states after their update.

    - blocks: its states.  relus, products: its units.
    - given: atoms that go into the layer.  kept: atoms that leave it, those that a later layer or an output reads.
    """

    blocks: tuple[Placed, ...]
    relus: tuple[Placed, ...]
    products: tuple[Placed, ...]
    given: tuple[Atom, ...]
    kept: tuple[Atom, ...]

    @property
    def states(self) -> tuple[Atom, ...]:
        """The atoms of its states."""
        return tuple(atom for block in self.blocks for atom in block.atoms)

    @property
    def units(self) -> tuple[Placed, ...]:
        """ReLUs, then products."""
        return self.relus + self.products


@dataclass(frozen=True)
class Path:
    """Layers one above the other. The first is given the input's entries; outputs are forms of what the last one keeps.

    - drawn: inputs of the kind that the program is meant for, on which scales are chosen where a network has to; N(0, 1) if None.
    """

    graph: Graph
    layers: tuple[PathLayer, ...]
    drawn: Float[np.ndarray, "batch time d"] | None = None

    @property
    def width(self) -> int:
        """The most atoms that are kept between two layers."""
        return max((len(layer.kept) for layer in self.layers), default=self.graph.width)


def as_path(graph: Graph, together: bool = True) -> Path:
    """Every step in the first layer that can have it; at least one layer.

    **Arguments:** together: whether units read the states of their own layer; if not, they stand one layer above them.
    """
    level: dict[Atom, int] = dict.fromkeys(range(graph.width), 0)
    states: set[Atom] = set()
    placed: list[tuple[int, Placed]] = []
    for first, step in zip(graph.first, graph.steps, strict=True):
        reads = {atom for form in step.forms for atom in form.terms}
        if isinstance(step, Block) or not together:
            at = 1 + max((level[atom] for atom in reads), default=0)
        else:
            at = max((level[atom] + (atom not in states) for atom in reads), default=1)
        if isinstance(step, Block):
            states |= set(range(first, first + step.size))
        placed.append((at, Placed(first, step)))
        level |= dict.fromkeys(range(first, first + step.size), at)
    depth = max((at for at, _ in placed), default=1)
    last: dict[Atom, int] = {}
    for at, (_, step) in placed:
        for atom in (atom for form in step.forms for atom in form.terms):
            last[atom] = max(last.get(atom, 0), at)
    last |= dict.fromkeys((atom for form in graph.outputs for atom in form.terms), depth + 1)
    layers, given = [], tuple(range(graph.width))
    for at in range(1, depth + 1):
        here = [each for where, each in placed if where == at]
        kept = tuple(sorted(atom for atom, where in level.items() if where <= at and last.get(atom, 0) > at))
        of = lambda kind: tuple(each for each in here if isinstance(each.step, kind))  # noqa: B023 - called in this turn
        layers.append(PathLayer(of(Block), of(Relu), of(Times), given, kept))
        given = kept
    return Path(graph, tuple(layers))


def rows(
    forms: Sequence[Form], lanes: Mapping[Atom, int], width: int
) -> tuple[Float[np.ndarray, "forms width"], Float[np.ndarray, " forms"]]:
    """Forms as a matrix and a bias, each atom at its lane of a vector of so many numbers."""
    w, b = np.zeros((len(forms), width)), np.zeros(len(forms))
    for i, form in enumerate(forms):
        b[i] = float(form.constant)
        for atom, factor in form.terms.items():
            w[i, lanes[atom]] = float(factor)
    return w, b


def lanes_of(atoms: Iterable[Atom], first: int = 0) -> dict[Atom, int]:
    """A lane for each atom, in their order."""
    return {atom: first + i for i, atom in enumerate(atoms)}
