"""Whether the states of several sequences fit into memory, told before anything is computed."""

from typing import Any

import jax

from dualform.errors import require
from dualform.room import free_bytes, in_words


def state_bytes(model: Any) -> int:
    """How many bytes the state of one sequence takes; for a bounded or a recurrent model, whatever its length."""
    leaves = jax.tree_util.tree_leaves(jax.eval_shape(model.init_state))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def check_room(model: Any, batch: int) -> None:
    """Raise `InputError` where the states of `batch` sequences need more memory than there is."""
    one, free = state_bytes(model), free_bytes()
    several = f"{batch:,} sequences need" if batch > 1 else "a sequence needs"
    require(
        free is None or batch * one <= free,
        f"{several} {in_words(batch * one)} for the states, {in_words(one)} each; {in_words(free or 0)} are free. Give "
        f"fewer at once, {max((free or 0) // one, 0)} at most, or keep fewer states: a smaller bound, or a policy instead of the "
        "whole cache.",
    )
