"""Probes that are affine in the activations: a score for each label, of which the highest is the answer."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class AffineProbe(NamedTuple):
    """scores = x W^T + b.

    - w: (label, d).  b: (label,).
    """

    w: Float[np.ndarray, "label d"]
    b: Float[np.ndarray, " label"]

    def __call__(self, x: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row label"]:
        """The scores of each row."""
        return x @ self.w.T + self.b

    def direction(self, label: int = 1, against: int = 0) -> Float[np.ndarray, " d"]:
        """The unit vector along which one label's score rises most above another's."""
        across = self.w[label] - self.w[against]
        return across / np.linalg.norm(across)


def two_sided(w: Float[np.ndarray, "_ d"], b: Float[np.ndarray, " _"]) -> AffineProbe:
    """Of a library's coefficients, which has one row for two labels: the score of the second above the first."""
    if len(w) > 1:
        return AffineProbe(w, b)
    return AffineProbe(np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2)


def means(x: Float[np.ndarray, "row d"], labels: Int[np.ndarray, " row"]) -> Float[np.ndarray, "label d"]:
    """The mean of each label's rows."""
    return np.stack([x[labels == label].mean(0) for label in range(labels.max() + 1)])


def spread(x: Float[np.ndarray, "row d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Mean and standard deviation of each activation; 1 for one that does not move."""
    mean, deviation = x.mean(0), x.std(0)
    return mean, np.where(deviation > 1e-12 * np.maximum(1, np.abs(mean)), deviation, 1.0)
