"""Ridge regression in closed form, and how much of a target it explains on data that it has not seen."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Ridge(NamedTuple):
    """y = weights^T (x - x_mean) + y_mean."""

    weights: Float[np.ndarray, "d d_out"]
    x_mean: Float[np.ndarray, " d"]
    y_mean: Float[np.ndarray, " d_out"]

    def __call__(self, x: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row d_out"]:
        """What is read of rows."""
        return (x - self.x_mean) @ self.weights + self.y_mean


def ridge(x: Float[np.ndarray, "row d"], y: Float[np.ndarray, "row d_out"], strength: float = 1e-6) -> Ridge:
    """The least squares of y on x, with a penalty of `strength` times the mean variance of x for each row."""
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    centred = x - x_mean
    gram = centred.T @ centred
    penalty = max(strength * np.trace(gram) / len(gram), np.finfo(np.float64).tiny)
    return Ridge(np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T @ (y - y_mean)), x_mean, y_mean)


def explained(read: Float[np.ndarray, "row d"], y: Float[np.ndarray, "row d"]) -> float:
    """R^2 = 1 - sum |y - read|^2 / sum |y - mean y|^2."""
    return 1 - float(np.sum((y - read) ** 2) / np.sum((y - y.mean(axis=0)) ** 2))
