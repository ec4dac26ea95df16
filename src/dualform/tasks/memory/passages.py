"""Facts in a text: needles, and needles asked for by turns with summaries."""

import numpy as np

from dualform.errors import require
from dualform.tasks.memory.example import Example, Question, Room
from dualform.tasks.memory.words import COLOURS, THINGS, chosen, names, numbers


def _needles(rng: np.random.Generator, count: int) -> tuple[list[str], list[Question]]:
    """Sentences that each give a thing's code, and the questions for them."""
    most = len(COLOURS) * len(THINGS)
    require(count <= most, f"{count} needles: there are things for {most}. Give fewer items or turns.")
    drawn = rng.choice(most, count, replace=False).tolist()
    things = [f"{COLOURS[i % len(COLOURS)]} {THINGS[i // len(COLOURS)]}" for i in drawn]
    codes = numbers(rng, count)
    facts = [f"The code of the {thing} is {code}." for thing, code in zip(things, codes, strict=True)]
    ask = lambda thing, code: Question(
        f"What is the code of the {thing}?", f"The code of the {thing} is", (code,), f" {code}.", "contains"
    )
    return facts, [ask(thing, code) for thing, code in zip(things, codes, strict=True)]


def needle(rng: np.random.Generator, room: Room, turns: int) -> Example:
    """Codes of things in sentences of a text; each question asks for another thing's. Items are needles.

    **Source:** Hsieh et al. 2024 (RULER, arXiv 2404.06654, Sec. 3), several needles with a key each.
    """
    facts, questions = _needles(rng, room.items or turns)
    context = room.scattered(facts, rng.random(len(facts)).tolist(), rng)
    return Example(context, tuple(questions[i] for i in chosen(rng, len(facts), turns)))


WHO = "mayor teacher baker farmer doctor painter captain judge miller gardener".split()
DID = (
    "built a stone bridge, opened a small school, planted forty trees, sold the old mill, repaired the harbour wall, "
    "bought a herd of goats, wrote a long letter, found a silver ring, closed the north road, painted the town hall, "
    "founded a choir, dug a deep well"
).split(", ")


def summary_needle(rng: np.random.Generator, room: Room, turns: int) -> Example:
    """By turns a summary of what happened in a town, and a needle. A town's two events are apart, among sentences of a text.

    The reference of a summary is the two events. Its score is ROUGE-L, that of a needle whether the code is there.

    **Source:** SCBench Mix.Sum+NIAH (Li et al. 2024, arXiv 2412.10319, Sec. 3.1); there the texts are reports with
    summaries written by people.
    """
    towns = [name.capitalize() for name in names(rng, -(-turns // 2))]
    drawn = rng.choice(len(WHO) * len(DID), 2 * len(towns), replace=False).tolist()
    events = [f"In {towns[n // 2]} the {WHO[i % len(WHO)]} {DID[i // len(WHO)]}." for n, i in enumerate(drawn)]
    needles, asked = _needles(rng, max(turns // 2, 1) if room.items is None else room.items)
    places = [*rng.random(len(needles)).tolist(), *((n % 2 + rng.random()) / 2 for n in range(len(events)))]
    context = room.scattered([*needles, *events], places, rng)
    order = chosen(rng, len(asked), turns // 2)

    def question(turn: int) -> Question:
        if turn % 2:
            return asked[order[turn // 2]]
        town, both = towns[turn // 2], events[turn // 2 * 2 : turn // 2 * 2 + 2]
        said = " ".join(both).removeprefix(f"In {town}")
        return Question(f"Sum up what happened in {town}.", f"In {town}", (said,), said, "ROUGE-L")

    return Example(context, tuple(question(turn) for turn in range(turns)))
