"""What asks for all of the context: labels learned from many shots, and numbers found in a long list."""

import numpy as np

from dualform.errors import require
from dualform.tasks.memory.example import Example, Question, Room
from dualform.tasks.memory.words import KINDS, names

LABELS = 4


def many_shot(rng: np.random.Generator, room: Room, turns: int) -> Example:
    """Words with a label, one a line: four kinds of thing, each with a made-up label; then words that were not shown.

    **Source:** SCBench ICL.ManyShot (Li et al. 2024, arXiv 2412.10319, Sec. 3.1); there the shots are of three tasks of
    BIG-bench.
    """
    kinds = [list(KINDS)[i] for i in rng.permutation(len(KINDS))[:LABELS]]
    labels = names(rng, LABELS, 2)
    held_back = max(-(-turns // LABELS), 4)
    require(held_back <= 12, f"{turns} turns: many-shot has words for at most {12 * LABELS} questions.")
    words = {kind: [str(w) for w in rng.permutation(KINDS[kind].split())] for kind in kinds}
    shown = [(word, label) for kind, label in zip(kinds, labels, strict=True) for word in words[kind][held_back:]]
    count = room.items or max(room.length // 2, turns)
    rounds = [int(i) for _ in range(-(-count // len(shown))) for i in rng.permutation(len(shown))]
    facts = ["{} -> {}".format(*shown[i]) for i in rounds[:count]]
    if room.items is None:
        context, _ = room.fitted(lambda n: "\n".join(facts[:n]), turns, count)
    else:
        context = room.scattered(facts, np.sort(rng.random(count)).tolist(), rng)
    new = [(words[kind][i], label) for i in range(held_back) for kind, label in zip(kinds, labels, strict=True)]

    def question(i: int) -> Question:
        word, label = new[i]
        return Question(f"Which label has {word}?", f"{word} ->", (label,), f" {label}", "first word")

    return Example(context, tuple(question(int(i)) for i in rng.permutation(len(new))[:turns]))


RANKS = {
    "largest": lambda a: a[-1],
    "smallest": lambda a: a[0],
    "median": lambda a: a[len(a) // 2],
    "second largest": lambda a: a[-2],
    "second smallest": lambda a: a[1],
    "third largest": lambda a: a[-3],
    "third smallest": lambda a: a[2],
}


def math_find(rng: np.random.Generator, room: Room, turns: int) -> Example:
    """A list of different whole numbers; each question asks for another one by its rank.

    **Source:** Zhang et al. 2024 (InfiniteBench, arXiv 2402.13718), in SCBench Math.Find.
    """
    require(turns <= len(RANKS), f"{turns} turns: math-find has {len(RANKS)} questions. Give fewer turns.")
    most = room.items or min(max(room.length // 2, 7), 900)
    require(most <= 900, f"{most} items: math-find has at most 900 numbers, of three digits.")
    drawn = [100 + int(i) for i in rng.permutation(900)[:most]]
    # An odd number of numbers has one in the middle.
    build = lambda n: "[" + ", ".join(map(str, drawn[: 2 * n + 1])) + "]"
    if room.items is None:
        context, half = room.fitted(build, 3, (most - 1) // 2)
    else:
        require(most >= 7, f"{most} items: math-find needs at least 7 numbers.")
        half = (most - 1) // 2
        context = room.scattered([build(half)], [float(rng.random())], rng)
    ranked = sorted(drawn[: 2 * half + 1])

    def question(name: str) -> Question:
        answer = str(RANKS[name](ranked))
        return Question(
            f"What is the {name} number in the list?", f"The {name} number is", (answer,), f" {answer}.", "first number"
        )

    return Example(context, tuple(question(list(RANKS)[int(i)]) for i in rng.permutation(len(RANKS))[:turns]))
