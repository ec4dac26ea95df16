"""Whether the states of several sequences fit into memory, told before anything is computed."""

import os
from typing import Any

import jax

from dualform.errors import require


def state_bytes(model: Any) -> int:
    """How many bytes the state of one sequence takes; for a bounded or a recurrent model, whatever its length."""
    leaves = jax.tree_util.tree_leaves(jax.eval_shape(model.init_state))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


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


def check_room(model: Any, batch: int) -> None:
    """Raise `InputError` where the states of `batch` sequences need more memory than there is."""
    one, free = state_bytes(model), free_bytes()
    require(
        free is None or batch * one <= free,
        f"{batch} sequences need {_size(batch * one)} for their states, {_size(one)} each; {_size(free or 0)} are free. Give "
        f"fewer at once, {max((free or 0) // one, 0)} at most, or keep fewer states: a smaller bound, or a policy instead of the "
        "whole cache.",
    )


def _size(count: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
