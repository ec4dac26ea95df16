"""Universal approximation in context, discrete: a map between sequences of tokens is given in the prompt, and looked up."""

from fractions import Fraction

import numpy as np

from dualform.errors import require
from dualform.programs.library.registration import register
from dualform.programs.program import Program
from dualform.programs.sugar import (
    LARGE,
    SCALE,
    both,
    counter,
    either,
    if_else,
    larger,
    modulo,
    shift_register,
    smaller,
    step,
    unless,
)
from dualform.programs.values import Input, Number, Value, concat, state, summed, whole_number

HALF = Fraction(1, 2)


@register("tok2tok")
def tok2tok(
    length: int = 3,
    form: str = "multiplicative",
    vocabulary: int = 10,
    samples: int = 20,
    delay: str = "digits",
    cycle: str = "rotation",
    scale: Number = SCALE,
    large: Number = LARGE,
    ramp: str = "whole",
) -> Program:
    """A query of `length` tokens, then keys and values of as many, in turn: gives the value whose key is the query, in a circle.

    Tokens are whole numbers below `vocabulary`. The query x_1 ... x_T is kept in T registers. A prompt k v k' v' ... follows:
    each token of a key is compared with the query's token at its place, and where all T of them were found equal, the value
    that comes next is copied to T registers more. At place i of T the output is register i, 0 until the key was met.

        query[i] += [t <= T] [place_t = i] x_t                    held[i] += [copying_t] [place_t = i] x_t
        equal_t = [key comes] [x_t = query[place_t]]              copying_t = [value comes] [t < met_t + T]
        met_t += [value begins] [equal at the T tokens before] t  y_t = held[place_t]

    Every `[...] x` is a conditional, and its form decides how the program stands rounding and noise. The optimised form is given
    the condition's opposite as a step of its own, see `unless`. Everything else is as published, steps of slope 1000 and the
    double steps in conjunctions too.

    **Arguments:** length: T; form: of the conditionals, see `if_else`; vocabulary, samples: of the maps that are drawn, which
    the program does not depend on; delay: "digits", or "shift" as published, see `shift_register`; cycle: "rotation" as
    published, or "ring"; scale: of the steps; large: of the conditionals, 1e10 as published, which float32 has too few digits
    for: there take a number above the length of the prompt, and a scale of 4; ramp: of the steps, see `step`.

    The same function, written for every architecture, is `in_context_map`.

    **Source:** Petrov et al. 2024 (arXiv 2406.01424), Sec. 5 and their tests. Deviates: the delay by digits.
    """
    t = whole_number("length", length)
    samples = whole_number("samples", samples)
    require(vocabulary >= 2, f"vocabulary is {vocabulary}; a map needs at least 2 tokens.")
    above = lambda x, y: larger(x, y, scale, ramp)
    below = lambda x, y: smaller(x, y, scale, ramp)
    together = lambda x, y: both(step(x, scale, ramp), step(y, scale, ramp))

    def kept(condition: Value, opposite: Value, value: Value) -> Value:
        if form == "optimised":
            return unless(opposite, value, large)
        return if_else(condition, value, form=form, scale=scale, large=large)

    x = Input(low=0, high=vocabulary - 1, whole=True)
    time = counter(1, start=-1, name="time")  # 0 at the first token
    place, twice = modulo(t, cycle, ramp=ramp), modulo(2 * t, cycle, ramp=ramp)
    at = [together(above(place, i - HALF), below(place, i + HALF)) for i in range(t)]
    elsewhere = [either(above(place, i + HALF), below(place, i - HALF)) for i in range(t)]
    in_prompt = above(time, t - HALF)
    key_comes = above(twice, t - HALF)
    value_comes = together(in_prompt, 1 - key_comes)
    value_begins = together(value_comes, below(place, HALF))

    query_token = kept(below(in_prompt, HALF), above(in_prompt, HALF), x)
    query = state(concat(*(kept(at[i], elsewhere[i], query_token) for i in range(t))), name="query")
    here = summed(concat(*(kept(at[i], elsewhere[i], query[i]) for i in range(t))))
    equal = together(together(above(x, here - HALF), below(x, here + HALF)), key_comes)

    # At the value's first token: were the t tokens before it equal?
    seen = shift_register(equal, t + 1, delay, name="equal")
    found = together(above(summed(seen[1:]), t - HALF), value_begins)
    met = counter(kept(found, 1 - found, time), name="met")
    copying = together(value_comes, below(time, met + t))

    written = [together(copying, each) for each in at]
    held = [counter(kept(above(each, HALF), below(each, HALF), x), name="value") for each in written]
    given = [kept(above(each, HALF), below(each, HALF), part) for each, part in zip(at, held, strict=True)]
    return Program(
        summed(concat(*given)),
        draw=lambda random, time: prompt(random, time, t, vocabulary, samples),
        expected=lambda x: looked_up(x[:, 0], t),
        discrete=True,
    )


def prompt(random: np.random.Generator, time: int, t: int, vocabulary: int, samples: int) -> np.ndarray:
    """A query, then keys and values for the rest of the time; the query is one of the first `samples` keys, and only that."""
    pairs = max(1, -(-(time - t) // (2 * t)))
    keys = _different(random, min(pairs, vocabulary**t), t, vocabulary)
    query = int(random.integers(0, min(len(keys), samples)))
    # Where there are no more keys, others than the query's come again.
    order = np.arange(pairs)
    others = np.delete(np.arange(len(keys)), query)
    order[len(keys) :] = random.choice(others, pairs - len(keys)) if pairs > len(keys) else 0
    values = random.integers(0, vocabulary, keys.shape)
    told = np.concatenate([keys, values], axis=1)[order].ravel()
    return np.concatenate([keys[query], told])[:time].astype(float)[:, None]


def _different(random: np.random.Generator, n: int, t: int, vocabulary: int) -> np.ndarray:
    """So many sequences, no two of them the same."""
    found: dict[tuple[int, ...], None] = {}
    while len(found) < n:
        found[tuple(int(each) for each in random.integers(0, vocabulary, t))] = None
    return np.array(list(found))


def looked_up(tokens: np.ndarray, t: int) -> np.ndarray:
    """By comparing pair after pair."""
    query, prompt = tokens[:t], tokens[t:]
    held, found = np.zeros(t), np.zeros(len(tokens))
    for i, token in enumerate(prompt):
        pair, place = divmod(i, 2 * t)
        key = prompt[2 * t * pair : 2 * t * pair + t]
        if place >= t and np.array_equal(key, query):
            held[place - t] = token
        found[t + i] = held[i % t]
    return found[:, None]
