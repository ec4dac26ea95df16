"""Weights that lie in a range: the check, written once."""

import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from dualform.errors import require


def check_decays(name: str, decay: Array, *, below_one: bool = False, cure: str = "Clip it.") -> None:
    """Raise `InputError`, with the cure, where an entry of `decay`, called `name`, is not in [0, 1], or [0, 1) where it must be.

    Seen only where the values are known, not under jit.
    """
    if isinstance(decay, Tracer):
        return
    values = np.asarray(decay, np.float64).ravel()
    outside = np.flatnonzero(~((values >= 0) & ((values < 1) if below_one else (values <= 1))))
    where = outside[0] if len(outside) else 0
    require(
        len(outside) == 0,
        f"{name} has an entry of {values[where] if len(values) else 0:g} at unit {where}; it must lie in "
        f"{'[0, 1)' if below_one else '[0, 1]'}. {cure}",
    )
