"""Labelled texts from a file, a line of JSON for each."""

import json
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from dualform.checkpoints.growing_text import tokens_within
from dualform.checkpoints.loading import Loaded
from dualform.checkpoints.tokens import beginning
from dualform.errors import InputError, require
from dualform.reading import shown, text_of_file

SCALARS = (str, int, bool, float)


class Labelled(NamedTuple):
    """Texts as a model reads them, the token of each that is probed, and their labels.

    - texts: tokens of each text.  at: the place of the token.  labels: one for each, or a list where several are held.
    - groups: (row,), the same number for texts that are the same.  types: (row,), the token that is probed.
    """

    texts: list[Int[np.ndarray, " time"]]
    at: list[int]
    labels: list[Any]
    groups: Int[np.ndarray, " row"]
    types: Int[np.ndarray, " row"]


class Line(NamedTuple):
    """A line of the file: what it says, and where it stands, for messages."""

    said: dict[str, Any]
    where: str


def read_lines(path: str | os.PathLike[str], wanted: Sequence[str], may: Sequence[str]) -> list[Line]:
    """The examples of a file, each an object with what is wanted of it.

    **Arguments:** wanted: names that each must have; may: names that each may have.

    **Raises:** `InputError` for a line that is no such object, or none at all; `FileError` where the file cannot be read.
    """
    name, found = repr(os.fspath(path)), []
    for number, text in enumerate(text_of_file(Path(path), "examples").split("\n"), start=1):
        if not text.strip():
            continue
        where = f"line {number} of {name}"
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is no JSON ({shown(error)}). Write one object for each example.") from None
        require(isinstance(said, dict), f"{where} is no object of JSON; write it as {_form(wanted)}.")
        missing = [each for each in wanted if each not in said]
        other = [each for each in said if each not in (*wanted, *may)]
        require(not missing, f"{where} has no {shown(missing[0]) if missing else ''!r}; write it as {_form(wanted)}.")
        require(
            not other,
            f"{where} has {shown(other[0]) if other else ''!r}, which nothing reads; write it as {_form(wanted)}"
            f"{' with ' + ' or '.join(may) if may else ''}.",
        )
        found.append(Line(said, where))
    require(len(found) >= 1, f"{name} has no example; write a line of JSON for each, as {_form(wanted)}.")
    return found


def _form(wanted: Sequence[str]) -> str:
    return "{" + ", ".join(f'"{name}": ...' for name in wanted) + "}"


def labelled_texts(path: str | os.PathLike[str], loaded: Loaded, *, lists: bool = False) -> Labelled:
    """Lines {"text": ..., "label": ...}, of which "token" or "char" says which token is probed: the last if neither does.

    "token" counts tokens from 0, from the end where it is negative; "char" counts characters of the text from 0, and means the
    token that says it.

    **Arguments:** lists: whether a label is a list, of what one token holds.

    **Raises:** `InputError` for a line that is not of that form, or a token that is not there.
    """
    lines = read_lines(path, ("text", "label"), ("token", "char"))
    texts, at, labels = [], [], []
    for line in lines:
        ids = encoded(loaded, line, "text")
        texts.append(ids)
        at.append(_place(loaded, line, ids))
        labels.append(_label(line, lists))
    groups = same_texts([(line.said["text"],) for line in lines])
    types = np.array([ids[place] for ids, place in zip(texts, at, strict=True)], np.int64)
    return Labelled(texts, at, labels, groups, types)


def contrasted_texts(path: str | os.PathLike[str], loaded: Loaded) -> tuple[Labelled, Labelled]:
    """Lines {"yes": ..., "no": ..., "label": true or false}: a statement affirmed, denied, and whether it is true.

    The last token of each is probed. Lines that share a text are of one group.

    **Raises:** `InputError` for a line that is not of that form.
    """
    lines = read_lines(path, ("yes", "no", "label"), ())
    for line in lines:
        require(
            isinstance(line.said["label"], bool),
            f"the label of {line.where} is {_said(line.said['label'])}; give true or false.",
        )
    groups = same_texts([(line.said["yes"], line.said["no"]) for line in lines])
    sides = []
    for name in ("yes", "no"):
        texts = [encoded(loaded, line, name) for line in lines]
        types = np.array([ids[-1] for ids in texts], np.int64)
        sides.append(
            Labelled(texts, [len(ids) - 1 for ids in texts], [line.said["label"] for line in lines], groups, types)
        )
    return sides[0], sides[1]


def encoded(loaded: Loaded, line: Line, name: str) -> Int[np.ndarray, " time"]:
    """The tokens of a text of a line."""
    text = line.said[name]
    require(isinstance(text, str) and text != "", f"the {name} of {line.where} is {_said(text)}; give a text.")
    try:
        return loaded.encode(text)
    except InputError as error:
        raise InputError(f"{line.where}: {error}") from None


def same_texts(texts: Sequence[tuple[Hashable, ...]]) -> Int[np.ndarray, " row"]:
    """A number for each row, the same for rows that share a text, or are joined by rows that do."""
    above = list(range(len(texts)))

    def top(i: int) -> int:
        while above[i] != i:
            above[i] = above[above[i]]
            i = above[i]
        return i

    first: dict[Hashable, int] = {}
    for row, each in enumerate(texts):
        for text in each:
            above[top(row)] = top(first.setdefault(text, row))
    return np.unique([top(i) for i in range(len(texts))], return_inverse=True)[1].reshape(-1)


def _place(loaded: Loaded, line: Line, ids: Int[np.ndarray, " time"]) -> int:
    """The token of a line that is probed."""
    token, char = line.said.get("token"), line.said.get("char")
    require(token is None or char is None, f"{line.where} has both token and char; give one of them.")
    count = len(ids)
    if char is not None:
        length = len(line.said["text"])
        fits = isinstance(char, int) and not isinstance(char, bool) and 0 <= char < length
        require(fits, f"the char of {line.where} is {_said(char)}; its text has characters from 0 to {length - 1}.")
        begin = len(beginning(loaded.tokens))  # what stands before every text says none of its characters
        return begin + tokens_within(loaded.tokens, ids[begin:].tolist(), char + 1) - 1
    place = -1 if token is None else token
    fits = isinstance(place, int) and not isinstance(place, bool) and -count <= place < count
    require(fits, f"the token of {line.where} is {_said(place)}; its text has {count} tokens, from 0 to {count - 1}.")
    return place % count


def _label(line: Line, lists: bool) -> Any:
    """The label of a line, or its list of labels."""
    label = line.said["label"]
    if lists:
        whole = isinstance(label, list) and len(label) >= 1 and all(isinstance(each, SCALARS) for each in label)
        require(
            whole, f"the label of {line.where} is {_said(label)}; an onion probe peels off a list of labels, in order."
        )
        return label
    require(
        isinstance(label, SCALARS),
        f"the label of {line.where} is {_said(label)}; give a word, a number, or true or false. Lists are for --kind onion.",
    )
    return label


def _said(value: Any) -> str:
    return shown(json.dumps(value))
