"""What counts are divided by, on paper and by Python."""

import numpy as np
import pytest

from dualform.programs import Input, Program, cycle, interpret
from dualform.programs.graph import Block
from dualform.programs.lowering import lowered
from dualform.programs.sugar import remainder


@pytest.mark.parametrize(
    ("n", "largest", "base"), [(1, 9, 2), (3, 2, 2), (3, 3, 4), (5, 130, 2), (7, 400, 4), (6, 97, 10)]
)
def test_remainder_is_pythons(n, largest, base):
    """Every whole number up to the largest has the remainder that Python gives."""
    x = np.arange(largest + 1.0)[:, None]
    found = interpret(Program(remainder(Input(), n, largest, base)), x)
    np.testing.assert_array_equal(found, x % n)


@pytest.mark.parametrize("n", [2, 4])
def test_quarter_turns_are_whole(n):
    """A rotation by quarters of a circle has whole numbers for its matrix, where floating point has 6e-17."""
    graph = lowered(cycle(n) + 0 * Input())
    (block,) = (step for step in graph.steps if isinstance(step, Block))
    assert all(entry in (-1, 0, 1) for row in block.matrix for entry in row.values())
    assert all(entry in (-1, 0, 1) for entry in block.start)
