"""What bad input gets: an error whose message says what is wrong, with which value, and what to do."""

LONGEST = 2_000
"""Characters of a message at the most."""


def printable(text: object, most: int = LONGEST) -> str:
    """A text on one line that moves no terminal's cursor, whatever a file had in it; of a long one the middle goes.

    **Arguments:** most: so many characters are left, before those that cannot be printed are written out.
    """
    text = str(text)
    if len(text) > most:
        begin = 2 * most // 3
        text = f"{text[:begin]} ... {text[len(text) - (most - begin - 5) :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DualformError(Exception):
    """The base of every error that dualform raises on purpose; the command line prints it as one sentence.

    What it says can be printed as it is: it may hold names, paths and values that a file or a caller chose.
    """

    def __init__(self, *said: object):
        super().__init__(*(printable(each) if isinstance(each, str) else each for each in said))


class InputError(DualformError, ValueError):
    """An argument, a shape or a value that cannot be used; the command line exits with 2."""


class FileError(DualformError, OSError):
    """A file or folder that is missing, truncated, foreign or cannot be written; the command line exits with 2."""


class DivergedError(DualformError, ArithmeticError):
    """A training run whose loss is no longer finite; the message names the step and the last good checkpoint."""


class LostError(DualformError, RuntimeError):
    """Another host of a training on several has ended, or cannot be reached; the command line exits with 1."""


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)
