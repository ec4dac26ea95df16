"""Products of two linear maps by gates that are sigmoids: the linearisation that all of Table 3 rests on.

A unit computes sigma(w_m z) * (w_x z). Near b the sigmoid is sigma(b) + sigma'(b) s a + O(s^2), so that a pair of units,
one with a and one with its mirror image -a, and the same w_x, gives

    (sigma(b + s a) - sigma(b - s a)) * (w_x z) = 2 sigma'(b) s a * (w_x z) + O(s^3):

the product, once the next linear map has taken the difference and divided by 2 sigma'(b) s. The paper's twin unit has
w_m = 0 instead and serves to subtract 1/2: the same number of units, the same error, half the signal.

**The two errors.** At b = 0 the pair is tanh(s a / 2): a relative error of (s a)^2 / 12. The difference of two numbers near
1/2 is known to about eps, the signal is s: a relative error of eps / s, or eps / s^k where k such differences must be taken
at the same time. **order=4** puts b = -log(2 + sqrt 3), where sigma''' = 0 (even orders cancel in the pair anyway): what is
left of the error is O(s^4), the scale may be larger and the rounding is less. This is ours.

**Units are normalised** so that one scale serves all: `a` and `w_x z` have a mean square near 1 for tokens N(0, 1), by
factors that are powers of two and so cost no rounding. A product with a constant (a bias alone) needs no linearisation: a
saturated gate is exactly 1.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dualform.errors import require

SATURATED = 40.0
"""sigma(40) is 1 exactly, in float32 and in float64; sigma(-800) is 0 exactly."""

CLOSED = -800.0

_BIAS = {2: 0.0, 4: -math.log(2 + math.sqrt(3))}
_SLOPE = {2: 1 / 4, 4: 1 / 6}


class Products(NamedTuple):
    """Units sigma(w_m z) * (w_x z'), with z and z' ending in a 1, and what to collect from them.

    - product: to which product a unit belongs.  weight: with which factor.
    """

    w_m: Float[np.ndarray, "units columns"]
    w_x: Float[np.ndarray, "units columns_x"]
    product: Int[np.ndarray, " units"]
    weight: Float[np.ndarray, " units"]

    @property
    def collect(self) -> Float[np.ndarray, "products units"]:
        """The linear map from the units to the products."""
        matrix = np.zeros((int(self.product.max()) + 1, len(self.product)))
        matrix[self.product, np.arange(len(self.product))] = self.weight
        return matrix


def pairs(
    w_m: Float[np.ndarray, "products columns"],
    w_x: Float[np.ndarray, "products columns_x"],
    power_m: Float[np.ndarray, "columns columns"],
    power_x: Float[np.ndarray, "columns_x columns_x"],
    scale: float,
    order: int,
) -> Products:
    """Two mirrored units for each product (w_m z)(w_x z'); power: E[z z^T] of what each branch reads."""
    gate, undo = mirrored(w_m, power_m, scale, order)
    size = power_of_two(w_x, power_x)
    index = np.arange(len(w_m))
    return Products(
        gate,
        np.tile(w_x / size[:, None], (2, 1)),
        np.tile(index, 2),
        np.tile(size, 2) * undo,
    )


def mirrored(
    rows: Float[np.ndarray, "products columns"], power: Float[np.ndarray, "columns columns"], scale: float, order: int
) -> tuple[Float[np.ndarray, "units columns"], Float[np.ndarray, " units"]]:
    """The pre-activations b + s a and b - s a, all of the first before all of the second, and what undoes them."""
    size = power_of_two(rows, power)
    small = rows * (scale / size)[:, None]
    gate = np.concatenate([small, -small])
    gate[:, -1] += _BIAS[order]
    undo = size / (2 * _SLOPE[order] * scale)
    return gate, np.concatenate([undo, -undo])


def products(
    w_m: Float[np.ndarray, "products columns"],
    w_x: Float[np.ndarray, "products columns"],
    power: Float[np.ndarray, "columns columns"],
    scale: float,
    order: int,
) -> Products:
    """As `pairs`, both branches reading the same z; a product with a constant is one unit with a gate of exactly 1."""
    constant_m, constant_x = (np.count_nonzero(w[:, :-1], axis=1) == 0 for w in (w_m, w_x))
    exact = constant_m | constant_x
    factor = np.where(constant_m, w_m[:, -1], w_x[:, -1])[:, None]
    passed = (factor * np.where(constant_m[:, None], w_x, w_m))[exact]
    size = power_of_two(passed, power)
    open_gate = np.zeros_like(passed)
    open_gate[:, -1] = SATURATED
    linearised = pairs(w_m[~exact], w_x[~exact], power, power, scale, order)
    return Products(
        np.concatenate([linearised.w_m, open_gate]),
        np.concatenate([linearised.w_x, passed / size[:, None]]),
        np.concatenate([np.flatnonzero(~exact)[linearised.product], np.flatnonzero(exact)]),
        np.concatenate([linearised.weight, size]),
    )


def power_of_two(
    rows: Float[np.ndarray, "rows columns"], power: Float[np.ndarray, "columns columns"]
) -> Float[np.ndarray, " rows"]:
    """The power of two nearest to the root mean square of each row's output, 1 for a row of zeros."""
    square = np.einsum("ij,jk,ik->i", rows, power, rows)
    return 2.0 ** np.round(np.log2(np.where(square > 0, square, 1.0)) / 2)


def with_bias(rows: Float[np.ndarray, "rows columns"], bias: float = 0.0) -> Float[np.ndarray, "rows columns+1"]:
    """The rows with a last column for the appended 1."""
    return np.concatenate([rows, np.full((len(rows), 1), bias)], axis=1)


def with_one(power: Float[np.ndarray, "columns columns"]) -> Float[np.ndarray, "columns+1 columns+1"]:
    """E[z z^T] of (z, 1), for rows that do not read the 1 and z at once."""
    return np.pad(power, (0, 1)) + np.diag(np.eye(len(power) + 1)[-1])


def check_linearisation(scale: Any, order: Any) -> None:
    """`InputError` unless the scale is a positive number (or None) and the order 2 or 4."""
    require(
        scale is None or (isinstance(scale, int | float | np.floating) and bool(0 < scale < math.inf)),
        f"the linearisation scale is {scale!r}; it must be a positive number, or None to have the best one found.",
    )
    require(
        order in _BIAS,
        f"the linearisation has order {order!r}; it can be 2 (the sigmoid about 0) or 4 (where sigma''' = 0).",
    )
