"""A probe with one hidden layer: what can be read off, linearly or not."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.lenses.probes.affine import spread
from dualform.lenses.probes.example_rows import Examples
from dualform.lenses.probes.linear import chosen_strength
from dualform.threads import one_blas_thread

UNITS = 64
"""Hidden units."""


@one_blas_thread
def fit_mlp(
    examples: Examples, strength: float | None = None, *, seed: int = 0
) -> tuple[Callable[[Float[np.ndarray, "row d"]], Float[np.ndarray, "row label"]], float]:
    """A layer of ReLU units and a softmax, fitted by L-BFGS, its penalty chosen as of `fit_linear`.

    **Arguments:** strength: the inverse strength of the L2 penalty; chosen by cross-validation if not given.

    **Returns:** activations -> log-probabilities, and the inverse strength.

    **Source:** scikit-learn's `MLPClassifier`.
    """
    from sklearn.neural_network import MLPClassifier

    mean, deviation = spread(examples.x)
    x = (examples.x - mean) / deviation

    def made(c: float) -> Any:
        return _Quiet(MLPClassifier((UNITS,), solver="lbfgs", alpha=1 / c, max_iter=200, random_state=seed))

    strength = chosen_strength(made, examples.at(x)) if strength is None else strength
    fitted = made(strength).fit(x, examples.labels)
    return lambda x: fitted.predict_log_proba((x - mean) / deviation), strength


class _Quiet:
    """A model that does not warn where it stops before it has converged, or is certain."""

    def __init__(self, model: Any):
        self.model = model

    def fit(self, x: np.ndarray, labels: np.ndarray) -> "_Quiet":
        """Fit it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.fit(x, labels)
        return self

    def predict_log_proba(self, x: np.ndarray) -> np.ndarray:
        """Log-probabilities, -infinity where one is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.model.predict_proba(x))
