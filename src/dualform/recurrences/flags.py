"""The flags over time that every recurrence takes, and the state before the first step: the checks, written once."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from dualform.errors import require

ROUNDING = 1e-6
"""How far above 1 a decay may lie: a float32 that was computed to be 1."""


def check_time(time: int) -> None:
    """Raise `InputError` where there is no time step."""
    require(time >= 1, "the sequence has length 0; a recurrence needs at least one time step.")


def check_flags(time: int, start, mask) -> None:
    """Raise `InputError` unless each flag given is one boolean for each of `time` steps."""
    for name, flags in (("start", start), ("mask", mask)):
        shape, dtype = getattr(flags, "shape", None), getattr(flags, "dtype", type(flags).__name__)
        require(
            flags is None or (shape == (time,) and str(dtype) == "bool"),
            f"{name} must be an array of one boolean for each of the {time} time steps; got shape {shape} of {dtype}.",
        )


def check_decay(name: str, decay, *, signed: bool = False) -> None:
    """Raise `InputError` where an entry of `decay`, called `name`, is above 1 in size, or below 0 unless `signed`.

    Seen only where the values are known, not under jit; NaN is passed on, so that it is seen in the outputs.
    """
    if decay is None or isinstance(decay, Tracer) or not jnp.issubdtype(decay.dtype, jnp.inexact):
        return
    values = np.asarray(decay).ravel()
    values = values if np.iscomplexobj(values) else values.astype(np.float64)
    wrong = np.abs(values) > 1 + ROUNDING
    wrong = np.flatnonzero(wrong if signed else wrong | (values < 0))
    require(
        len(wrong) == 0,
        f"{name} has an entry of {values[wrong[0]] if len(wrong) else 0:g}; it is what a step leaves of the past, "
        f"{'of size 1 at most' if signed else 'in [0, 1]'}. Clip it; if these are logarithms, take exp of them.",
    )


def check_state(name: str, state, shape: tuple[int, ...]) -> None:
    """Raise `InputError` unless `state`, called `name`, is None or has the shape that the inputs ask for."""
    found = getattr(state, "shape", None)
    require(state is None or found == shape, f"{name} has shape {found}; the inputs need {shape}.")
