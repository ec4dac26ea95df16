"""Brackets: how deep they are nested, where they go wrong, and whether all are closed."""

import numpy as np

from dualform.errors import require
from dualform.programs.library.draws import bits
from dualform.programs.library.registration import register
from dualform.programs.program import Program
from dualform.programs.sugar import both, counter, either, equal, exceeds, if_else
from dualform.programs.values import Input, Value, concat, relu, summed, whole_number


@register("dyck")
def dyck(deepest: int | None = None) -> Program:
    """How deep brackets are nested, and at how many tokens they were nested wrongly so far; 1 opens, 0 closes.

    depth_t = depth_{t-1} + 2 x_t - 1, and wrong_t = wrong_{t-1} + [depth_t < 0] + [depth_t > deepest]: what was read is the
    beginning of a well-formed word as long as wrong_t is 0, and is one where depth_t is 0, too.

    **Arguments:** deepest: how deep brackets may be nested; any depth if not given.
    """
    x = Input(low=0, high=1, whole=True)
    depth = counter(2 * x - 1, name="depth")
    return Program(
        concat(depth, counter(_beyond(depth, deepest), name="wrong")),
        draw=bits,
        expected=lambda x: _depth_and_wrong(2 * x[:, 0] - 1, deepest),
        discrete=True,
    )


@register("brackets")
def brackets(kinds: int = 2, deepest: int = 4, form: str = "direct") -> Program:
    """1 where the brackets that were read are balanced, each closed by its own kind, nested no deeper than `deepest`.

    A token is k where it opens a bracket of kind k = 1, 2, ..., and -k where it closes one. A stack would be needed, and a stack
    that writes over what it holds is no linear state. But sums are enough: each level has a register to which the token at
    that level is added, k when it opens and -k when it closes. As long as all is well it holds the kind of the bracket that is
    open there, and 0 where none is; what closes the wrong kind leaves something else behind.

        level_t = depth_t where a bracket opens, depth_t + 1 where it closes
        open_t[l] = open_{t-1}[l] + [level_t = l] x_t
        wrong_t = wrong_{t-1} + [depth_t < 0] + [depth_t > deepest] + [open_t[level_t] != 0 and x_t closes]

    **Arguments:** kinds; deepest; form: of the conditional, see `if_else`.
    """
    kinds, deepest = whole_number("kinds", kinds), whole_number("deepest", deepest)
    x = Input(low=-kinds, high=kinds, whole=True)
    opens = exceeds(x, 0)
    depth = counter(2 * opens - 1, name="depth")
    here = equal(depth + 1 - opens, list(range(1, deepest + 1)), scale=4)
    held = counter(if_else(here, x, form=form, large=2 * kinds), name="open")
    # What a level holds is off where it is at least 1 either way; closing, it has to be 0.
    off = either(exceeds(held, 0), exceeds(0, held))
    mismatch = summed(relu(off + here - opens - 1))
    wrong = counter(_beyond(depth, deepest) + mismatch, name="wrong")
    return Program(
        both(equal(depth, 0, scale=4), 1 - exceeds(wrong, 0)),
        draw=lambda random, time: _nested(random, time, kinds, deepest),
        expected=lambda x: _balanced(x[:, 0], deepest),
        discrete=True,
    )


def _beyond(depth: Value, deepest: int | None) -> Value:
    """1 where the depth is below 0 or above the deepest."""
    below = exceeds(0, depth)
    if deepest is None:
        return below
    require(deepest >= 1, f"deepest is {deepest}; it must be at least 1.")
    return below + exceeds(depth, deepest)


def _depth_and_wrong(moves: np.ndarray, deepest: int | None) -> np.ndarray:
    depth = np.cumsum(moves)
    beyond = (depth < 0) | (depth > (np.inf if deepest is None else deepest))
    return np.stack([depth, np.cumsum(beyond)], axis=1)


def _nested(random: np.random.Generator, time: int, kinds: int, deepest: int) -> np.ndarray:
    """Brackets that are mostly right: one token in twenty is any."""
    stack, found = [], []
    for _ in range(time):
        if random.random() < 0.05:
            token = int(random.integers(1, kinds + 1)) * (1 if random.random() < 0.5 else -1)
        elif not stack or (len(stack) < deepest and random.random() < 0.5):
            token = int(random.integers(1, kinds + 1))
        else:
            token = -stack[-1]
        if token > 0:
            stack.append(token)
        elif stack:
            stack.pop()
        found.append(token)
    return np.array(found, float)[:, None]


def _balanced(tokens: np.ndarray, deepest: int) -> np.ndarray:
    """By a stack, as one does it."""
    stack, right, found = [], True, []
    for token in tokens.astype(int):
        if token > 0:
            stack.append(token)
            right = right and len(stack) <= deepest
        else:
            right = right and bool(stack) and stack.pop() == -token
        found.append(float(right and not stack))
    return np.array(found)[:, None]
