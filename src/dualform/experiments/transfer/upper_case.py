"""A behaviour that can be counted, upper case: its rule, texts with and without it, and a text in which it lasts."""

from collections.abc import Sequence

import numpy as np

from dualform.errors import require

LETTERS = (30, 60)
"""How long the lines of a contrast are, in characters."""


def share(text: str) -> float:
    """The rule: how many of a text's letters are upper case, from 0 to 1; 0 where there is no letter."""
    letters = [character for character in text if character.isalpha()]
    return sum(character.isupper() for character in letters) / len(letters) if letters else 0.0


def cased(text: str, seed: int, speeches: int = 4) -> str:
    """The text in sections of so many speeches, which empty lines part, every section upper case or as it is by an even chance.

    **Raises:** `InputError` where a character's upper case is several, so that the parts of the two texts would differ.
    """
    require(len(text.upper()) == len(text), "a character of this text is several in upper case. Give another text.")
    parts, random = text.split("\n\n"), np.random.default_rng(seed)
    sections = ["\n\n".join(parts[first : first + speeches]) for first in range(0, len(parts), speeches)]
    upper = random.random(len(sections)) < 0.5
    return "\n\n".join(part.upper() if up else part for part, up in zip(sections, upper, strict=True))


def contrast_lines(text: str, count: int, seed: int) -> list[str]:
    """So many different lines of the text's first nine tenths, none of them upper case already."""
    lines = text[: int(0.9 * len(text))].split("\n")
    usable = sorted({line for line in lines if LETTERS[0] <= len(line) <= LETTERS[1] and share(line) < 0.5})
    return [usable[i] for i in np.random.default_rng(seed).choice(len(usable), count, replace=False)]


def prompts(text: str, count: int, without: Sequence[str]) -> list[str]:
    """Evenly spread lines of the text's last twentieth, at least 40 characters long, none of which is in `without`."""
    known = set(without)
    lines = [line for line in text[int(0.95 * len(text)) :].split("\n") if len(line) >= 40 and share(line) < 0.5]
    usable = [line for line in dict.fromkeys(lines) if line not in known]
    places = np.linspace(0, len(usable) - 1, count).astype(int)
    return [usable[i] for i in places]
