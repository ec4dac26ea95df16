"""A text as its tokens come, one by one: each piece as soon as nothing that follows can change it."""

from collections.abc import Iterable

from dualform.checkpoints.tokens import PublishedTokens, Tokens, text_of
from dualform.token_ids import UNKNOWN

MOST_OPEN = 8
"""Tokens of which the text is decoded anew with the next one, beyond which earlier ones are closed."""


class GrowingText:
    """The text of tokens that go on from another text. What is certain is not decoded again, so that work is linear in length.

    **Arguments:** tokens: of the model; None for numbers with spaces between them.
    """

    def __init__(self, tokens: Tokens | None):
        self._tokens = tokens
        self._open: list[int] = []
        self._given, self._begun = 0, False

    def add(self, token: int) -> str:
        """What is certain with this token: all but a character that is not whole, which comes with a later one."""
        self._open.append(token)
        text = text_of(self._tokens, self._open)
        # A character is of four bytes at most: what is before the last replacement character stays.
        certain = len(text) - text.endswith(UNKNOWN)
        piece, self._given = text[self._given : certain], max(self._given, certain)
        if certain == len(text):
            self._go_on_from(token)
        elif len(self._open) > MOST_OPEN:
            self._close(text)
        return self._spaced(piece)

    def end(self) -> str:
        """What is left: a character that is not whole, as the replacement character."""
        piece = text_of(self._tokens, self._open)[self._given :]
        self._open, self._given = [], 0
        return self._spaced(piece)

    def _go_on_from(self, token: int) -> None:
        """Let all tokens go but the last: some decoders say an end of a word as a space only where another token follows."""
        behind = text_of(self._tokens, [token]) if isinstance(self._tokens, PublishedTokens) else UNKNOWN
        self._open, self._given = ([], 0) if UNKNOWN in behind else ([token], len(behind))

    def _close(self, text: str) -> None:
        """Let tokens go before which no character is open: of four places between tokens one is so."""
        for at in range(len(self._open) - 1, len(self._open) - 5, -1):
            before, behind = (text_of(self._tokens, part) for part in (self._open[:at], self._open[at:]))
            if before + behind == text and len(before) <= self._given:
                self._open, self._given = self._open[at:], self._given - len(before)
                return

    def _spaced(self, piece: str) -> str:
        """Numbers have a space before each but the first."""
        if self._tokens is not None or not piece:
            return piece
        begun, self._begun = self._begun, True
        return f" {piece}" if begun else piece


def tokens_within(tokens: Tokens | None, ids: Iterable[int], length: int) -> int:
    """How many tokens the first `length` characters of a text are of; the last one may say more than these."""
    growing, said, count = GrowingText(tokens), 0, 0
    for token in ids:
        if said >= length:
            break
        said, count = said + len(growing.add(token)), count + 1
    return count
