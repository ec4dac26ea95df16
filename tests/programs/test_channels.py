"""Linear states as channels of real decays behind a short convolution: what they give, and what cannot be one."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualform.errors import InputError
from dualform.programs.emit.channels import Reach, channels, cut
from dualform.programs.emit.rational import inverse, null_space, product
from dualform.programs.graph import Block, Graph, atom_form, run
from dualform.programs.lowering import lowered
from dualform.programs.passes import passed
from dualform.programs.path import Placed
from tests.programs.drawn import TOKENS, programs

POSITIVE, SIGNED = Reach("a positive recurrence", 0, "another"), Reach("a signed recurrence", -1, "another")
HALF, THIRD = Fraction(1, 2), Fraction(1, 3)


def block(matrix) -> Block:
    rows = tuple({j: Fraction(a) for j, a in enumerate(row) if a} for row in matrix)
    return Block(rows, tuple(atom_form(i) for i in range(len(rows))), (Fraction(0),) * len(rows), "s", "file.py:3")


def powers(found, time: int, late: bool):
    """What the channels make of a drive of 1 at the first token, in each row: (time, rows, rows), A^t."""
    n = len(found[0].enter)
    total = np.zeros((time, n, n))
    for channel in found:
        # A unit that is written late is written at the second token, and one of lag j at the j-th after the first.
        held = [channel.decay ** (t - channel.lag) if t >= channel.lag else 0 for t in range(time)]
        total += np.asarray(held)[:, None, None] * np.outer(channel.leave, channel.enter)
    assert late or all(channel.lag == 0 or channel.decay == 0 for channel in found)
    return total


MATRICES = {
    "counter": [[1]],
    "leaky": [[HALF]],
    "nothing": [[0]],
    "counter and its past": [[1, 0], [1, 0]],
    "two decays": [[1, 0], [1, THIRD]],
    "delays": [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0]],
    "a decay and two delays": [[HALF, 0, 0], [1, 0, 0], [0, 1, 0]],
    "rows that read each other": [[HALF, HALF], [HALF, HALF]],
    "decays that are no fractions": [[HALF, Fraction(1, 4)], [Fraction(1, 4), Fraction(1, 4)]],
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", MATRICES)
def test_channels_are_the_powers_of_the_matrix(name, late):
    """The sum of what channels hold of a drive t tokens ago is A^t of it, written at once or one token late."""
    matrix = np.array([[float(a) for a in row] for row in MATRICES[name]])
    given = powers(channels(Placed(0, block(MATRICES[name])), POSITIVE, late), 7, late)
    expected = np.stack([np.linalg.matrix_power(matrix, t) for t in range(7)])
    fractions = "no fractions" not in name
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-15 if fractions else 1e-12)


def test_signs_are_held_where_decays_are_signed():
    """Two rows that swap have the decays 1 and -1."""
    found = channels(Placed(0, block([[0, 1], [1, 0]])), SIGNED)
    assert sorted(each.decay for each in found) == [-1, 1]
    np.testing.assert_array_equal(powers(found, 3, False), [np.eye(2), np.eye(2)[::-1], np.eye(2)])


def test_late_channels_have_nothing_at_the_first_token():
    """Written late, what remembers looks one token back, and what does not holds the present token alone."""
    for matrix in MATRICES.values():
        for channel in channels(Placed(0, block(matrix)), POSITIVE, late=True):
            assert channel.lag == 1 if channel.decay else channel.lag <= 3


TURNS = [[0, -1], [1, 0]]


@pytest.mark.parametrize(
    ("matrix", "reach", "says"),
    [
        (
            [[-1]],
            POSITIVE,
            r"file.py:3: s changes its sign, with a decay of -1; those of a positive recurrence lie in \[0, 1\]",
        ),
        ([[-1]], POSITIVE, "it counts modulo nothing .*2411.12537, theorem 1.*Compile to another"),
        (TURNS, POSITIVE, r"s turns, with a decay of 0 \+ 1 i; .*theorem 1"),
        (TURNS, SIGNED, r"s turns, .* lie in \[-1, 1\], and real decays count modulo powers of two alone .*theorem 2"),
        ([[Fraction(11, 10)]], SIGNED, "s grows by 1.1 at each token; decays here are at most 1"),
        ([[2, 1], [1, 1]], SIGNED, "s grows by 2.618"),
        ([[1, 0], [1, 1]], POSITIVE, "s's matrix has no basis of eigenvectors"),
    ],
)
def test_refused(matrix, reach, says):
    """A state that no such channels hold is refused, with the place, the decay, the reason and what to do."""
    with pytest.raises(InputError, match=says):
        channels(Placed(0, block(matrix)), reach)


def same(before: Graph, after: Graph, tokens) -> None:
    assert run(before, tokens) == run(after, tokens)


@pytest.mark.parametrize(
    ("matrix", "blocks"),
    [
        (np.eye(9, k=-1, dtype=int).tolist(), 3),  # eight delays, three at a time
        ([[1, 0], [1, 1]], 2),  # a sum of sums
        ([[1, 0, 0], [1, 1, 0], [0, 1, 1]], 3),
        ([[1, 0], [1, 0]], 1),
        (TURNS, 1),
    ],
)
def test_cut_is_the_same_to_the_fraction(matrix, blocks):
    """Cut into several, a state gives what it gave, and each of them has channels; one that has them already is not cut."""
    n = len(matrix)
    before = Graph(n, (block(matrix),), tuple(atom_form(n + i) for i in range(n)))
    after = cut(before)
    assert len(after.steps) == blocks
    same(before, after, np.random.default_rng(0).integers(-3, 4, (12, n)).tolist())
    if matrix is not TURNS:
        for first, step in zip(after.first, after.steps, strict=True):
            assert channels(Placed(first, step), POSITIVE)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(programs(), st.lists(st.lists(TOKENS, min_size=2, max_size=2), min_size=1, max_size=6))
def test_cut_random_programs(output, tokens):
    """Of any program, cut gives what was there before."""
    graph = passed(lowered(output))[-1][1]
    same(graph, cut(graph), [token[: graph.width] for token in tokens])


def test_rational():
    """A null space is taken to 0 and has as many vectors as rank is missing; an inverse times its matrix is the identity."""
    a = [[Fraction(2), Fraction(1), HALF], [Fraction(4), Fraction(2), Fraction(1)]]
    space = null_space(a)
    assert len(space) == 2
    assert product(a, [list(row) for row in zip(*space, strict=True)]) == [[0, 0], [0, 0]]
    b = [[Fraction(0), THIRD], [Fraction(7), Fraction(1)]]
    assert product(inverse(b), b) == [[1, 0], [0, 1]]
