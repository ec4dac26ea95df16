"""The flags over time that every recurrence takes, and the state before the first step: the checks, written once."""

from dualform.errors import require


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


def check_state(name: str, state, shape: tuple[int, ...]) -> None:
    """Raise `InputError` unless `state`, called `name`, is None or has the shape that the inputs ask for."""
    found = getattr(state, "shape", None)
    require(state is None or found == shape, f"{name} has shape {found}; the inputs need {shape}.")
