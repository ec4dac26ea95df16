"""The recurrences as cases: numbers of several sizes and shares at both ends and between, against their naive forms."""

import numpy as np

from tests.precision.measure import Case
from tests.recurrences.every import RECURRENCES, numbers, specification

VARIANTS = ((1e-3, 0.0, 0.05), (1.0, 0.42, 0.505), (1.0, 0.6, 0.7), (1.0, 0.9, 1.0), (30.0, 0.0, 1.0))
"""What free numbers are multiplied by, and between what shares (decays, steps) lie. The second: products of 64 decays beside
the square root of what float32 holds. Of the last, a third of the shares is 0, a third 1."""

SUM = 1
"""Which part of a state of weights exp(score - largest) is their sum."""


def case(name: str, time: int) -> Case:
    """The recurrence `name` over `time` tokens, with outputs, the last state, and gradients of all that it is given."""
    random = np.random.default_rng(time)

    def draw(shape, part):
        each = []
        for size, low, high in VARIANTS:
            a = random.uniform(low, high, shape) if part.share else size * random.standard_normal(shape)
            if part.short:
                a = a / np.sqrt(1 + np.sum(a * a, axis=-1, keepdims=True))
            ends = random.integers(0, 3, shape)
            each.append(np.select([ends == 0, ends == 1], [0.0, 1.0], a) if part.share and high - low == 1 else a)
        return np.stack(each)

    shared, tokens, state = numbers(name, time, draw)
    state = tuple(abs(a) for a in state)
    if name.startswith(("softmax_scan", "wkv")):  # a sum of weights has that of the largest score in it, exp(0)
        state = tuple(1 + a if part == SUM else a for part, a in enumerate(state))

    def of(recurrence):
        def run(low, wide):
            shared, tokens = low
            y, final = recurrence.run(shared, tokens, wide, None, None)
            return y, final

        return run

    return Case(of(RECURRENCES[name]), of(specification(name)), (shared, tokens), state)
