"""What the library's programs are tried on: bits, and symbols."""

import numpy as np
from jaxtyping import Float


def bits(random: np.random.Generator, time: int) -> Float[np.ndarray, "time 1"]:
    """So many 0s and 1s, each as likely."""
    return random.integers(0, 2, (time, 1)).astype(float)


def symbols(n: int):
    """A draw of whole numbers below n, each as likely."""

    def draw(random: np.random.Generator, time: int) -> Float[np.ndarray, "time 1"]:
        return random.integers(0, n, (time, 1)).astype(float)

    return draw
