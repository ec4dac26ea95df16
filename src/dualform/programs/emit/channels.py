"""A linear state as channels, each of one real decay behind a short convolution: what Hawk, Mamba and a delta rule can hold.

s_t = A s_{t-1} + v_t is the sum of A^j v_{t-j}. Along an eigenvector A^j is a decay to the j; where A is nilpotent, the sum ends
after a few tokens, which is what a convolution sees. What A does otherwise, it does in no such channel:

- a state that turns or changes its sign has decays that are complex or negative. Products of matrices whose eigenvalues are
  real and not negative count modulo nothing, and of real ones modulo powers of two alone (Grazzi et al. 2024, arXiv 2411.12537,
  theorems 1 and 2).
- a chain of rows with too few eigenvectors, or that delays by more than `REACH`, is cut into several states, one behind the
  other: a layer for each.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.errors import require
from dualform.programs.emit.rational import Matrix, Vector, inverse, null_space, product
from dualform.programs.emit.spectrum import WORST
from dualform.programs.graph import Atom, Block, Form, Graph, atom_form, rebuilt
from dualform.programs.path import PathLayer, Placed, rows

REACH = 3
"""The most tokens by which a convolution over four tokens delays."""

NEAR = 1e-9
"""How far an eigenvalue is from the fraction, or the real number, that it is taken for."""


class Channel(NamedTuple):
    """h_t = decay h_{t-1} + enter . v_{t-lag}, of which leave h is a part of s_t; enter, leave: of all rows of the state."""

    decay: float
    lag: int
    enter: Float[np.ndarray, " rows"]
    leave: Float[np.ndarray, " rows"]


class Reach(NamedTuple):
    """What decays an architecture has.

    - architecture: in words.  lowest: 0, or -1.  instead: what else a state can be compiled to.
    """

    architecture: str
    lowest: int
    instead: str


class _Parts(NamedTuple):
    """s = leave h of h_t = decay * h_{t-1} + enter v_t, plus the sum of delayed[j] v_{t-j}."""

    decay: list[float]
    enter: Float[np.ndarray, "n rows"]
    leave: Float[np.ndarray, "rows n"]
    delayed: list[Float[np.ndarray, "rows rows"]]


def channels(block: Placed, reach: Reach, late: bool = False) -> list[Channel]:
    """The channels of a state.

    **Arguments:** late: whether those that remember are written one token late, so that nothing is written to them at the first
    token; what the present token brings is then a channel of its own.

    **Raises:** `InputError`, with file and line, where the architecture cannot hold the state.
    """
    step = block.step
    assert isinstance(step, Block)
    _check_decays(step, reach)
    parts = _parts(step)
    require(
        parts is not None,
        f"{step.place}: {step.name}'s matrix has no basis of eigenvectors, and does not come apart into matrices that have one; "
        f"{reach.architecture} cannot hold it. Write it as several states, one behind the other, or compile to {reach.instead}.",
    )
    assert parts is not None
    found, one = [], np.eye(step.size)
    for i, decay in enumerate(parts.decay):
        leave = parts.leave[:, i] * (decay if late else 1)
        found.append(Channel(decay, int(late), parts.enter[i], leave))
    # Late, all that the present token brings comes in this way.
    delayed = [one, *parts.delayed[1:]] if late else parts.delayed
    for lag, matrix in enumerate(delayed):
        by_rows = np.count_nonzero(matrix.any(1)) <= np.count_nonzero(matrix.any(0))
        for i in np.flatnonzero(matrix.any(1 if by_rows else 0)):
            enter, leave = (matrix[i], one[i]) if by_rows else (one[i], matrix[:, i])
            found.append(Channel(0.0, lag, enter, leave))
    return [each for each in found if any(step.drive[row].key != (0,) for row in np.flatnonzero(each.enter))]


class Gathered(NamedTuple):
    """A channel of a layer: what it reads of the stream, and the constant beside it, and where in the stream it is written to."""

    decay: float
    lag: int
    enter: Float[np.ndarray, " width"]
    bias: float
    leave: Float[np.ndarray, " width"]

    @property
    def row(self) -> Float[np.ndarray, " width"]:
        """What it reads, the constant too, which is that many times lane 0."""
        row = self.enter.copy()
        row[0] += self.bias
        return row


def gathered(layer: PathLayer, lanes: dict[int, int], width: int, reach: Reach, late: bool = False) -> list[Gathered]:
    """Every channel of a layer.

    **Raises:** `InputError` as of `channels`.
    """
    found = []
    for block in layer.blocks:
        drive, bias = rows(block.step.forms, lanes, width)
        to = [lanes[atom] for atom in block.atoms]
        for channel in channels(block, reach, late):
            leave = np.zeros(width)
            leave[to] = channel.leave
            row = channel.enter @ drive, float(channel.enter @ bias)
            found.append(Gathered(channel.decay, channel.lag, *row, leave))
    return found


def cut(graph: Graph) -> Graph:
    """The graph with every state that needs it cut into several, one behind the other.

    A row that reads the past of a row which is in an earlier state reads that of a copy of it.
    """

    def make(step, add):
        if not isinstance(step, Block) or not _real(step) or _parts(step) is not None:
            return None
        stages = _stages(step)
        return None if stages is None else _in_stages(step, stages, add)

    return rebuilt(graph, make)


def _in_stages(step: Block, stages: list[list[int]], add) -> list[Form]:
    """A block for each stage, and where each row of the whole one is."""
    found: dict[int, Atom] = {}
    for members in stages:
        stage, copied = _stage(step, members)
        drive = [*stage.drive, *(atom_form(found[row]) for row in copied)]
        at = add(replace(stage, drive=tuple(drive)))
        found |= {row: at + i for i, row in enumerate(members)}
    return [atom_form(found[row]) for row in range(step.size)]


def _stages(step: Block) -> list[list[int]] | None:
    """Rows of each stage: every row in the first that can hold it; None where rows that read each other fit into none."""
    where: dict[int, int] = {}
    stages: list[list[int]] = []
    for members in _components(step):
        at = max((where[column] for row in members for column in step.matrix[row] if column not in members), default=0)
        while at < len(stages) and _parts(_stage(step, stages[at] + members)[0]) is None:
            at += 1
        if at == len(stages):
            if _parts(_stage(step, members)[0]) is None:
                return None
            stages.append([])
        stages[at] = stages[at] + members
        where |= dict.fromkeys(members, at)
    return stages


def _stage(step: Block, members: list[int]) -> tuple[Block, list[int]]:
    """A block of some rows, and the rows of which it has copies behind them; the copies' drives are missing."""
    copied = sorted({column for row in members for column in step.matrix[row]} - set(members))
    at = {row: i for i, row in enumerate([*members, *copied])}
    matrix = [{at[column]: a for column, a in step.matrix[row].items()} for row in members]
    stage = replace(
        step,
        matrix=(*matrix, *({} for _ in copied)),
        drive=tuple(step.drive[row] for row in members),
        start=tuple(step.start[row] for row in [*members, *copied]),
    )
    return stage, copied


