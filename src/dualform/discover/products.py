"""The fewest products that give a tensor: how many pre-readout units a network needs.

Each pre-readout unit multiplies a combination of memory units by a combination of query units, and the readout spreads
the product over the outputs: a rank-one term of the tensor output x memory x query. The fewest units are the tensor's
rank. Terms are taken away one at a time and the rest refitted, by Levenberg-Marquardt on the tensor itself.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Products(NamedTuple):
    """sum_p outputs_p x memory_p x query_p, and its squared error over the tensor's."""

    outputs: Float[np.ndarray, "terms d_out"]
    memory: Float[np.ndarray, "terms memory"]
    query: Float[np.ndarray, "terms query"]
    error: float

    def picked(self, terms: Int[np.ndarray, " picked"]) -> "Products":
        """Some of the terms; their error is not known yet."""
        return Products(self.outputs[terms], self.memory[terms], self.query[terms], np.inf)


def fewest_products(
    tensor: Float[np.ndarray, "d_out memory query"],
    start: Products,
    tolerance: float,
    rng: np.random.Generator,
    tries: int = 6,
) -> Products:
    """Rank-one terms that give `tensor`, as few as are found.

    **Arguments:**

    - start: terms that give it already (the student's own units), whatever their number.
    - tolerance: squared error over the tensor's squared norm that still counts as given.
    - tries: terms tried for removal, and random starts, before the search ends.

    **Returns:** at least as many terms as the largest rank of the tensor's three flattenings, which no fewer can reach;
    where the count equals it, the count is minimal.
    """
    bound = lower_bound(tensor, tolerance)
    size = np.prod([np.linalg.norm(factor, axis=1) for factor in start[:3]], axis=0)
    few = np.argsort(-size)[: bound + max(3, bound // 2)]
    best = fit_products(tensor, start.picked(few))
    if best.error > tolerance:
        best = fit_products(tensor, start)
    limit = 30 * np.linalg.norm(tensor) ** (1 / 3)  # terms that grow and cancel are no solution
    while len(best.outputs) > bound:
        for trial in _smaller(best, tensor, rng, tries):
            trial = fit_products(tensor, trial)
            if trial.error < tolerance and max(np.abs(factor).max() for factor in trial[:3]) < limit:
                best = trial
                break
        else:
            break
    return best


def lower_bound(tensor: Float[np.ndarray, "d_out memory query"], tolerance: float) -> int:
    """The largest rank of the three flattenings: no fewer rank-one terms give the tensor."""
    least = np.sqrt(tolerance * np.sum(tensor**2))
    flat = lambda mode: np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)
    return max(int(np.sum(np.linalg.svd(flat(mode), compute_uv=False) > least)) for mode in range(3))


def _smaller(best: Products, tensor, rng, tries):
    """Starts with one term less: without each of the cheapest terms, then at random."""
    terms = np.einsum("pi,pj,pk->pijk", *best[:3]).reshape(len(best.outputs), -1)
    gram = terms @ terms.T
    cost = 1 / np.diag(np.linalg.pinv(gram + 1e-9 * np.trace(gram) * np.eye(len(gram))))
    for drop in np.argsort(cost)[:tries]:
        yield best.picked(np.delete(np.arange(len(terms)), drop))
    scale = (np.linalg.norm(tensor) / len(terms)) ** (1 / 3)
    for _ in range(tries):
        a, b, c = (rng.standard_normal((len(terms) - 1, size)) * scale / size**0.5 for size in tensor.shape)
        yield Products(a, b, c, np.inf)


def fit_products(
    tensor: Float[np.ndarray, "d_out memory query"],
    start: Products,
    iterations: int = 300,
    tolerance: float = 1e-26,
    ridge: float = 1e-3,
) -> Products:
    """Fit a fixed number of rank-one terms by Levenberg-Marquardt, from `start`.

    **Arguments:** ridge, weight decay as a share of the relative error, so that it vanishes with the error and keeps
    terms from growing against each other.
    """
    total, damping, best, stale = float(np.sum(tensor**2)), 1e-2, np.inf, 0
    factors, error = _even(start[:3]), np.inf
    for _ in range(iterations):
        factors = _even(factors)
        residual = np.einsum("pi,pj,pk->ijk", *factors, optimize=True) - tensor
        error = float(np.sum(residual**2)) / max(total, 1e-300)
        stale = stale + 1 if error > 0.9 * best else 0
        best = min(best, error)
        if error < tolerance or stale > 40:
            break
        stepped = _step(tensor, factors, residual, ridge * error * total, damping)
        if stepped is None:
            break
        factors, damping = stepped
    a, b, c = factors
    return Products(a, b, c, error)


def _even(factors):
    """The three vectors of each term made equal in norm."""
    norms = [np.linalg.norm(factor, axis=1, keepdims=True) + 1e-300 for factor in factors]
    mean = (norms[0] * norms[1] * norms[2]) ** (1 / 3)
    return [factor / norm * mean for factor, norm in zip(factors, norms, strict=True)]


def _step(tensor, factors, residual, shrink, damping):
    """The first damped step that lowers the error, and the next damping; None where none does."""
    a, b, c = factors
    eye = [np.eye(size) for size in tensor.shape]
    jacobian = np.concatenate(
        [
            np.einsum("li,pj,pk->ijkpl", eye[0], b, c).reshape(tensor.size, -1),
            np.einsum("pi,lj,pk->ijkpl", a, eye[1], c).reshape(tensor.size, -1),
            np.einsum("pi,pj,lk->ijkpl", a, b, eye[2]).reshape(tensor.size, -1),
        ],
        axis=1,
    )
    vector = np.concatenate([factor.ravel() for factor in factors])
    shrink = shrink / (vector @ vector)
    curvature, slope = jacobian.T @ jacobian, jacobian.T @ residual.ravel() + shrink * vector
    mean, before = np.trace(curvature) / vector.size, float(np.sum(residual**2)) + shrink * (vector @ vector)
    cuts = np.cumsum([a.size, b.size])
    for _ in range(10):
        new = vector - np.linalg.solve(curvature + (shrink + damping * mean) * np.eye(vector.size), slope)
        trial = [part.reshape(factor.shape) for part, factor in zip(np.split(new, cuts), factors, strict=True)]
        after = np.sum((np.einsum("pi,pj,pk->ijk", *trial, optimize=True) - tensor) ** 2) + shrink * (new @ new)
        if after < before:
            return trial, max(damping * 0.3, 1e-15)
        damping *= 4
    return None
