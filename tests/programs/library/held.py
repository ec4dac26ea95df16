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

POSITIVE = {
    to: "lie in \\[0, 1\\], and a product of decays that are not negative never comes back"
    for to in ("hawk", "griffin")
}
REAL = {to: "lie in \\[-1, 1\\], and real decays count modulo powers of two alone" for to in ("mamba", "delta")}
TURNS = POSITIVE | REAL
"""What turns by other than half a circle."""

SIGNS = POSITIVE
"""What changes its sign."""

SMALL = {"scale": 4, "large": 512}

VARIANTS: Mapping[str, Variant] = {
    "majority": Variant("majority"),
    "token count": Variant("token_count", {}, TURNS),
    "token count of four places": Variant("token_count", {"n": 4, "form": "rotation"}, TURNS, quick=False),
    "token count of two places": Variant("token_count", {"n": 2, "form": "rotation"}, SIGNS, quick=False),
    "token count by division": Variant("token_count", {"n": 3, "form": "division", "longest": 200}, quick=False),
    # What turns is cos and sin, rounded once.
    "token count by rotation": Variant("token_count", {"n": 7, "form": "rotation"}, TURNS, quick=False),
    "remainder": Variant("remainder", {"n": 3, "longest": 60, "base": 3}, quick=False),
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
    "n-gram": Variant("n_gram", quick=False),
    "2-gram of three symbols by products": Variant(
        "n_gram", {"n": 2, "symbols": 3, "form": "multiplicative"}, PRODUCTS, quick=False
    ),
    "induction": Variant("induction", quick=False),
    "induction by shifting": Variant(
        "induction", {"symbols": 3, "form": "multiplicative", "delay": "shift"}, SHIFTS | PRODUCTS, quick=False
    ),
    "linear attention": Variant("linear_attention", {}, PRODUCTS),
    "recall": Variant("recall", {}, PRODUCTS, quick=False),
    "gradient descent": Variant("gradient_descent", {}, PRODUCTS, quick=False),
    "gradient descent of other widths": Variant(
        "gradient_descent", {"d_x": 4, "d_y": 1, "eta": 0.125}, PRODUCTS, quick=False
    ),
    "in-context map": Variant("in_context_map", {"length": 2, "longest": 80}, quick=False),
    "in-context map by products": Variant(
        "in_context_map", {"form": "multiplicative", "places": "ring"}, TURNS | PRODUCTS, quick=False
    ),
    "tok2tok": Variant("tok2tok", {"cycle": "ring"}, TURNS | PRODUCTS, quick=False),
    "tok2tok as published": Variant("tok2tok", {"delay": "shift"}, TURNS | SHIFTS | PRODUCTS, quick=False),
    "tok2tok of one token": Variant("tok2tok", {"length": 1}, SIGNS | PRODUCTS, quick=False),
    # 1e10 leaves float32 no digit for tokens; smaller numbers do.
    "tok2tok, optimised": Variant("tok2tok", {"length": 2, "form": "optimised", **SMALL}, TURNS, quick=False),
    "tok2tok by steps": Variant("tok2tok", {"length": 2, "form": "step", **SMALL}, TURNS, quick=False),
    "tok2tok, direct": Variant("tok2tok", {"length": 2, "form": "direct", **SMALL}, TURNS, quick=False),
    "vec2vec": Variant("vec2vec", {}, PRODUCTS, quick=False),
    "vec2vec of three numbers": Variant("vec2vec", {"d_in": 1, "d_out": 3}, PRODUCTS, quick=False),
    # Values are below 3. A condition is rounded by 3e-5 in float32, 500 - 499, and that is multiplied by the large number.
    "vec2vec, optimised": Variant("vec2vec", {"form": "optimised", "large": 4}, quick=False),
    "vec2vec by steps": Variant("vec2vec", {"form": "step", "large": 4}, quick=False),
    "vec2vec, direct": Variant("vec2vec", {"form": "direct", "large": 4}, quick=False),
}

BILINEAR = ("linear attention", "recall", "gradient descent", "gradient descent of other widths")
"""What is made of products and sums alone, which one gated RNN holds."""

FIRST = (("dyck", "linear-rnn"), ("sorting", "lstm"), ("majority", "hawk"), ("linear attention", "gated-rnn"))
"""Pairs that the README's tests compile besides."""

TOLERANCES: Mapping[str, float] = {}
"""By architecture, where it is not 1e-9 in float64."""


def refusal(name: str, to: str) -> str | None:
    """What an architecture says that cannot hold a program; None where it holds it."""
    if to == "gated-rnn":
        return None if name in BILINEAR else "a gated RNN has no ReLU, only products|mixes its entries"
    return VARIANTS[name].refused.get(to)


def held(name: str, to: str) -> bool:
    """Whether an architecture holds a program."""
    return refusal(name, to) is None


def tolerance(name: str, to: str) -> float:
    """How far a compiled network may be from the interpreter in float64."""
    return TOLERANCES.get(to, 1e-9)


def quick(name: str, to: str) -> bool:
    """Whether the README's tests compile this pair: some programs to one architecture, and one to some others."""
    return VARIANTS[name].quick and to == "gated-linear-rnn" or (name, to) in FIRST
