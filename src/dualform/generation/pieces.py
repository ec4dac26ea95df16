"""The text of tokens as they are written, piece by piece, each as soon as it is certain."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import SupportsIndex

from dualform.checkpoints.growing_text import GrowingText
from dualform.checkpoints.tokens import Tokens
from dualform.counts import count_of, whole_numbers
from dualform.errors import require
from dualform.token_ids import checked_text


def written(
    tokens: Tokens | None,
    ids: Iterable[int],
    length: SupportsIndex,
    stop: Sequence[str] = (),
    ends: Collection[int] = (),
) -> Iterator[str]:
    """The text of tokens that go on from another text, piece by piece, each as soon as it is certain.

    Characters are whole, even where one is of several tokens. What was given is not decoded again.

    **Arguments:** tokens: of the model; None for numbers; length: how many tokens at most; stop: texts before which it ends;
    ends: tokens before which it ends.

    **Raises:** `InputError` for an empty stop, or a length below 1.
    """
    length = count_of("length", length, 1, "give at least 1 token")
    ends = whole_numbers("ends", ends)
    require("" not in stop, "a text to stop at is empty; leave it out.")
    for each in stop:
        checked_text(each)
    growing, held, longest = GrowingText(tokens), "", max((len(each) for each in stop), default=1) - 1
    for place, token in enumerate(ids, start=1):
        if token in ends:
            break
        held += growing.add(token)
        if (at := _first(stop, held)) is not None:
            yield held[:at]
            return
        if len(held) > longest:
            yield held[: len(held) - longest]
            held = held[len(held) - longest :]
        if place == length:
            break
    held += growing.end()
    yield held[: _first(stop, held)]


def _first(stop: Sequence[str], text: str) -> int | None:
    """Where the first of these begins in a text, None where there is none."""
    return min((at for each in stop if (at := text.find(each)) >= 0), default=None)
