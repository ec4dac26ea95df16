"""Whether the states of several sequences fit into memory, told before anything is computed."""

from typing import Any

import jax

from dualform.errors import require
from dualform.generation.growth import first_state
from dualform.room import free_bytes, in_words


def state_bytes(model: Any, tokens: int | None = None) -> int:
    """How many bytes the state of one sequence takes, with places for so many tokens; with all of them if not given."""
    leaves = jax.tree_util.tree_leaves(jax.eval_shape(lambda: first_state(model, None, tokens)))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def check_room(model: Any, batch: int, tokens: int | None = None) -> None:
    """Raise `InputError` where the states of `batch` sequences need more memory than there is.

    **Arguments:** tokens: that each is to have places for; None: as many as its bound.
    """
    one, free = state_bytes(model, tokens), free_bytes()
    several = f"{batch:,} sequences need" if batch > 1 else "a sequence needs"
    require(
        free is None or batch * one <= free,
        f"{several} {in_words(batch * one)} for the states, {in_words(one)} each; {in_words(free or 0)} are free. Give "
        f"fewer at once, {max((free or 0) // one, 0)} at most, or keep fewer states: a smaller bound, or a policy instead of the "
        "whole cache.",
    )
