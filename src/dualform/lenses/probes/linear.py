"""Logistic regression, as strongly regularised as cross-validation chooses."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dualform.lenses.probes.affine import AffineProbe, spread, two_sided
from dualform.lenses.probes.example_rows import Examples
from dualform.threads import one_blas_thread

BEGIN = (1e-3, 1e-1, 1e1)
"""Inverse strengths that are tried first; the best at an edge of what was tried widens the grid, up to `EDGES`."""
EDGES = (1e-5, 1e5)
STEP = 100.0
FOLDS = 3


@one_blas_thread
def fit_linear(examples: Examples, strength: float | None = None) -> tuple[AffineProbe, float]:
    """Multinomial logistic regression with an L2 penalty, on activations brought to mean 0 and deviation 1.

    **Arguments:** strength: the inverse strength C of the penalty; that of the least cross-validated loss if not given.

    **Returns:** the probe, and its C.

    **Source:** scikit-learn's `LogisticRegression`.
    """
    from sklearn.linear_model import LogisticRegression

    mean, deviation = spread(examples.x)
    made = lambda c: LogisticRegression(C=c, max_iter=1000)
    x = (examples.x - mean) / deviation
    strength = chosen_strength(made, examples.at(x)) if strength is None else strength
    fitted = _quietly(made(strength), x, examples.labels)
    w = fitted.coef_ / deviation
    return two_sided(w, fitted.intercept_ - w @ mean), strength


def fit_linear_at_once(
    x: Float[np.ndarray, "row d"], labels: Int[np.ndarray, "row place"], asked: Float[np.ndarray, "other d"]
) -> Int[np.ndarray, "other place"]:
    """The labels of other rows, each place's read by a logistic regression of its own, C = 1; below 0 no label is told.

    **Arguments:** x, asked: activations brought to mean 0 and deviation 1.
    """
    found = np.full((len(asked), labels.shape[1]), -1, np.int64)
    for place, column in enumerate(labels.T):
        there = column >= 0
        if len(np.unique(column[there])) < 2:
            found[:, place] = column[there][0] if there.any() else -1
            continue
        found[:, place] = _fitted_once(x[there], column[there]).predict(asked)
    return found


@one_blas_thread
def _fitted_once(x: np.ndarray, labels: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    return _quietly(LogisticRegression(max_iter=1000), x, labels)


def chosen_strength(made: Callable[[float], Any], examples: Examples) -> float:
    """The inverse strength with the most right on folds of texts that were not fitted; of several the one of least loss.

    1 where a label has too few texts for two folds.
    """
    folds = folds_of(examples)
    if not folds:
        return 1.0
    tried: dict[float, tuple[float, float]] = {}
    best, waiting = BEGIN[0], list(BEGIN)
    while waiting:
        for c in waiting:
            wrong, loss = np.mean([_mistakes(made(c), examples, *fold) for fold in folds], axis=0)
            tried[c] = float(wrong), float(loss)
        best = min(tried, key=lambda c: tried[c])
        beyond = {min(tried): best / STEP, max(tried): best * STEP}.get(best)
        waiting = [beyond] if beyond is not None and EDGES[0] <= beyond <= EDGES[1] else []
    return best


def folds_of(examples: Examples) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit and rows to look at, each text's on one side; none where a label has fewer texts than two folds need."""
    from sklearn.model_selection import StratifiedGroupKFold

    texts = [len(np.unique(examples.texts[examples.labels == label])) for label in range(len(examples.names))]
    count = min(FOLDS, *texts)
    if count < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels that are rarer than there are folds
        parts = StratifiedGroupKFold(count, shuffle=True, random_state=0)
        found = list(parts.split(examples.x, examples.labels, examples.texts))
    whole = len(examples.names)
    return [fold for fold in found if len(np.unique(examples.labels[fold[0]])) == whole]


def _mistakes(model: Any, examples: Examples, fitted: np.ndarray, looked_at: np.ndarray) -> tuple[float, float]:
    """Of rows that were not fitted: the share that is wrong, and -log p of their labels, the mean."""
    model, labels = _quietly(model, examples.x[fitted], examples.labels[fitted]), examples.labels[looked_at]
    with np.errstate(divide="ignore"):  # of a label that is held for impossible
        found = model.predict_log_proba(examples.x[looked_at])
    chosen = found[np.arange(len(labels)), labels]
    return float(np.mean(found.argmax(1) != labels)), float(-np.maximum(chosen, -50.0).mean())


def _quietly(model: Any, x: np.ndarray, labels: np.ndarray) -> Any:
    """A fitted model; one that has not converged is as far as it came, which scores on other texts judge."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, labels)