def _check_decays(step: Block, reach: Reach) -> None:
    """Raise `InputError` where a decay is none of the architecture's."""
    for each in _eigenvalues(step):
        value = complex(each)
        negative = abs(value.imag) <= NEAR and value.real < -NEAR
        theorem = (
            "a product of decays that are not negative never comes back to where it was, so that it counts modulo nothing "
            "(Grazzi et al. 2024, arXiv 2411.12537, theorem 1)"
            if reach.lowest == 0
            else "real decays count modulo powers of two alone (Grazzi et al. 2024, arXiv 2411.12537, theorem 2)"
        )
        require(
            abs(each) <= (1 if isinstance(each, Fraction) else 1 + NEAR),
            f"{step.place}: {step.name} grows by {abs(value):.4g} at each token; decays here are at most 1.",
        )
        require(
            abs(value.imag) <= NEAR and (reach.lowest < 0 or not negative),
            f"{step.place}: {step.name} {'changes its sign' if negative else 'turns'}, with a decay of {_shown(value)}; those of "
            f"{reach.architecture} lie in [{reach.lowest}, 1], and {theorem}. Compile to {reach.instead}.",
        )


def _shown(value: complex) -> str:
    return f"{value.real:.4g}" if abs(value.imag) <= NEAR else f"{value.real:.4g} + {abs(value.imag):.4g} i"


