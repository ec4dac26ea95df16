"""Copies of what followed the same context: n-grams, and the induction head."""

from collections import Counter

import numpy as np

from dualform.errors import require
from dualform.programs.library.draws import symbols as any_symbols
from dualform.programs.library.registration import register
from dualform.programs.program import Program
from dualform.programs.sugar import both, counter, exceeds, if_else, one_hot, shift_register
from dualform.programs.values import Input, Linear, Number, Value, broadcast, concat

LARGE = 2**13
"""Above the count of anything in 8,192 tokens; a power of two, so that float32 adds it to counts without rounding."""


def followers(n: int, symbols: int, form: str, large: Number, delay: str) -> Value:
    """How often each symbol followed the last n - 1 ones so far, (symbols,), of whole numbers below `symbols`.

    count_t[c, b] = count_{t-1}[c, b] + [c was read before token t] [x_t = b],  y_t[b] = count_t[the last n - 1 symbols, b]
    """
    require(n >= 2, f"n is {n}; the shortest context is one symbol, of 2-grams.")
    require(symbols >= 2, f"symbols is {symbols}; one symbol always follows itself, so take at least 2.")
    contexts = symbols ** (n - 1)
    require(
        contexts <= 256, f"{symbols} symbols have {contexts} contexts of {n - 1}; take fewer symbols, or a smaller n."
    )
    x = Input(low=0, high=symbols - 1, whole=True)
    seen = shift_register(one_hot(x, symbols, scale=4), n, delay, name="seen")
    last = [seen[i * symbols : (i + 1) * symbols] for i in range(n)]  # the newest first
    shown = []
    for now, before in zip(_combined(last[:-1]), _combined(last[1:]), strict=True):
        count = counter(both(last[0], broadcast(before, symbols)), name="count")
        shown.append(if_else(now, count, form=form, large=large))
    return Linear(concat(*shown), [{c * symbols + b: 1 for c in range(contexts)} for b in range(symbols)])


def _combined(parts: list[Value]) -> Value:
    """One-hot of what several one-hots are together, the last one slowest."""
    found = parts[0]
    for part in parts[1:]:
        found = concat(*(both(found, broadcast(entry, found.width)) for entry in part))
    return found


@register("n_gram")
def n_gram(n: int = 3, symbols: int = 2, form: str = "direct", large: Number = LARGE, delay: str = "digits") -> Program:
    """How often each symbol has followed, so far, what the last n - 1 symbols are.

    Every context of n - 1 symbols has a counter for each symbol that may follow it; the last n - 1 symbols choose which of them
    are shown. Divided by their sum they are the n-gram model of the sequence so far, which in-context learners are found to be.

    **Arguments:** n; symbols: tokens are whole numbers below it; form, large: of the conditional that chooses, see `if_else`;
    delay: see `shift_register`.

    **Raises:** `InputError` for more than 256 contexts.
    """
    return Program(
        followers(n, symbols, form, large, delay),
        draw=any_symbols(symbols),
        expected=lambda x: _counted(x[:, 0].astype(int), n, symbols),
        discrete=True,
    )


@register("induction")
def induction(symbols: int = 4, form: str = "direct", large: Number = LARGE, delay: str = "digits") -> Program:
    """The induction head: the symbol that most often followed the one just read; `symbols` where nothing did.

    [A] [B] ... [A] gives [B]. Of symbols that followed equally often the smallest comes. It is n_gram of 2, and b is the answer
    where no other count is above its own, and none before it as high.

    What followed *last* would need a register that is written over, which is no linear state; see `recall`.
    """
    counts, best = followers(2, symbols, form, large, delay), []
    for b in range(symbols):
        others = [a for a in range(symbols) if a != b]
        beaten = [exceeds(counts[a] if a > b else counts[a] + 1, counts[b]) for a in others]
        best.append(both(*(1 - each for each in beaten), exceeds(counts[b], 0)))
    chosen = concat(*best)
    return Program(
        Linear(chosen, [{b: b - symbols for b in range(symbols)}], [symbols]),
        draw=lambda random, time: _repeating(random, time, symbols),
        expected=lambda x: _followed(x[:, 0].astype(int), symbols),
        discrete=True,
    )


def _counted(tokens: np.ndarray, n: int, symbols: int) -> np.ndarray:
    """By a dictionary of n-grams."""
    found, seen = [], Counter()
    # Before the first token there is none: contexts that reach there are those of no symbol.
    padded = [-1] * (n - 1) + tokens.tolist()
    for t in range(n - 1, len(padded)):
        seen[tuple(padded[t - n + 1 : t + 1])] += 1
        context = tuple(padded[t - n + 2 : t + 1])
        found.append([seen[*context, b] if -1 not in context else 0 for b in range(symbols)])
    return np.array(found, float)


def _followed(tokens: np.ndarray, symbols: int) -> np.ndarray:
    counts = _counted(tokens, 2, symbols)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), symbols)[:, None]


def _repeating(random: np.random.Generator, time: int, symbols: int) -> np.ndarray:
    """A random sequence of four times as many tokens as symbols, again and again, one in ten of them changed."""
    period = random.integers(0, symbols, 4 * symbols)
    found = np.tile(period, -(-time // len(period)))[:time]
    return np.where(random.random(time) < 0.1, random.integers(0, symbols, time), found).astype(float)[:, None]
