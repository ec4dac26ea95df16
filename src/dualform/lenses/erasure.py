"""Concept erasure in closed form (LEACE): activations from which no linear probe reads a concept, changed as little as can be.

    r(x) = x - W^+ P W (x - mean x)

W = cov(x, x)^(-1/2) whitens, and P is the orthogonal projection on the columns of W cov(x, z). Then cov(r(x), z) = 0, and no
linear probe of r(x), by any convex loss, is better than a constant. Among all affine maps of x with that property r changes x
least, in the mean of the squared norm, by every norm that an inner product gives. What a probe that is not linear reads may
still be there.

**Source:** Belrose et al. 2023 (arXiv 2306.03819), Theorems 3.1 and 4.3.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.errors import require
from dualform.models.stages import Affine


class Eraser(eqx.Module):
    """x less what is read of it along some directions: x - taken @ (read @ (x - mean)).

    - mean: (d,), of the activations that it was made of.  read: (rank, d).  taken: (d, rank).

    It is an edit of `lenses.trace`; `layer` is one of a model.
    """

    mean: Float[Array, " d"]
    read: Float[Array, "rank d"]
    taken: Float[Array, "d rank"]

    @property
    def rank(self) -> int:
        """Of how many dimensions is taken."""
        return len(self.read)

    def __call__(self, x: Float[Array | np.ndarray, "*time d"]) -> Float[Array, "*time d"]:
        """The activations with the concept erased, in their dtype."""
        x = jnp.asarray(x)
        mean, read, taken = (a.astype(x.dtype) for a in (self.mean, self.read, self.taken))
        centred = x - mean.reshape((1,) * (x.ndim - 1) + mean.shape)
        return x - (centred @ read.T) @ taken.T

    @property
    def layer(self) -> Affine:
        """The same, as a layer that may stand behind a block: see `lenses.with_behind`."""
        whole = self.taken @ self.read
        return Affine(jnp.eye(len(self.mean), dtype=whole.dtype) - whole, whole @ self.mean)


def erase(x: Any, z: Any) -> Eraser:
    """The eraser of a concept, from activations whose concept is known. Worked out in float64.

    **Arguments:** x: (example, d), activations, such as those of many tokens; z: (example,), a label of each, whole numbers or
    truth values; or real numbers, (example,) or (example, k).

    **Returns:** an `Eraser` in the dtype of x, or where that is float64 and JAX's float64 is off, in float32.

    **Raises:** `InputError` for shapes that do not fit, numbers that are not finite, and a concept that is the same everywhere.

        >>> import numpy as np
        >>> from dualform import lenses
        >>> random = np.random.default_rng(0)
        >>> z = random.integers(0, 2, 100)
        >>> x = random.normal(size=(100, 5)) + 3 * z[:, None]
        >>> erased = lenses.erase(x, z)(x)
        >>> bool(abs(erased[z == 0].mean(0) - erased[z == 1].mean(0)).max() < 1e-6)
        True
    """
    given = np.asarray(x)
    require(
        given.ndim == 2 and len(given) >= 2 and np.issubdtype(given.dtype, np.floating),
        f"activations have shape {given.shape} of {given.dtype}; give real numbers, (example, d), of at least 2 examples.",
    )
    concept = _columns(np.asarray(z))
    require(
        len(concept) == len(given),
        f"there are {len(given)} activations, and the concept of {len(concept)}. Give one for each.",
    )
    wide = given.astype(float)
    for said, values in (("the activations hold", wide), ("the concept holds", concept)):
        require(bool(np.isfinite(values).all()), f"{said} what is not finite. Leave those examples out.")
    require(
        bool((concept != concept[:1]).any()),
        "the concept is the same for all examples, and nothing of it can be read. Give examples of at least two kinds.",
    )
    mean = wide.mean(0)
    centred, concept = wide - mean, concept - concept.mean(0)
    # Whitened by the activations' own singular vectors: their covariance would square the rounding.
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    kept = sizes > max(centred.shape) * np.finfo(float).eps * max(sizes[0], np.finfo(float).tiny)
    left, sizes, right = left[:, kept], sizes[kept], right[kept]
    # In these coordinates x is white, and W cov(x, z) is, but for a factor, left^T z.
    columns, strengths, _ = np.linalg.svd(left.T @ concept, full_matrices=False)
    told = strengths > max(concept.shape) * np.finfo(float).eps * np.linalg.norm(concept, 2)
    columns = columns[:, told]
    read, taken = (columns.T / sizes) @ right, right.T @ (sizes[:, None] * columns)
    dtype = jax.dtypes.canonicalize_dtype(given.dtype)
    return Eraser(*(jnp.asarray(a, dtype) for a in (mean, read, taken)))


def _columns(z: np.ndarray) -> np.ndarray:
    """Real columns, (example, k), of labels: one for each, with 1 where it holds."""
    require(
        z.ndim in (1, 2) and z.dtype.kind in "biuf" and z.size >= 1,
        f"the concept has shape {z.shape} of {z.dtype}; give a label of each example, or real numbers, (example, k).",
    )
    if z.dtype.kind == "f":
        return z.reshape(len(z), -1).astype(float)
    require(z.ndim == 1, f"labels have shape {z.shape}; give one for each example, (example,).")
    return (z[:, None] == np.unique(z)[None]).astype(float)
