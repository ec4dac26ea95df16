"""Which of a test's parameters the README's command takes, and which are left to the thorough tier."""

from collections.abc import Iterable
from typing import Any

import pytest


def tiers(values: Iterable[Any], *quick: Any) -> list[Any]:
    """All values for `parametrize`, each a parameter or a tuple of several; those that are not in `quick` are slow."""
    values = list(values)
    unknown = [value for value in quick if value not in values]
    assert not unknown, f"{unknown} are not among {values}"
    several = lambda value: value if isinstance(value, tuple) else (value,)
    return [pytest.param(*several(value), marks=() if value in quick else pytest.mark.slow) for value in values]
