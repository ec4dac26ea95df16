"""Fresh weights: normal ones of variance 1 / fan-in, and PyTorch's own."""

from typing import Any

import jax.random as jr
from jaxtyping import Array, Float


def fan_in(key: Array, *shape: int, dtype: Any = None) -> Float[Array, "..."]:
    """Normal numbers of variance 1 / fan-in, the size of the last axis."""
    return jr.normal(key, shape, dtype or float) / shape[-1] ** 0.5


def uniform_affine(key: Array, rows: int, columns: int, dtype: Any) -> tuple[Array, Array]:
    """w (rows, columns) and b (rows,), uniform in +-1 / sqrt(columns): the initial weights of PyTorch's linear layer."""
    keys, bound = jr.split(key), columns**-0.5
    draw = lambda key, *shape: jr.uniform(key, shape, dtype or float, -bound, bound)
    return draw(keys[0], rows, columns), draw(keys[1], rows)
