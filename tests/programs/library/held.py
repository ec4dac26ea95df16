"""Which programs are tried, with which options, and which architecture holds which of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A program of the library with options.

    - refused: by architecture, what is said where it cannot hold the program; all others hold it.
    - off: by how much the interpreter may be off the reference in float64, where outputs are whole numbers.
    - quick: whether it is compiled in the README's tests, to an architecture or two.
    """

    program: str
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    off: float = 0
    quick: bool = True


SHIFTS = {to: "no basis of eigenvectors, as that of a shift has none" for to in ("linear-rnn", "gated-linear-rnn")}
PRODUCTS = {"linear-rnn": "a linear RNN has no product of two values"}

VARIANTS: Mapping[str, Variant] = {
    "majority": Variant("majority"),
    "token count": Variant("token_count"),
    # What turns is cos and sin, rounded once.
    "token count by rotation": Variant("token_count", {"n": 7, "form": "rotation"}, quick=False),
    "remainder": Variant("remainder", {"n": 3, "longest": 60}, quick=False),
    "parity": Variant("parity", {"longest": 127}, quick=False),
    "dyck": Variant("dyck"),
    "dyck of bounded depth": Variant("dyck", {"deepest": 3}, quick=False),
    "brackets": Variant("brackets"),
    "brackets of three kinds by products": Variant(
        "brackets", {"kinds": 3, "deepest": 3, "form": "multiplicative"}, PRODUCTS, quick=False
    ),
    "sorting": Variant("sorting"),
    "shift register": Variant("shift_register"),
    "shift register by shifting": Variant("shift_register", {"form": "shift"}, SHIFTS, quick=False),
    "delayed copy": Variant("delayed_copy", {"by": 6}, quick=False),
    "delayed copy by shifting": Variant("delayed_copy", {"form": "shift"}, SHIFTS),
}

TOLERANCES: Mapping[str, float] = {}
"""By architecture, where it is not 1e-9 in float64."""


def held(name: str, to: str) -> bool:
    """Whether an architecture holds a program."""
    return to not in VARIANTS[name].refused


def tolerance(name: str, to: str) -> float:
    """How far a compiled network may be from the interpreter in float64."""
    return TOLERANCES.get(to, 1e-9)


def quick(name: str, to: str) -> bool:
    """Whether the README's tests compile this pair: some programs to linear recurrences, one to all."""
    return VARIANTS[name].quick and (to in ("linear-rnn", "gated-linear-rnn") or name == "sorting")