def _real(step: Block) -> bool:
    return all(abs(complex(value).imag) <= NEAR for value in _eigenvalues(step))


def _components(step: Block) -> list[list[int]]:
    """Rows that read each other, in an order in which each reads only what stands before it."""
    n = step.size
    reads = np.eye(n, dtype=bool)
    for i, row in enumerate(step.matrix):
        reads[i, list(row)] = True
    for _ in range(max(1, int(n).bit_length())):
        reads = (reads.astype(np.float32) @ reads.astype(np.float32)) > 0
    both, found = reads & reads.T, {}
    for i in sorted(range(n), key=lambda i: (np.count_nonzero(reads[i]), i)):
        found.setdefault(int(np.argmax(both[i])), []).append(i)
    return list(found.values())


def _eigenvalues(step: Block) -> list[Fraction | complex]:
    """The eigenvalues of a block's matrix, as fractions where they are."""
    found: list[Fraction | complex] = []
    for members in _components(step):
        if len(members) == 1:
            found.append(step.matrix[members[0]].get(members[0], Fraction(0)))
            continue
        inside = np.array([[float(step.matrix[i].get(j, 0)) for j in members] for i in members])
        for value in np.linalg.eigvals(inside).astype(complex):
            near = Fraction(value.real).limit_denominator(10**6)
            found.append(near if abs(value - float(near)) < NEAR else complex(value))
    return found


def _parts(step: Block) -> _Parts | None:
    """A state in the basis of its eigenvectors, and what of it is nilpotent; None where there is no such basis."""
    values, n = _eigenvalues(step), step.size
    matrix = [[row.get(j, Fraction(0)) for j in range(n)] for row in step.matrix]
    fractions = [value for value in values if isinstance(value, Fraction)]
    exact = _exactly(matrix, fractions) if len(fractions) == n else None
    if exact is not None or all(len(members) == 1 for members in _components(step)):
        return exact
    a = _floats(matrix)
    decay, basis = np.linalg.eig(a)
    if np.iscomplexobj(decay) or np.linalg.cond(basis) > WORST:
        return None
    return _Parts(list(map(float, np.clip(decay, -1, 1))), np.linalg.inv(basis), basis, [])


def _exactly(matrix: Matrix, values: Sequence[Fraction]) -> _Parts | None:
    """The same in fractions, of eigenvalues that are fractions; None where some are not, or eigenvectors are missing."""
    n, decay = len(matrix), []
    basis: list[Vector] = []
    for value in sorted({value for value in values if value}, reverse=True):
        vectors = null_space([[a - value * (i == j) for j, a in enumerate(row)] for i, row in enumerate(matrix)])
        decay += [float(value)] * len(vectors)
        basis += vectors
    power, powers = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)], []
    if 0 in values:
        for _ in range(REACH + 1):
            powers.append(power)
            power = product(matrix, power)
        basis += null_space(power)
    if len(basis) != n:
        return None
    into = inverse([list(row) for row in zip(*basis, strict=True)])
    kept, k = _floats(into), len(decay)
    columns = _floats(basis).T
    delayed = []
    if k < n:
        nilpotent = product([list(row) for row in zip(*basis[k:], strict=True)], into[k:])
        delayed = [_floats(product(each, nilpotent)) for each in powers]
    return _Parts(decay, kept[:k], columns[:, :k], [each for each in delayed if each.any()])


def _floats(matrix: Sequence[Sequence[Fraction]]) -> Float[np.ndarray, "rows columns"]:
    return np.array([[float(entry) for entry in row] for row in matrix])
