"""The map of tok2tok in few layers, of real decays and small numbers, which every architecture has."""

from fractions import Fraction

from dualform.errors import require
from dualform.programs.library.counting import LONGEST
from dualform.programs.library.registration import register
from dualform.programs.library.tok2tok import looked_up, prompt
from dualform.programs.program import Program
from dualform.programs.sugar import (
    both,
    counter,
    cycle,
    equal,
    exceeds,
    if_else,
    larger,
    one_hot,
    remainder,
)
from dualform.programs.values import Input, Value, broadcast, state, summed, whole_number

THIRD = Fraction(1, 3)


@register("in_context_map")
def in_context_map(
    length: int = 3,
    vocabulary: int = 10,
    form: str = "direct",
    places: str = "division",
    longest: int = LONGEST,
    samples: int = 20,
) -> Program:
    """A query of `length` tokens, then keys and values in turn: gives the value whose key is the query, as tok2tok does.

    What tok2tok counts by rotation is divided: decays are 1 and 1/3, which every architecture has. What it remembers of the
    tokens before is digits of one number each, of which one step sees what matters: with

        same_t = same_{t-1} / 3 + [key comes] [x_t = query[place_t]]
        met_t = met_{t-1} / 3 + [value begins] [same_t is as large as when the T tokens before were all equal]

    the value that is to be copied comes where met_t is still 3^(1-T) or more. Steps have slopes that whole numbers need, and the
    conditionals subtract twice the vocabulary, not 1e10: it is exact in float32 whatever their form.

    **Arguments:** length: T, at most 6, for digits to be told apart in float32; vocabulary: tokens are whole numbers below it;
    form: of the conditionals, see `if_else`; places: "division", of prompts of no more than `longest` tokens, or "ring" or
    "rotation", see `cycle`; samples: of the maps that are drawn.
    """
    t, samples = whole_number("length", length), whole_number("samples", samples)
    require(t <= 6, f"length is {t}; digits of more than 6 tokens are not told apart in float32. Take tok2tok.")
    require(vocabulary >= 2, f"vocabulary is {vocabulary}; a map needs at least 2 tokens.")
    kept = lambda condition, value: if_else(condition, value, form=form, large=2 * vocabulary)

    x = Input(low=0, high=vocabulary - 1, whole=True)
    time = counter(1, start=-1, name="time")  # 0 at the first token
    at, key_comes = _places(time, t, places, longest)
    in_prompt = exceeds(time, t - 1)
    value_comes = both(in_prompt, 1 - key_comes)

    query = counter(kept(both(at, broadcast(1 - in_prompt, t)), broadcast(x, t)), name="query")
    right = both(equal(x, summed(kept(at, query)), scale=4), key_comes)
    same = state(right, a=[[THIRD]], name="same")
    # 3^-1 + ... + 3^-T where all were equal; 3^-T less at the most, where one of them was not.
    all_were = sum((THIRD**i for i in range(1, t + 1)), Fraction(0))
    found = both(larger(same, all_were - THIRD**t * Fraction(3, 4), scale=2 * 3**t), both(value_comes, at[0]))
    met = state(found, a=[[THIRD]], name="met")
    # 3^(1-T) at the last token of the value, 3^(-2T) at the next one that could be taken for it.
    copying = both(larger(met, THIRD ** (t - 1) / 3, scale=2 * 3 ** (t - 1)), value_comes)
    held = counter(kept(both(at, broadcast(copying, t)), broadcast(x, t)), name="value")
    return Program(
        summed(kept(at, held)),
        draw=lambda random, time: prompt(random, time, t, vocabulary, samples),
        expected=lambda x: looked_up(x[:, 0], t),
        discrete=True,
    )


def _places(time: Value, t: int, form: str, longest: int) -> tuple[Value, Value]:
    """Where in a key or a value a token stands, one-hot of t; and 1 where a key comes, the second half of 2 t places."""
    if form != "division":
        twice = cycle(2 * t, form)
        return twice[:t] + twice[t:], summed(twice[t:])
    place = remainder(time, 2 * t, longest)
    key_comes = exceeds(place, t - 1)
    return one_hot(place - t * key_comes, t, scale=4), key_comes
