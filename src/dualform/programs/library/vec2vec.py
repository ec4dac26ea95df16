"""Universal approximation in context, continuous: a function is given in the prompt, cell by cell, and looked up."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from dualform.programs.library.registration import register
from dualform.programs.program import Program
from dualform.programs.sugar import LARGE, SCALE, both, bump, counter, if_else, larger, smaller, step
from dualform.programs.values import Input, Number, broadcast, summed, whole_number

HALF = Fraction(1, 2)


@register("vec2vec")
def vec2vec(
    d_in: int = 2,
    d_out: int = 2,
    form: str = "multiplicative",
    cells: int = 8,
    scale: Number = SCALE,
    large: Number = LARGE,
    ramp: str = "whole",
) -> Program:
    """A point, then a function as values in cells of a grid: gives the value of the cell that the point is in.

    The first token is (x, 0, ...), x in [0, 1]^d_in. Each token behind it is (width, corner, value), a cell of the grid that lies
    between `corner` and `corner + width` in every direction, and the function's value there. With cells small enough this is any
    continuous function, and the weights know nothing of it.

        point += [t = 1] x
        inside_t = [corner_t < point <= corner_t + width_t in all directions] [t > 1]
        y_t = y_{t-1} + [inside_t] value_t

    Within 1 / scale of a border the steps are ramps, and the value is none of the two cells'.

    **Arguments:** d_in, d_out: of the function; form: of the conditionals, see `if_else`; cells: in each direction, of the grids
    that are drawn, which the weights do not depend on; scale: of the steps; large: of the conditionals; ramp: of the steps that
    compare, see `step`.

    **Source:** Petrov et al. 2024 (arXiv 2406.01424), Sec. 4 and their tests.
    """
    d_in, d_out, cells = whole_number("d_in", d_in), whole_number("d_out", d_out), whole_number("cells", cells)
    above = lambda x, y: larger(x, y, scale, ramp)
    together = lambda x, y: both(step(x, scale, ramp), step(y, scale, ramp))
    kept = lambda condition, value: if_else(condition, value, form=form, scale=scale, large=large)

    token = Input(1 + d_in + d_out)
    width, corner, value = token[0], token[1 : 1 + d_in], token[1 + d_in :]
    time = counter(1, name="time")
    point = counter(kept(smaller(broadcast(time, d_in), 1 + HALF, scale, ramp), token[:d_in]), name="point")
    within = bump(point, corner, corner + width, scale, ramp)
    inside = together(above(summed(within), d_in - HALF), above(time, 1 + HALF))
    here = above(broadcast(inside, d_out), HALF)
    # The optimised form is for what is not negative: a value is what it is above 0 less what it is below.
    found = kept(here, value) if form != "optimised" else kept(here, value) - kept(here, -value)
    return Program(
        counter(found, name="value"),
        draw=lambda random, time: _prompt(random, time, d_in, d_out, cells),
        expected=lambda x: _looked_up(x, d_in),
    )


def target(random: np.random.Generator, d_in: int, d_out: int, points: int = 5) -> Callable[[np.ndarray], np.ndarray]:
    """A smooth function of [0, 1]^d_in, as published: sum of w_i(x) v_i, w_i(x) as exp(-|x - c_i|), v in [-3, 3]."""
    centres, values = random.uniform(-0.1, 1.1, (points, d_in)), random.uniform(-3, 3, (points, d_out))

    def function(x: np.ndarray) -> np.ndarray:
        weights = np.exp(-np.linalg.norm(centres - x, axis=1))
        return weights @ values / weights.sum()

    return function


def told(function: Callable[[np.ndarray], np.ndarray], d_in: int, cells: int) -> Float[np.ndarray, "cells d"]:
    """A function as a prompt: (width, corner, value at the middle) of every cell of a grid of so many in each direction.

    **Returns:** (cells^d_in, 1 + d_in + d_out).
    """
    corners = np.stack(np.meshgrid(*[np.arange(cells) / cells] * d_in, indexing="ij"), axis=-1).reshape(-1, d_in)
    values = np.stack([function(corner + 0.5 / cells) for corner in corners])
    return np.concatenate([np.full((len(corners), 1), 1 / cells), corners, values], axis=1)


def asked(x: np.ndarray, d_out: int) -> Float[np.ndarray, "1 d"]:
    """A point as the first token."""
    return np.concatenate([x, np.zeros(1 + d_out)])[None]


def _prompt(random: np.random.Generator, time: int, d_in: int, d_out: int, cells: int) -> np.ndarray:
    """A point that lies in its cell, not at its border, and the cells in any order; behind the last, tokens of 0."""
    x = (random.integers(0, cells, d_in) + random.uniform(0.05, 0.95, d_in)) / cells
    prompt = random.permutation(told(target(random, d_in, d_out), d_in, cells))
    found = np.concatenate([asked(x, d_out), prompt])[:time]
    return np.concatenate([found, np.zeros((time - len(found), found.shape[1]))])


def _looked_up(tokens: np.ndarray, d_in: int) -> np.ndarray:
    """By comparing cell after cell."""
    x, prompt = tokens[0, :d_in], tokens[1:]
    corner = prompt[:, 1 : 1 + d_in]
    inside = np.all((corner < x) & (x <= corner + prompt[:, :1]), axis=1)
    found = np.cumsum(inside[:, None] * prompt[:, 1 + d_in :], axis=0)
    return np.concatenate([np.zeros((1, found.shape[1])), found])
