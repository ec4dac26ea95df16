"""Kinds of tokens of a text: the first one, line ends, spaces, punctuation, digits, function words, and other words."""

from collections.abc import Sequence

KINDS = ("first token", "line end", "space", "punctuation", "digits", "function word", "part of a word", "other word")
"""Every token is of one of them."""

FUNCTION_WORDS = frozenset(
    "a an the this that these those my your his her its our their whose "
    "i me you he him she it we us they them who whom which what mine yours hers ours theirs "
    "myself yourself himself herself itself ourselves themselves one "
    "of to in on at by for from with without about into onto over under up down out off through between among before after "
    "above below against during since until till upon within toward towards near as than like per via "
    "and or but nor so yet if because although though while whereas unless when where why how whether not no "
    "am is are was were be been being have has had having do does did doing will would shall should can could may might must "
    "there here then".split()
)
"""English words that serve grammar rather than meaning: articles, pronouns, prepositions, conjunctions, auxiliaries."""


def token_kinds(texts: Sequence[str]) -> tuple[str, ...]:
    r"""The kind of each token, one of `KINDS`, from what the tokens say in order.

    A word may be of several tokens: a token of letters that goes on from the letters of another is "part of a word", and so is
    one that another goes on from. Words are told by an English list; in other languages function words are other words.

        >>> from dualform.generation import token_kinds
        >>> from dualform.generation import token_kinds
        >>> token_kinds(("The", " cat", " sat", " on", " its", " tat", "ami", ".", "\n"))[3:]
        ('function word', 'function word', 'part of a word', 'part of a word', 'punctuation', 'line end')
    """
    if not texts:
        return ()
    ends = [bool(text) and text[-1].isalpha() for text in texts]
    begins = [bool(text) and text[0].isalpha() for text in texts]
    joined = [end and begin for end, begin in zip(ends[:-1], begins[1:], strict=True)]
    before, behind = [False, *joined], [*joined, False]
    kinds = [_kind(text, b or a) for text, b, a in zip(texts, before, behind, strict=True)]
    return "first token", *kinds[1:]


def _kind(text: str, joined: bool) -> str:
    said = text.strip()
    if not said:
        return "line end" if "\n" in text or "\r" in text else "space"
    if any(c.isdigit() for c in said):
        return "digits"
    if not any(c.isalpha() for c in said):
        return "punctuation"
    if joined:
        return "part of a word"
    return "function word" if said.lower() in FUNCTION_WORDS else "other word"
