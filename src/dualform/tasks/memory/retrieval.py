"""Retrieval of strings: pairs of a key and a value, strings by their two ends, and variables that are given on."""

import numpy as np

from dualform.errors import require
from dualform.tasks.memory.example import Example, Question, Room
from dualform.tasks.memory.words import chosen, listed, names, numbers

MOST = 10_000


def kv(rng: np.random.Generator, room: Room, turns: int) -> Example:
    """Keys and values, one pair a line; each question asks for the value of another key.

    **Source:** Liu et al. 2023 (arXiv 2307.03172, Sec. 3), in SCBench Retr.KV; here keys are made-up words and values of five
    digits, where there they are of 128 bits.
    """
    count = room.items or min(room.length, MOST)
    keys, values = names(rng, count), numbers(rng, count)
    facts = [f'"{key}": "{value}"' for key, value in zip(keys, values, strict=True)]
    if room.items is None:
        context, count = room.fitted(lambda n: "{\n" + ",\n".join(facts[:n]) + "\n}", turns, count)
    else:
        context = room.scattered(facts, np.sort(rng.random(count)).tolist(), rng)

    def question(i: int) -> Question:
        ask = f'What is the value of the key "{keys[i]}"?'
        return Question(ask, f'"{keys[i]}": "', (values[i],), values[i] + '"', "contains")

    return Example(context, tuple(question(i) for i in chosen(rng, count, turns)))


def prefix_suffix(rng: np.random.Generator, room: Room, turns: int) -> Example:
    """Strings, one a line; each question gives the two ends of one. Others have the same beginning or the same end, not both.

    **Source:** SCBench Retr.Prefix-Suffix (Li et al. 2024, arXiv 2412.10319, Sec. 3.1).
    """
    count = room.items or min(room.length, 2_000)
    side = max(int(np.ceil(np.sqrt(1.5 * count))), 2)
    ends, middles = names(rng, 2 * side, 2), numbers(rng, count)
    pairs = [(ends[p // side], ends[side + p % side]) for p in rng.choice(side**2, count, replace=False).tolist()]
    strings = [f"{first}-{middle}-{last}" for (first, last), middle in zip(pairs, middles, strict=True)]
    if room.items is None:
        context, count = room.fitted(lambda n: "\n".join(strings[:n]), turns, count)
    else:
        context = room.scattered(strings, np.sort(rng.random(count)).tolist(), rng)

    def question(i: int) -> Question:
        first, last = pairs[i]
        ask = f'Which of the strings begins with "{first}-" and ends with "-{last}"?'
        return Question(ask, f"{first}-", (strings[i].removeprefix(f"{first}-"),), f"{middles[i]}-{last}", "contains")

    return Example(context, tuple(question(i) for i in chosen(rng, count, turns)))


HOPS = 2


def variable_tracking(rng: np.random.Generator, room: Room, turns: int) -> Example:
    """Chains of assignments among sentences: one variable gets a number, the next that variable, and so on, in this order.

    Each question gives another chain's number, and asks for all its variables. Items are chains.

    **Source:** Hsieh et al. 2024 (RULER, arXiv 2404.06654, Sec. 3), in SCBench Retr.MultiHop; 2 hops.
    """
    count = room.items or turns
    require(count <= MOST, f"{count:,} chains: give at most {MOST:,} items.")
    drawn, values = names(rng, count * (HOPS + 1), 2), numbers(rng, count)
    chains = [drawn[i * (HOPS + 1) : (i + 1) * (HOPS + 1)] for i in range(count)]
    facts, places = [], []
    for chain, value in zip(chains, values, strict=True):
        facts += [f"{name} = {given}" for name, given in zip(chain, [value, *chain], strict=False)]
        places += np.sort(rng.random(HOPS + 1)).tolist()
    context = room.scattered(facts, places, rng)

    def question(i: int) -> Question:
        ask = (
            f"Which variables have the value {values[i]}, by themselves or through another variable? Name all of them."
        )
        said = listed(chains[i]) + "."
        return Question(ask, f"The variables with the value {values[i]} are", tuple(chains[i]), " " + said, "share")

    return Example(context, tuple(question(i) for i in chosen(rng, count, turns)))
