"""Words, numbers and sentences to be spoken, drawn from a seed."""

from collections.abc import Sequence

import numpy as np

from dualform.errors import require
from dualform.tasks.memory.words import COLOURS, KINDS, THINGS

NOUNS = sorted({word.lower() for kind in KINDS.values() for word in kind.split()} | set(THINGS))
VERBS = "holds finds moves sells hides takes paints breaks washes carries opens follows".split()
PLACES = "near behind under above beside before against around".split()

FORMS = ("word", "number", "sentence")


def drawn_texts(count: int, *, seed: int = 0, forms: Sequence[str] = FORMS, longest: int = 11) -> list[str]:
    """So many different texts, of each form as many, or one more: a word, a number in digits, a sentence of nouns and colours.

    A sentence has 7 words, or 11, 15, ... as far as `longest` allows: "the red door holds the grey boat near the blue clock".

    **Arguments:** longest: words of a sentence, from 7.

    **Raises:** `InputError` for a form that is none, or more texts than there are.
    """
    for form in forms:
        require(form in FORMS, f"there is no form of text {form!r}; there are {', '.join(FORMS)}.")
    require(
        len(forms) >= 1 and longest >= 7, f"longest is {longest} and forms {list(forms)}; give 7 or more, and a form."
    )
    rng, found = np.random.default_rng(seed), dict[str, None]()
    of_form = {form: (count - i + len(forms) - 1) // len(forms) for i, form in enumerate(forms)}
    for form, wanted in of_form.items():
        before, tries = len(found), 0
        while len(found) - before < wanted:
            tries += 1
            require(
                tries <= 50 * (wanted + 10),
                f"there are not {wanted:,} different texts of the form {form}; ask for fewer.",
            )
            found[_DRAW[form](rng, longest)] = None
    return list(found)


def _word(rng: np.random.Generator, longest: int) -> str:
    del longest
    every = NOUNS + COLOURS + VERBS + PLACES
    return every[rng.integers(len(every))]


def _number(rng: np.random.Generator, longest: int) -> str:
    """Of one to four digits, as likely each."""
    del longest
    return str(rng.integers(10 ** int(rng.integers(1, 5))))


def _sentence(rng: np.random.Generator, longest: int) -> str:
    of = lambda words: words[rng.integers(len(words))]
    thing = lambda: f"the {of(COLOURS)} {of(NOUNS)}"
    parts = [f"{thing()} {of(VERBS)} {thing()}"]
    for _ in range(int(rng.integers((longest - 7) // 4 + 1))):
        parts.append(f"{of(PLACES)} {thing()}")
    return " ".join(parts)


_DRAW = {"word": _word, "number": _number, "sentence": _sentence}
