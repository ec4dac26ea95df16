"""Labelled activations: what a probe is fitted to and scored on, parted by texts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from dualform.errors import InputError, require

DRAWS = 100
"""How many ways of parting the texts are tried until every label is on both sides."""


class Examples(NamedTuple):
    """Activations and what they are labelled with, a row for each.

    - x: (row, d).  labels: (row,), from 0 on; names: what each label is called.
    - texts: (row,), the number of the text that a row is of: rows of one text are never on both sides of a split.
    - types: (row,), the token at the place that is probed, by number: what a control task gives its labels to.
    """

    x: Float[np.ndarray, "row d"]
    labels: Int[np.ndarray, " row"]
    names: tuple[str, ...]
    texts: Int[np.ndarray, " row"]
    types: Int[np.ndarray, " row"]

    def of(self, rows: Bool[np.ndarray, " row"]) -> "Examples":
        """Some of the rows."""
        return Examples(self.x[rows], self.labels[rows], self.names, self.texts[rows], self.types[rows])

    def at(self, x: Float[np.ndarray, "row d"]) -> "Examples":
        """The same rows with other activations, such as those of another layer."""
        return self._replace(x=np.asarray(x, np.float64))


def examples(
    x: Shaped[Array | np.ndarray, "row d"],
    labels: Sequence[Any] | Array | np.ndarray,
    texts: Sequence[int] | np.ndarray | None = None,
    types: Sequence[int] | np.ndarray | None = None,
) -> Examples:
    """Labelled activations, checked.

    **Arguments:** labels: of any kind, one for each row; texts, types: as of `Examples`; each row a text and a type of its own
    where they are not given.

    **Raises:** `InputError` where counts differ, activations are no numbers, there is one label alone, or a label is of one text.
    """
    x = np.asarray(x, np.float64)
    require(x.ndim == 2 and x.shape[1] >= 1, f"activations have shape {x.shape}; give (row, d).")
    own = np.arange(len(x))
    groups = own if texts is None else np.asarray(texts)
    kinds = own if types is None else np.asarray(types)
    for name, given in (("labels", labels), ("texts", groups), ("types", kinds)):
        require(len(given) == len(x), f"there are {len(x)} rows of activations and {len(given)} {name}; give one each.")
    check_finite(x)
    names, numbers = numbered(labels)
    found = Examples(x, numbers, names, groups, kinds)
    check_labels(found)
    return found


def numbered(labels: Sequence[Any] | Array | np.ndarray) -> tuple[tuple[str, ...], Int[np.ndarray, " row"]]:
    """What the labels are called, in order, and the number of each row's."""
    said = [str(label) for label in labels]
    names = tuple(sorted(set(said)))
    place = {name: i for i, name in enumerate(names)}
    return names, np.array([place[each] for each in said], np.int64)


def check_finite(x: Float[np.ndarray, "row d"]) -> None:
    """Raise `InputError` where an activation is no number."""
    wrong = np.flatnonzero(~np.isfinite(x).all(1))
    require(
        len(wrong) == 0,
        f"the activations of row {wrong[0] if len(wrong) else 0} are not finite. Does the model overflow on its text?",
    )


def check_labels(examples: Examples) -> None:
    """Raise `InputError` unless there are two labels, each of at least two texts."""
    names, count = examples.names, len(examples.labels)
    require(count >= 1, "there is no example; give some with labels.")
    require(
        len(names) >= 2,
        f"all {count} examples have the label {names[0]!r}; a probe tells labels apart, and needs at least two of them.",
    )
    for i, name in enumerate(names):
        texts = len(np.unique(examples.texts[examples.labels == i]))
        require(
            texts >= 2,
            f"the label {name!r} is on {texts} text alone; each of the {len(names)} labels needs two at the least, one to fit "
            "and one to be scored on. Give more examples, or fewer labels.",
        )


def parted(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """The examples to fit, and those to score, of other texts: about this share of all texts.

    **Raises:** `InputError` where the share leaves one side empty, or no draw had every label on both sides.
    """
    random, texts = np.random.default_rng(seed), np.unique(examples.texts)
    least = len(examples.names)  # each side has every label, of texts of its own at the least
    held = max(1, min(max(_count(share, len(texts)), least), len(texts) - least))
    for _ in range(DRAWS):
        test = _drawn(examples.texts, held, random)
        sides = [np.unique(examples.labels[rows]) for rows in (test, ~test)]
        if all(len(side) == len(examples.names) for side in sides):
            return examples.of(~test), examples.of(test)
    raise InputError(
        f"in {DRAWS} draws no {held} of the {len(texts)} texts had every one of the {least} labels, and left every "
        "one to be fitted. Give more examples of the rare labels, or hold out another share."
    )


def parted_rows(texts: Int[np.ndarray, " row"], share: float, seed: int) -> Bool[np.ndarray, " row"]:
    """Which rows are of the texts that are held out, about this share of all texts.

    **Raises:** `InputError` where there are fewer than two texts.
    """
    count = len(np.unique(texts))
    require(count >= 2, f"there is {count} text; give at least two, one to fit and one to be scored on.")
    return _drawn(texts, _count(share, count), np.random.default_rng(seed))


def _count(share: float, texts: int) -> int:
    """How many texts are held out: at least one, and never all."""
    require(0 < share < 1, f"the share that is held out is {share}; it must be between 0 and 1.")
    return min(max(1, round(share * texts)), texts - 1)


def _drawn(texts: Int[np.ndarray, " row"], held: int, random: np.random.Generator) -> Bool[np.ndarray, " row"]:
    return np.isin(texts, random.permutation(np.unique(texts))[:held])
