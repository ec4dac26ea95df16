"""Whether arrays fit into memory, told before they are made: a system that has none left may end the program without a word."""

import os

import jax

from dualform.errors import require

SMALL = 1 << 28
"""Bytes that are always taken to be there."""


def free_bytes() -> int | None:
    """What is free where the arrays are: on the device or, on a CPU, in the machine's memory; None where nothing tells it."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        with open("/proc/meminfo") as file:
            said = dict(line.split(":", 1) for line in file)
        return 1024 * int(said["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def check_fits(count: int, what: str, advice: str) -> None:
    """Raise `InputError` where `count` bytes are more than are free.

    **Arguments:** what: takes them, the begin of a sentence; advice: a sentence on what to do.
    """
    free = free_bytes() if count > SMALL else None
    require(
        free is None or count <= free, f"{what} takes {in_words(count)}, and {in_words(free or 0)} are free. {advice}"
    )


def in_words(count: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count} bytes"
