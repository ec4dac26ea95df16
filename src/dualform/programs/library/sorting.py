"""Sorting by counting."""

import numpy as np

from dualform.programs.library.registration import register
from dualform.programs.program import Program
from dualform.programs.sugar import counter, exceeds, one_hot
from dualform.programs.values import Input, Linear, broadcast, summed, whole_number


@register("sorting")
def sorting(values: int = 4) -> Program:
    """Items, then delimiters: at the p-th delimiter comes the p-th smallest item.

    Items are whole numbers below `values`; the delimiter is `values` itself, given once for each item that is to come out, and
    it comes out where there are no more. Nothing is compared with anything: count_t[v] items were v, so at_most_t[v] =
    count_t[0] + ... + count_t[v] were v or less, and the p-th smallest is how many of these are below p:

        y_t = [p_t > at_most_t[0]] + ... + [p_t > at_most_t[values - 1]],  p_t the number of delimiters so far
    """
    n = whole_number("values", values)
    x = Input(low=0, high=n, whole=True)
    read = one_hot(x, n + 1, scale=4)
    counts = counter(read, name="counts")
    at_most = Linear(counts, [{u: 1 for u in range(v + 1)} for v in range(n)])
    place = counts[n]
    return Program(
        summed(exceeds(broadcast(place, n), at_most)),
        draw=lambda random, time: _items(random, time, n),
        expected=lambda x: _sorted(x[:, 0], n),
        discrete=True,
        scored=lambda x: np.cumsum(x[:, 0] == n) > 0,
    )


def _items(random: np.random.Generator, time: int, n: int) -> np.ndarray:
    """Some items, then delimiters, at least one for each and one more."""
    items = random.integers(0, n, random.integers(0, (time - 1) // 2 + 1))
    return np.concatenate([items, np.full(time - len(items), n)]).astype(float)[:, None]


def _sorted(tokens: np.ndarray, n: int) -> np.ndarray:
    """At each delimiter the next of the items, sorted; 0 before the first."""
    items = sorted(tokens[tokens < n])
    place = np.cumsum(tokens == n)
    come = np.array([0, *items] + [n] * len(tokens), float)
    return come[place][:, None]
