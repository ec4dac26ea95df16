"""What bad input gets: an error whose message says what is wrong, with which value, and what to do."""


class DualformError(Exception):
    """The base of every error that dualform raises on purpose; the command line prints it as one sentence."""


class InputError(DualformError, ValueError):
    """An argument, a shape or a value that cannot be used; the command line exits with 2."""


class FileError(DualformError, OSError):
    """A file or folder that is missing, truncated, foreign or cannot be written; the command line exits with 2."""


class DivergedError(DualformError, ArithmeticError):
    """A training run whose loss is no longer finite; the message names the step and the last good checkpoint."""


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)
