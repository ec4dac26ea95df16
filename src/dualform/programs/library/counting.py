"""Counts: which of two symbols is ahead, how many tokens or ones there were, and what is left of them modulo n."""

import numpy as np

from dualform.errors import require
from dualform.programs.library.draws import bits
from dualform.programs.library.registration import register
from dualform.programs.program import Program
from dualform.programs.sugar import counter, exceeds, modulo
from dualform.programs.sugar import remainder as divided
from dualform.programs.values import Input, whole_number

LONGEST = 4095
"""How many ones are counted modulo n if not said otherwise."""


@register("majority")
def majority() -> Program:
    """1 where more ones than zeros were read, 0 elsewhere.

    A one moves a counter up, a zero moves it down: lead_t = lead_{t-1} + 2 x_t - 1, and y_t = [lead_t > 0].

    **Source:** the notebook `more_ones_or_zeros` of Petrov et al. 2024 (arXiv 2406.01424).
    """
    x = Input(low=0, high=1, whole=True)
    lead = counter(2 * x - 1, name="lead")
    return Program(
        exceeds(lead, 0),
        draw=bits,
        expected=lambda x: (np.cumsum(2 * x - 1, axis=0) > 0).astype(float),
        discrete=True,
    )


@register("token_count")
def token_count(n: int = 5, form: str = "ring", longest: int = LONGEST) -> Program:
    """How many tokens came before this one, modulo n: 0, 1, ..., n - 1, 0, 1, ...

    A state that goes round by itself: n places, of which one is 1, that move on by one place at each token (form "ring"), or a
    point on a circle, turned by 1 / n of it, and steps that see where it is ("rotation", as published). Its matrix is the same
    at every token, so it can count tokens, but not some of them: for that see `remainder`. Where decays are real numbers, and
    nothing goes round, form "division" divides the count of all tokens, of no more than `longest`.
    """
    n = whole_number("n", n)
    x = Input(low=0, high=1, whole=True)
    count = divided(counter(1, start=-1, name="tokens"), n, longest) if form == "division" else modulo(n, form)
    return Program(
        count + 0 * x,
        draw=bits,
        expected=lambda x: np.arange(len(x))[:, None] % n,
        discrete=True,
        scored=lambda x: (np.arange(len(x)) <= longest) | (form != "division"),
    )


@register("remainder")
def remainder(n: int = 3, longest: int = LONGEST, base: int = 4) -> Program:
    """How many ones were read, modulo n, of no more than `longest` ones.

    The count of all ones is a linear state; the count modulo n, which a token turns only if it is a one, is none: its matrix
    would be another one for each token. So what is divided is the count, as on paper: as many times n base^k as fit are taken
    off, then as many times n base^(k-1), down to n; what is left is the remainder. Every power is a layer. A network that turns
    its state by what it reads does it at any length: see `dualform.programs.automata`.
    """
    x = Input(low=0, high=1, whole=True)
    return Program(
        divided(counter(x, name="ones"), n, longest, base),
        draw=bits,
        expected=lambda x: np.cumsum(x, axis=0) % n,
        discrete=True,
        scored=lambda x: np.cumsum(x) <= longest,
    )


@register("parity")
def parity(longest: int = LONGEST, base: int = 4) -> Program:
    """1 where an odd number of ones was read, 0 where an even one, of no more than `longest` ones.

    The remainder of their count modulo 2. What one would write first, r_t = (1 - 2 x_t) r_{t-1}, is refused: it multiplies a
    state by the token, and the state of a linear recurrence knows sums and constant factors of its past alone.
    """
    require(longest >= 1, f"longest is {longest}; it must be at least 1.")
    return remainder(2, longest, base)
