"""Linear algebra of small matrices of fractions, without any rounding: a null space, and an inverse."""

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

Vector: TypeAlias = list[Fraction]
Matrix: TypeAlias = list[Vector]


def reduced(matrix: Sequence[Sequence[Fraction]]) -> tuple[Matrix, list[int]]:
    """The reduced row echelon form without its rows of zeros, and the column of each row's leading 1."""
    rows, found, columns = [list(row) for row in matrix], [], []
    for column in range(len(rows[0]) if rows else 0):
        at = next((i for i, row in enumerate(rows) if row[column]), None)
        if at is None:
            continue
        lead = rows.pop(at)
        lead = [entry / lead[column] for entry in lead]
        less = lambda row: _less(row, row[column], lead)  # noqa: B023 - called in this turn
        rows, found = [less(row) for row in rows], [less(row) for row in found]
        found.append(lead)
        columns.append(column)
    return found, columns


def null_space(matrix: Sequence[Sequence[Fraction]]) -> list[Vector]:
    """A basis of the vectors that a matrix takes to 0; a matrix has at least one row."""
    rows, leads = reduced(matrix)
    width, basis = len(matrix[0]), []
    for free in (column for column in range(width) if column not in leads):
        vector = [Fraction(int(column == free)) for column in range(width)]
        for row, lead in zip(rows, leads, strict=True):
            vector[lead] = -row[free]
        basis.append(vector)
    return basis


def inverse(matrix: Sequence[Sequence[Fraction]]) -> Matrix:
    """The inverse of a matrix that has one."""
    n = len(matrix)
    rows, leads = reduced([[*row, *(Fraction(int(i == j)) for j in range(n))] for i, row in enumerate(matrix)])
    assert leads == list(range(n))
    return [row[n:] for row in rows]


def product(left: Sequence[Sequence[Fraction]], right: Sequence[Sequence[Fraction]]) -> Matrix:
    """left @ right."""
    found = []
    for row in left:
        total = [Fraction(0)] * len(right[0])
        for factor, other in zip(row, right, strict=True):
            if factor:
                total = [a + factor * b for a, b in zip(total, other, strict=True)]
        found.append(total)
    return found


def _less(row: Vector, factor: Fraction, lead: Vector) -> Vector:
    return [a - factor * b if b else a for a, b in zip(row, lead, strict=True)] if factor else row
