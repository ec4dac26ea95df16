"""What was read some tokens ago."""

import numpy as np

from dualform.programs.library.draws import bits
from dualform.programs.library.registration import register
from dualform.programs.program import Program
from dualform.programs.sugar import delay, shift_register
from dualform.programs.values import Input, whole_number


@register("shift_register")
def shift(length: int = 4, form: str = "digits") -> Program:
    """The last `length` bits that were read, the newest first; 0 before the first.

    Form "shift" hands each bit on to the next place at each token, which takes a matrix without eigenvectors: rnn, gru and lstm
    have it. Form "digits" keeps one number, rest_t = rest_{t-1} / 3 + x_t, whose digits in base 3 are the bits, and reads one
    after the other: where 3 (rest - x) is above 3/4 the next bit is 1. Every digit takes 1.6 bits of the arithmetic, and the
    threshold three more: a delay of 11 is right in float32, and of 30 in float64; longer ones are refused when they are compiled.
    """
    length = whole_number("length", length)
    x = Input(low=0, high=1, whole=True)
    return Program(shift_register(x, length, form), draw=bits, expected=lambda x: _last(x, length), discrete=True)


@register("delayed_copy")
def delayed_copy(by: int = 3, form: str = "digits") -> Program:
    """The bit that was read `by` tokens ago, 0 before the first: forms as of shift_register."""
    by = whole_number("by", by)
    x = Input(low=0, high=1, whole=True)
    return Program(delay(x, by, form), draw=bits, expected=lambda x: _last(x, by + 1)[:, -1:], discrete=True)


def _last(x: np.ndarray, length: int) -> np.ndarray:
    before = np.concatenate([np.zeros((length - 1, 1)), x])
    return np.concatenate([before[length - 1 - i : len(before) - i] for i in range(length)], axis=1)
