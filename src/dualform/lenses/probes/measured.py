"""A probe fitted on some texts and scored on others, beside what the commonest label and a control task give."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Int

from dualform.errors import require
from dualform.lenses.probes.ccs import fit_ccs
from dualform.lenses.probes.control import Control, control_of, controlled
from dualform.lenses.probes.difference import fit_difference
from dualform.lenses.probes.example_rows import Examples, examples, parted
from dualform.lenses.probes.lda import fit_lda
from dualform.lenses.probes.linear import fit_linear
from dualform.lenses.probes.mlp import fit_mlp
from dualform.lenses.probes.scores import Rate, accuracy, mean_area

KINDS = ("linear", "mlp", "difference", "lda", "ccs")
HELD = 0.3
"""The share of the texts that is scored."""


class Probed(NamedTuple):
    """What a probe tells of what it was not fitted on.

    - accuracy: the share of rows whose label has the highest score.  area: under the ROC curve; of more than two labels the mean
      of each against the rest.
    - majority: the accuracy of always saying the label that is commonest among what was fitted.
    - control: the accuracy of the same probe on labels that say nothing; by: how these were made.
    - fitted, scored: rows.  strength: the inverse strength of the penalty that was chosen, None for a probe without one.
    - probe: activations -> scores, (row, label).
    """

    accuracy: Rate
    area: Rate
    majority: float
    control: Rate
    by: Control
    fitted: int
    scored: int
    strength: float | None
    probe: Callable[..., Any]

    @property
    def selectivity(self) -> float:
        """accuracy - control: what the activations tell, and not the probe's memory."""
        return self.accuracy.value - self.control.value


def probed(kind: str, examples: Examples, *, seed: int = 0, held: float = HELD) -> Probed:
    """Fit a probe on the texts of one side of a split, and score it on the others.

    **Arguments:** kind: one of `KINDS`; of "ccs" a row of x is the activations of a statement affirmed, then denied, and there
    are two labels, of which the second says that the affirmed one is true.
    seed: of the split, of the control's labels and of the probe.

    **Raises:** `InputError` for another kind, and as `parted`.
    """
    require(kind in KINDS, f"there is no probe {kind!r}; there are {', '.join(KINDS)}.")
    fitted, scored = parted(examples, held, seed)
    probe, strength = fit(kind, fitted, seed=seed)
    scores = probe(scored.x)
    by = control_of(fitted, scored)
    alike, asked = controlled(fitted, scored, by, seed)
    other, _ = fit(kind, alike, seed=seed, strength=strength)
    commonest = np.bincount(fitted.labels).argmax()
    return Probed(
        accuracy(scores.argmax(1) == scored.labels, scored.texts),
        mean_area(scores, scored.labels, scored.texts),
        float(np.mean(scored.labels == commonest)),
        accuracy(other(asked.x).argmax(1) == asked.labels, asked.texts),
        by,
        len(fitted.labels),
        len(scored.labels),
        strength,
        probe,
    )


def check_parted(
    labels: Sequence[Any] | np.ndarray, texts: Int[np.ndarray, " row"], seed: int, held: float = HELD
) -> None:
    """Raise `InputError` where `probed` would, for labels and texts alone: before any activation is computed."""
    parted(examples(np.zeros((len(labels), 1)), labels, texts), held, seed)


def fit(
    kind: str, examples: Examples, *, seed: int = 0, strength: float | None = None
) -> tuple[Callable[..., Any], float | None]:
    """A probe of a kind, fitted to all of the examples: activations -> scores, and its inverse strength where it has one.

    **Arguments:** as of `probed`; strength: the inverse strength of the penalty, chosen by cross-validation if not given.
    """
    if kind == "linear":
        return fit_linear(examples, strength)
    if kind == "mlp":
        return fit_mlp(examples, strength, seed=seed)
    if kind == "difference":
        return fit_difference(examples), None
    if kind == "lda":
        return fit_lda(examples), None
    require(
        len(examples.names) == 2 and examples.x.shape[1] % 2 == 0,
        f"contrast-consistent search tells true from false; there are the labels {', '.join(examples.names)}.",
    )
    d = examples.x.shape[1] // 2
    probe = fit_ccs(examples.x[:, :d], examples.x[:, d:], examples.labels, seed=seed)
    return lambda x: probe(x[:, :d], x[:, d:]), None


def transferred(kind: str, fitted: Examples, scored: Examples, *, seed: int = 0) -> tuple[Rate, Rate]:
    """Accuracy and area of a probe fitted in one context and scored in another, such as from Alice's to Bob's.

    **Arguments:** scored: of the same labels; of no text that was fitted.

    **Raises:** `InputError` where the labels differ, or a text is on both sides.
    """
    require(
        fitted.names == scored.names,
        f"the labels fitted are {', '.join(fitted.names)}, and those scored {', '.join(scored.names)}; give the same.",
    )
    both = np.intersect1d(fitted.texts, scored.texts)
    require(len(both) == 0, f"{len(both)} texts are both fitted and scored; number texts of another context apart.")
    scores = cast(np.ndarray, fit(kind, fitted, seed=seed)[0](scored.x))
    right = accuracy(scores.argmax(1) == scored.labels, scored.texts)
    return right, mean_area(scores, scored.labels, scored.texts)
