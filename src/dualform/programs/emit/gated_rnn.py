"""Into one gated RNN: products of the token drive its states, products of the states are read.

A unit takes in one product and one is read at a time: linear attention, written as a program, comes out as the network that
`construct` makes of it.
"""

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform.errors import InputError, require
from dualform.mixers import GatedRNN
from dualform.programs.emit.registration import register
from dualform.programs.graph import Atom, Block, Form, Relu, Times
from dualform.programs.path import Path, lanes_of, rows

ONE = Form({}, Fraction(1))


@register("gated-rnn", "one gated RNN: products, states with decays in [0, 1], products")
def gated_rnn(path: Path, dtype: Any) -> GatedRNN:
    """The graph as h_t = lam * h_{t-1} + (W_m (x, 1)) * (W_x (x, 1)), y = D ((W_m h) * (W_x h)).

    A state has a unit for each product that drives it, and one for what else does; what is read of the token itself has units
    with lam = 0.

    **Raises:** `InputError`, with file and line, for a ReLU, a state that is not diagonal with decays in [0, 1], and what needs
    more than one layer.
    """
    graph, units = path.graph, _Units(path.graph.width)
    reads: dict[Atom, tuple[Form, Form]] = {}
    for first, step in zip(graph.first, graph.steps, strict=True):
        if isinstance(step, Relu):
            raise InputError(f"{step.place}: a gated RNN has no ReLU, only products. Compile to gated-linear-rnn.")
        if any(atom in reads for form in step.forms for atom in form.terms):
            raise InputError(
                f"{step.place}: what is read of the states is read again; a gated RNN is one layer. Compile to gated-linear-rnn."
            )
        if isinstance(step, Block):
            units.add_states(first, step)
        elif units.is_of_token(step):
            units.products[first] = (step.left, step.right)
        else:
            reads[first] = (step.left, step.right)
    outputs = []
    for form in graph.outputs:
        rest = Form({atom: factor for atom, factor in form.terms.items() if atom not in reads}, form.constant)
        outputs.append((form, rest))
    pairs = [*reads.values(), *((rest, ONE) for _, rest in outputs if rest.terms or rest.constant)]
    readout, plain = np.zeros((len(outputs), len(pairs))), len(reads)
    for i, (form, rest) in enumerate(outputs):
        for column, atom in enumerate(reads):
            readout[i, column] = float(form.terms.get(atom, 0))
        if rest.terms or rest.constant:
            readout[i, plain] = 1
            plain += 1
    found = [[units.row(pair[side]) for pair in pairs] for side in (0, 1)]
    cast = lambda w: jnp.asarray(np.asarray(w, np.float64), dtype)
    padded = lambda rows: cast(np.stack([np.pad(row, (0, len(units.decay) - len(row))) for row in rows]))
    w_m_in, w_x_in = units.inputs()
    return GatedRNN(
        w_m_in=cast(w_m_in),
        w_x_in=cast(w_x_in),
        w_m_out=padded(found[0]),
        w_x_out=padded(found[1]),
        readout=cast(readout),
        decay=cast(units.decay),
    )


class _Units:
    """The hidden units: (left, right, lam), each once; and what an atom is of them."""

    def __init__(self, width: int):
        self.width = width
        self.pairs: list[tuple[Form, Form]] = []
        self.decay: list[float] = []
        self.products: dict[Atom, tuple[Form, Form]] = {}
        self.states: dict[Atom, dict[int, float]] = {}
        self.number: dict[tuple, int] = {}

    def is_of_token(self, step: Times) -> bool:
        """Whether both factors read the input alone."""
        return all(atom < self.width for form in step.forms for atom in form.terms)

    def unit(self, left: Form, right: Form, decay: Fraction) -> int:
        """The unit that takes in a product, and forgets at this rate."""
        key = (left.key, right.key, decay)
        if key not in self.number:
            self.number[key] = len(self.pairs)
            self.pairs.append((left, right))
            self.decay.append(float(decay))
        return self.number[key]

    def add_states(self, first: Atom, block: Block) -> None:
        """A state as the sum of the units that take in what drives it.

        **Raises:** `InputError` where it is none that a gated RNN has.
        """
        for row, (entries, drive) in enumerate(zip(block.matrix, block.drive, strict=True)):
            decay = entries.get(row, Fraction(0))
            require(
                set(entries) <= {row} and 0 <= decay <= 1,
                f"{block.place}: {block.name} mixes its entries, or has a decay outside of [0, 1]; a gated RNN carries states "
                "one by one. Compile to gated-linear-rnn or rnn.",
            )
            found: dict[int, float] = {}
            plain = Form({atom: factor for atom, factor in drive.terms.items() if atom < self.width}, drive.constant)
            for atom, factor in drive.terms.items():
                if atom in self.products:
                    found[self.unit(*self.products[atom], decay)] = float(factor)
                else:
                    require(
                        atom < self.width,
                        f"{block.place}: {block.name} is driven by another state; a gated RNN is one layer. Compile to "
                        "gated-linear-rnn.",
                    )
            if plain.terms or plain.constant:
                found[self.unit(plain, ONE, decay)] = 1.0
            self.states[first + row] = found

    def row(self, form: Form) -> Float[np.ndarray, " units"]:
        """What reads a form of the units, which are added where they are not there yet."""
        found: dict[int, float] = {}
        plain = Form({atom: factor for atom, factor in form.terms.items() if atom < self.width}, form.constant)
        if plain.terms or plain.constant:
            found[self.unit(plain, ONE, Fraction(0))] = 1.0
        for atom, factor in form.terms.items():
            if atom in self.products:
                unit = self.unit(*self.products[atom], Fraction(0))
                found[unit] = found.get(unit, 0) + float(factor)
            for unit, share in self.states.get(atom, {}).items():
                found[unit] = found.get(unit, 0) + float(factor) * share
        row = np.zeros(len(self.decay))
        row[list(found)] = list(found.values())
        return row

    def inputs(self) -> tuple[Float[np.ndarray, "units width"], Float[np.ndarray, "units width"]]:
        """The two input gates, the last column their biases."""
        lanes = lanes_of(range(self.width))
        sides = ([pair[side] for pair in self.pairs] for side in (0, 1))
        left, right = (rows(forms, lanes, self.width) for forms in sides)
        return tuple(np.concatenate([w, b[:, None]], axis=1) for w, b in (left, right))  # pyright: ignore - two of them
