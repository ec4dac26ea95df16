"""Names, numbers and filler for contexts: drawn from a seed, or sentences of a text."""

import importlib
import itertools
import re
from collections.abc import Sequence

import numpy as np

SYLLABLES = [a + b for a, b in itertools.product("bdfgklmnprstvz", "aeiou")]
KINDS = {
    "animal": "cat dog horse cow sheep goat pig wolf bear fox lion tiger mouse rabbit deer monkey camel donkey zebra otter",
    "fruit": "apple pear plum cherry lemon orange banana grape peach melon mango fig apricot lime kiwi papaya coconut guava "
    "raspberry blueberry",
    "tool": "hammer saw drill wrench pliers chisel screwdriver shovel rake axe file clamp ladder trowel spade hoe mallet crowbar "
    "scissors tweezers",
    "country": "France Spain Italy Norway Sweden Poland Greece Turkey Egypt Kenya India China Japan Peru Chile Brazil Canada "
    "Mexico Cuba Ireland",
    "metal": "iron copper silver gold tin lead zinc nickel steel bronze brass aluminium titanium platinum mercury cobalt "
    "tungsten chromium lithium magnesium",
    "instrument": "piano violin guitar flute drum trumpet harp cello organ clarinet trombone banjo oboe tuba saxophone viola "
    "accordion lute bassoon harmonica",
}
COLOURS = "red green blue yellow white black brown grey purple pink orange golden".split()
THINGS = (
    "lantern door boat garden tower bridge wagon mirror basket clock barrel statue ladder window chest lamp carpet kettle bell "
    "saddle"
).split()


def names(rng: np.random.Generator, count: int, syllables: int = 3) -> list[str]:
    """Made-up words, all different."""
    drawn = rng.choice(len(SYLLABLES) ** syllables, count, replace=False)
    digits = lambda n: [SYLLABLES[n // len(SYLLABLES) ** i % len(SYLLABLES)] for i in range(syllables)]
    return ["".join(digits(int(n))) for n in drawn]


def numbers(rng: np.random.Generator, count: int, digits: int = 5) -> list[str]:
    """Whole numbers of so many digits, all different."""
    return [str(10 ** (digits - 1) + int(n)) for n in rng.choice(9 * 10 ** (digits - 1), count, replace=False)]


def sentences_of(text: str) -> list[str]:
    """The plain sentences of a text, of 5 to 40 words, in order: no digits, no code, nothing but letters and marks."""
    found = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text))
    plain = re.compile(r"[A-Z][A-Za-z ,;:'\"\u2018\u2019\u201c\u201d\u2014-]+[.!?]")
    return [sentence for sentence in found if plain.fullmatch(sentence) and 5 <= len(sentence.split()) <= 40]


def filler() -> list[str]:
    """Sentences of the standard library's help on Python's language, which comes with every Python."""
    topics = importlib.import_module("pydoc_data.topics").topics
    return [sentence for name in sorted(topics) for sentence in sentences_of(topics[name])]


def chosen(rng: np.random.Generator, count: int, asked: int) -> list[int]:
    """Which of `count` items are asked for, each once, in the order of the questions."""
    return [int(i) for i in rng.permutation(count)[:asked]]


def listed(parts: Sequence[str]) -> str:
    """Parts with commas between them."""
    return ", ".join(parts)
