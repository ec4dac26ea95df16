"""MNIST-1D: ten shapes of a line, stretched, moved, sheared and in noise, to be told apart."""

from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dualform.errors import require
from dualform.tasks.registration import register
from dualform.tasks.scores import of_labels
from dualform.tasks.task import StoredTask, checked_settings

SHAPES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
"""One for each digit."""

LEAST, MOST, LENGTH, SEED = 36, 60, 40, 42
"""Zeros behind a shape, places of a sequence, and the seed, as published."""


@register("mnist1d")
class MNIST1D(StoredTask):
    """Which of ten digits a line of 40 numbers is, stretched, moved, sheared and in noise.

    The published sequences, made anew from their equations with the published seed: 4,000 for training, the last 500 of which
    are for validation here, and 1,000 for the test.

    **Source:** Greydanus and Kobak 2020 (arXiv 2011.14439), as the package mnist1d 0.0.2 makes them.
    """

    judge = staticmethod(of_labels)
    source = "Greydanus and Kobak 2020 (arXiv 2011.14439)"
    pool = "last"

    @classmethod
    def open(cls, data: Any = None, **settings: Any) -> "MNIST1D":
        """The published sequences.

        **Raises:** `InputError` for a file, which is not read, or another setting.
        """
        require(data is None, "MNIST1D makes its sequences and reads no file; leave the data out.")
        settings = checked_settings(cls, settings)
        x, y = published()
        bounds = {"train": slice(3500), "validation": slice(3500, 4000), "test": slice(4000, None)}
        rows = {
            name: (jnp.asarray(x[some, :, None], jnp.float32), jnp.asarray(y[some], jnp.int32))
            for name, some in bounds.items()
        }
        return cls(**rows, **settings)

    @property
    def d_in(self) -> int:
        """One number."""
        return 1

    @property
    def d_out(self) -> int:
        """The digits."""
        return len(SHAPES)


@lru_cache(maxsize=1)
def published() -> tuple[Float[np.ndarray, "5000 40"], Int[np.ndarray, " 5000"]]:
    """All sequences and digits, those of the test last."""
    shapes = np.array(SHAPES)
    shapes = (shapes - shapes.mean(1, keepdims=True)) / shapes.std(1, keepdims=True)
    shapes = (shapes - shapes[:, :1]) / 6
    draw = np.random.RandomState(SEED)
    each = 500
    x = np.stack([_changed(shape, draw) for shape in shapes for _ in range(each)])
    y = np.repeat(np.arange(len(shapes)), each)
    order = draw.permutation(len(y))
    x, y = x[order], y[order]
    return (x - x.mean()) / x.std(), y


def _changed(shape: Float[np.ndarray, " point"], draw: np.random.RandomState) -> Float[np.ndarray, " 40"]:
    """A shape with zeros behind it, stretched to 72 places, made larger or smaller, turned round, in noise, and sheared."""
    from scipy.ndimage import gaussian_filter1d  # slow to import, and wanted by this task alone

    zeros = LEAST + int(draw.rand() * (MOST - LEAST + 1))
    x = _stretched(np.concatenate([shape + 1e-8, np.zeros(zeros)]), len(shape) + MOST)
    x = x * (1 + 0.4 * (draw.rand() - 0.5))
    by = draw.choice(48)
    x = np.concatenate([x[-by:], x[:-by]])
    smooth = gaussian_filter1d(0.25 * draw.randn(len(x)), 2)
    x = np.where(x != 0, x, smooth) + 0.02 * draw.randn(len(x))
    x = x - 0.75 * (draw.rand() - 0.5) * np.linspace(-0.5, 0.5, len(x))
    return _stretched(x, LENGTH)


def _stretched(x: Float[np.ndarray, " place"], places: int) -> Float[np.ndarray, " wanted"]:
    """Linear between the numbers."""
    return np.interp(np.linspace(0, 1, places), np.linspace(0, 1, len(x)), x)
