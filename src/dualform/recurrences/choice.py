"""Which form of a recurrence runs: the one place that decides, for the platform and the shape, unless it is forced."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import jax

from dualform.errors import require

LOGGER = logging.getLogger(__name__)

_PREFERRED: dict[str, dict[str, str]] = {
    "diagonal": {"cpu": "scan", "other": "associative"},
    "outer": {"cpu": "chunked", "other": "parallel"},
    "delta": {"cpu": "chunked", "other": "parallel"},
}
"""By recurrence: the form on a CPU, and on accelerators. A recurrence that is not here takes the first of its forms."""


_WATCHED: ContextVar[dict[str, tuple[str, ...]] | None] = ContextVar("watched", default=None)


@contextmanager
def watching() -> Iterator[dict[str, tuple[str, ...]]]:
    """The recurrences that are traced inside the block, by name, with the forms that each has."""
    seen: dict[str, tuple[str, ...]] = {}
    token = _WATCHED.set(seen)
    try:
        yield seen
    finally:
        _WATCHED.reset(token)


def choose(recurrence: str, forms: Sequence[str], forced: str | None, *, time: int) -> str:
    """The form in which `recurrence` runs.

    **Arguments:**

    - recurrence: its name.  forms: those that it has, the preferred first.
    - forced: the form that the caller asks for, or None.
    - time: tokens; a single one needs no chunks and takes "naive".

    **Returns:** one of `forms`; the choice is logged at level DEBUG, once for each program that is compiled.

    **Raises:** `InputError` where `forced` is none of `forms`.
    """
    require(
        forced is None or forced in forms,
        f"{recurrence} has no form {forced!r}; it has {', '.join(forms)}. Leave the form out to have it chosen.",
    )
    seen = _WATCHED.get()
    if seen is not None:
        seen[recurrence] = tuple(forms)
    platform = jax.default_backend()
    if forced is not None:
        form = forced
    elif time == 1 and "naive" in forms:
        form = "naive"
    else:
        form = _PREFERRED.get(recurrence, {}).get("cpu" if platform == "cpu" else "other", forms[0])
    LOGGER.debug(
        "%s: form %s for %d tokens on %s (%s)", recurrence, form, time, platform, "forced" if forced else "chosen"
    )
    return form
