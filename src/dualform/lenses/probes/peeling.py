"""An onion probe fitted on some texts and scored on others, beside linear probes and a control."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from dualform.errors import require
from dualform.lenses.onion import Onion
from dualform.lenses.probes.affine import spread
from dualform.lenses.probes.example_rows import check_finite, numbered, parted_rows
from dualform.lenses.probes.linear import fit_linear_at_once
from dualform.lenses.probes.onion import fit_onion
from dualform.lenses.probes.scores import Rate, accuracy


class Peeled(NamedTuple):
    """What an onion probe tells of what it was not fitted on.

    - whole: the share of rows of which every label is right.  each: the share of labels that are.
    - linear: the share of labels that a linear probe for each place has right.
    - majority: that of always saying a place's commonest label.
    - control: `each` of the same probe where every row has the labels of another one.
    - onion: the scales and embeddings that were found.  fitted, scored: rows.
    """

    whole: Rate
    each: Rate
    linear: Rate
    majority: float
    control: Rate
    onion: Onion
    fitted: int
    scored: int


def peeled(
    x: Float[Array | np.ndarray, "row n"],
    labels: Sequence[Sequence[Any]],
    texts: Int[np.ndarray, " row"] | None = None,
    *,
    seed: int = 0,
    held: float = 0.3,
    steps: int = 2000,
) -> Peeled:
    """Fit an onion probe to rows that each hold a list of labels, and score it on other texts.

    **Arguments:** labels: those of each row, in the order in which they are peeled off; texts: the text that each row is of, its
    own if not given.  held: the share of texts that is scored.  steps: of training.

    **Raises:** `InputError` where counts differ, an activation is no number, a row has no label, or there are too few texts.
    """
    x, groups = np.asarray(x, np.float64), np.arange(len(x)) if texts is None else np.asarray(texts)
    require(
        x.ndim == 2 and len(x) == len(labels) == len(groups),
        f"activations have shape {x.shape}, and there are {len(labels)} lists of labels; give a row for each list.",
    )
    check_finite(x)
    table = table_of(labels)
    test = parted_rows(groups, held, seed)
    mean, deviation = spread(x[~test])
    x = (x - mean) / deviation
    commonest = np.array(
        [np.bincount(column[column >= 0]).argmax() for column in table[~test].T if (column >= 0).any()]
    )
    probe, read = fit_onion(x[~test], table[~test], seed=seed, steps=steps)
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(~test))
    _, mistaken = fit_onion(x[~test], table[shuffled], seed=seed, steps=steps)
    wanted, of = table[test], groups[test]
    right = lambda found: _share(found == wanted, wanted)
    whole = np.all((read(x[test]) == wanted) | (wanted < 0), axis=1)
    return Peeled(
        accuracy(whole.astype(float), of),
        accuracy(right(read(x[test])), of),
        accuracy(right(fit_linear_at_once(x[~test], table[~test], x[test])), of),
        float(np.mean(right(np.broadcast_to(np.resize(commonest, table.shape[1]), wanted.shape)))),
        accuracy(right(mistaken(x[test])), of),
        probe.onion,
        int((~test).sum()),
        int(test.sum()),
    )


def table_of(labels: Sequence[Sequence[Any]]) -> Int[np.ndarray, "row time"]:
    """The number of each label, a row for each list; -1 behind the last of a list.

    **Raises:** `InputError` where a list is empty.
    """
    empty = [i for i, each in enumerate(labels) if len(each) == 0]
    require(not empty, f"row {empty[0] if empty else 0} has no label; give each at least one.")
    names, _ = numbered([label for each in labels for label in each])
    require(
        len(names) >= 2, f"every label is {names[0]!r}; a probe tells labels apart, and needs at least two of them."
    )
    place = {name: i for i, name in enumerate(names)}
    table = np.full((len(labels), max(map(len, labels))), -1, np.int32)
    for row, each in enumerate(labels):
        table[row, : len(each)] = [place[str(label)] for label in each]
    return table


def _share(right: np.ndarray, wanted: Int[np.ndarray, "row time"]) -> Float[np.ndarray, " row"]:
    """The share of each row's labels that are right."""
    there = wanted >= 0
    return (right & there).sum(1) / there.sum(1)
