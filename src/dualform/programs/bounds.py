"""Ranges of a graph's atoms: of forms from those of atoms, and of linear states from those of what drives them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from dualform.programs.graph import Atom, Block, Form
from dualform.programs.ranges import End, Range, exactly, total


def of_form(form: Form, ranges: Mapping[Atom, Range] | Sequence[Range]) -> Range:
    """The range of a form."""
    return total((ranges[atom].times(factor) for atom, factor in form.terms.items()), form.constant)


def of_block(block: Block, drive: Sequence[Range]) -> list[Range]:
    """The range of each row of a state that starts at 0, after any number of tokens.

    Bounds are followed from token to token. Those that still move after more tokens than there are rows are replaced by what a
    matrix of norm below 1 cannot leave, or given up. A state of a whole matrix stays in the lattice of what drives it.
    """
    whole = all(a.denominator == 1 for row in block.matrix for a in row.values())
    lattice = exactly(Fraction(0))
    for each in drive:
        lattice = lattice.joined(each)
    step = lattice.step if whole else None
    placed = lambda row: replace(row, offset=Fraction(0), step=step) if row.step != 0 else row

    def after(found: Sequence[Range]) -> list[Range]:
        """What is there one token later, or was there already."""
        carried = [total((found[j].times(a) for j, a in row.items()), Fraction(0)) for row in block.matrix]
        return [placed(old.joined(new + own)) for old, new, own in zip(found, carried, drive, strict=True)]

    found = [placed(each) for each in drive]
    for _ in range(block.size + 2):
        found, before = after(found), found
        if _ends(found) == _ends(before):
            return found
    limit = _limit(block, drive)
    least, most = (None, None) if limit is None else (-limit, limit)
    while _ends(then := after(found)) != _ends(found):  # each round gives up a bound at least
        found = [
            placed(
                replace(
                    new,
                    low=old.low if old.low == new.low else least,
                    high=old.high if old.high == new.high else most,
                )
            )
            for old, new in zip(found, then, strict=True)
        ]
        least, most = (least, most) if _ends(after(found)) == _ends(found) else (None, None)
    return found


def _ends(ranges: Sequence[Range]) -> list[tuple[End, End]]:
    """Their bounds."""
    return [each.ends for each in ranges]


def _limit(block: Block, drive: Sequence[Range]) -> Fraction | None:
    """What no row's size can exceed: the largest drive over 1 - ||A||, if the norm, of sums over rows, is below 1."""
    norm = max((sum((abs(a) for a in row.values()), Fraction(0)) for row in block.matrix), default=Fraction(0))
    largest: End = max((abs(end) for each in drive for end in each.ends), default=Fraction(0))
    return None if norm >= 1 or largest == math.inf else Fraction(largest) / (1 - norm)
