"""Whole numbers that a caller gives, and what is made of a seed."""

import operator
from typing import Any, SupportsIndex

import jax
import jax.random as jr
from jaxtyping import Array

from dualform.errors import InputError, require


def counted(value: Any) -> int | None:
    """The whole number that a value is, NumPy's and JAX's too; None for every other value, True and 4.0 among them.

    >>> import numpy as np
    >>> from dualform.counts import counted
    >>> counted(np.int64(4)), counted(True), counted(4.0)
    (4, None, None)
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def count_of(name: str, value: SupportsIndex, least: int, what: str) -> int:
    """The value as a Python integer.

    **Arguments:** name: of the argument; least: the least that it may be; what: what to give, for the message.

    **Raises:** `InputError` where it is no whole number, or below `least`.
    """
    number = counted(value)
    require(number is not None and number >= least, f"{name} is {value!r}; {what}.")
    assert number is not None
    return number


def whole_numbers(name: str, values: Any) -> frozenset[int]:
    """The values, each a whole number, as Python's integers.

    **Raises:** `InputError` where they are no collection of whole numbers.
    """
    try:
        found = [counted(each) for each in values]
    except TypeError:  # one value alone, or None
        found = [None]
    require(None not in found, f"{name} are {values!r}; give a list of whole numbers, which may be empty.")
    return frozenset(each for each in found if each is not None)


MOST_SEED = 2**63 - 1


def seed_of(seed: SupportsIndex) -> int:
    """The seed as a Python integer.

    A negative one is refused: NumPy has none, Python's `random` takes it for the positive one, and what `jax.random.key` makes of
    it depends on whether float64 is enabled.

    **Raises:** `InputError` unless it is a whole number from 0 to 2^63 - 1.
    """
    number = counted(seed)
    if number is None or not 0 <= number <= MOST_SEED:
        raise InputError(f"the seed is {seed!r}; give a whole number from 0 to 2^63 - 1.")
    return number


def key_of(seed: SupportsIndex) -> Array:
    """The PRNG key of a seed: up to 2^32 - 1 `jax.random.key(seed)`, and another one for each seed up to 2^63 - 1.

    Where float64 is not enabled `jax.random.key` forgets all but the last 32 bits.

    **Raises:** `InputError` as `seed_of` does.

        >>> import jax.random as jr
        >>> from dualform.counts import key_of
        >>> bool(jr.bits(key_of(2**32)) == jr.bits(key_of(0)))
        False
    """
    number = seed_of(seed)
    if number < 2**32:
        return jr.key(number)
    with jax.enable_x64(True):
        return jr.key(number)
