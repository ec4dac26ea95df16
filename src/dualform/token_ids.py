"""What every kind of tokens checks: that a text is one, and that tokens are numbers of the vocabulary."""

from typing import Any

import numpy as np

from dualform.errors import InputError, require

UNKNOWN = "\ufffd"
"""How a character that is not in the vocabulary is shown: the replacement character."""


def checked_text(text: str) -> str:
    """A text.

    **Raises:** `InputError` where there is half a character in it: an argument that is no UTF-8 comes so.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        require(
            False, f"the text has {text[error.start]!r}, which is no character: it is no text in UTF-8. Convert it."
        )
    return text


def array_of(ids: Any) -> np.ndarray:
    """What is given as tokens, as an array.

    **Raises:** `InputError` for sequences of different lengths.
    """
    try:
        return np.asarray(ids)
    except ValueError:
        raise InputError("tokens must be one sequence of integers; got several, of different lengths.") from None


def checked_ids(ids: Any, size: int) -> list[int]:
    """Tokens as Python's integers.

    **Raises:** `InputError` unless they are one sequence of integers from 0 to size - 1.
    """
    array = array_of(ids)
    require(
        array.ndim == 1 and (array.size == 0 or np.issubdtype(array.dtype, np.integer)),
        f"tokens must be one sequence of integers; got shape {array.shape} of {array.dtype}.",
    )
    found = [int(i) for i in array]
    wrong = next((i for i in found if not 0 <= i < size), None)
    require(wrong is None, f"token {wrong} is not in this vocabulary, which goes from 0 to {size - 1}.")
    return found
