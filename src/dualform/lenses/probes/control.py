"""Control tasks: labels that say nothing, which a probe that only remembers predicts as well."""

from typing import Literal

import numpy as np

from dualform.lenses.probes.example_rows import Examples

Control = Literal["types", "shuffled"]


def control_of(fitted: Examples, scored: Examples) -> Control:
    """Which control there can be: by types where most rows that are scored have a type that was fitted, and there are enough.

    "types" needs three times as many types as labels; where the probed token is one and the same, labels are shuffled.
    """
    many = len(np.unique(fitted.types)) >= 3 * len(fitted.names)
    known = float(np.mean(np.isin(scored.types, fitted.types)))
    return "types" if many and known > 0.5 else "shuffled"


def controlled(fitted: Examples, scored: Examples, kind: Control, seed: int) -> tuple[Examples, Examples]:
    """The same activations with labels of a control task.

    "types": each type of token has a label drawn at random, as often as labels are, wherever it stands. "shuffled": each row has
    the label of another one.

    **Source:** Hewitt and Liang 2019 (arXiv 1909.03368), Sec. 2.
    """
    random, count = np.random.default_rng(seed), len(fitted.names)
    if kind == "types":
        types = np.unique(np.concatenate([fitted.types, scored.types]))
        shares = np.bincount(fitted.labels, minlength=count) / len(fitted.labels)
        drawn = random.choice(count, len(types), p=shares)
        label = lambda examples: drawn[np.searchsorted(types, examples.types)]
        found = label(fitted), label(scored)
    else:
        found = random.permutation(fitted.labels), random.permutation(scored.labels)
    # Every label stays one that can be fitted: those that no type was given go to the first rows.
    missing = np.setdiff1d(np.arange(count), found[0])
    found[0][: len(missing)] = missing
    return fitted._replace(labels=found[0]), scored._replace(labels=found[1])
