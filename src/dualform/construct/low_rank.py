"""The low-rank construction: the smallest gated RNN that we can prove, for any heads, sizes and ranks.

**The function as a tensor.** y_t = sum_{s<=t} T(x_s x_s^T, x_t) with T[o, (ij), l] = sum_h (V_oi C_jl + V_oj C_il) / 2,
a tensor of output x memory form x query form.

**Lower bound on hidden units.** Let a gated RNN compute y. For s < t, the part of y_t that depends on x_s and x_t
together is 2 sum_ij K_ij lam_i^(t-s) F_i(x_s) F_j(x_t), with F the units' inputs and K an output kernel. It must not
depend on t - s, and powers of distinct numbers are linearly independent, so only units i at lam = 1 bring it: the rank
of T flattened to memory x (output, query), here R_M, is at most the number of units at 1. For two past tokens s != s'
the part 2 sum_ij K_ij F_i(x_s) F_j(x_s') over units at 1 must vanish, so among themselves the units at 1 bring nothing
of x_s and x_t together either; and a unit j with 0 < lam_j < 1 would bring K_ij lam_j^k F_i(x_s) F_j(x_{t-k}) at every
lag k, which must vanish for k > 0 and so, the lam distinct, for k = 0. What is left are units j at lam = 0: the rank of
T flattened to query x (output, memory), R_Q, is at most their number. So n >= R_M + R_Q.

**Lower bound on pre-readout units**, where each multiplies a combination of memory units by one of query units: T is
then a sum of m terms of rank one, so m >= R_M.

**One head.** Let r_v = rank V, C = P^T R with r_c = rank C, and c = dim(rowspace V & rowspace P). T's slices are the
forms sym(v k^T), v in rowspace V, k in rowspace P, and span them all. Take bases of the two spaces that share their
first c vectors: the products v_i k_j are independent but for v_i k_j = v_j k_i with i, j <= c. So

    R_M = r_v r_c - c (c - 1) / 2   and   R_Q = r_c,

and each form is a product of two linear forms, which one hidden unit can take in. With one product for each memory unit
(the symmetric product on the shared c x c block, S_ij q_j elsewhere) the bounds are met: n = R_M + R_Q and m = R_M,
both the least possible. At full rank this is the compact construction.

**Many heads.** Memory units are chosen among the products of all heads (at most d (d + 1) / 2, all forms there are),
query units span what is asked (at most d). Without `w_o` each output belongs to one head, so T's slices span those
products and n is again the least possible; with a `w_o` that mixes heads into fewer outputs the slices may span less,
and n is an upper bound. m is the least of the heads' sum and of the ranks of T's slices by output, by query and by
memory, summed; each is exact, none is proven least.
"""

from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dualform.construct.wiring import Wiring, pair_products, symmetric_product

TOLERANCE = 2.5e-13
"""Singular values below this share of the largest, and sines of angles below it, count as 0: less than 1e-12."""


def low_rank(
    output_value: Float[np.ndarray, "head d_out d"],
    key_query: Float[np.ndarray, "head d d"],
    tolerance: float = TOLERANCE,
) -> Wiring:
    """The fewest units that this module's docstring proves, from the circuits of all heads.

    **Arguments:**

    - output_value, key_query: V_h and C_h, as `mixers.circuits.circuits` gives them.
    - tolerance: relative; what counts as rank 0. Raising it trades units for an error of that size.

    **Returns:** the wiring; an attention of zeros keeps one unit of each kind.
    """
    heads = [_one_head(v, c, tolerance) for v, c in zip(output_value, key_query, strict=True)]
    if len(heads) == 1:
        return heads[0]
    joined = _joined(heads, tolerance)
    exact = sum(head.tensor() for head in heads)
    if np.linalg.norm(joined.tensor() - exact) > tolerance * np.linalg.norm(exact):
        joined = _joined(heads, tolerance, every_form=True)  # nearly dependent forms: the whole space is orthonormal
    return _fewest_products(joined, tolerance)


def least_hidden(
    output_value: Float[np.ndarray, "head d_out d"],
    key_query: Float[np.ndarray, "head d d"],
    tolerance: float = TOLERANCE,
) -> tuple[int, int]:
    """(R_M, R_Q): no gated RNN that computes this attention has fewer units at 1 or fewer at 0; see the module."""
    v, c = output_value, key_query
    slices = pair_products(v[:, :, None], c.swapaxes(1, 2)[:, None]).sum(0)
    rank = lambda axis: _rank(np.moveaxis(slices, axis, 0).reshape(slices.shape[axis], -1), tolerance)
    return rank(2), rank(1)


def _rank(matrix: np.ndarray, tolerance: float) -> int:
    singular = np.linalg.svd(matrix, compute_uv=False)
    return int(np.sum(singular > tolerance * singular[0]))


def _thin(matrix: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(left, right) with left @ right = matrix and orthonormal rows of right, as few as its rank, at least one."""
    u, s, w = np.linalg.svd(matrix, full_matrices=False)
    rank = max(int(np.sum(s > tolerance * s[0])), 1)
    return u[:, :rank] * s[:rank], w[:rank]


def _block_diagonal(*blocks: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.linalg.block_diag(*blocks))


def _one_head(v: Float[np.ndarray, "d_out d"], c: Float[np.ndarray, "d d"], tolerance: float) -> Wiring:
    """The least possible wiring of one head, by bases of the two spaces that share what they have in common."""
    write, values = _thin(v, tolerance)
    query, keys = _thin(c.T, tolerance)
    to_values, cosine, to_keys = np.linalg.svd(values @ keys.T)  # principal vectors
    values, write = to_values.T @ values, write @ to_values
    keys, query = to_keys @ keys, (query @ to_keys.T).T
    both = len(cosine)
    sine = np.linalg.norm(keys[:both] - cosine[:, None] * values[:both], axis=1)
    inside = v.shape[1] in (len(values), len(keys))  # one of the spaces is everything: the other lies in it
    shared = both if inside else int(np.sum(sine <= tolerance))
    if len(values) == v.shape[1]:
        values[:shared] = keys[:shared]
    else:
        keys[:shared] = values[:shared]

    product = symmetric_product(shared)
    i, j = (index.ravel() for index in np.indices((len(values), len(keys))))
    apart = (i >= shared) | (j >= shared)
    i, j = i[apart], j[apart]
    return Wiring(
        left=np.concatenate([values[product.rows], values[i]]),
        right=np.concatenate([values[product.columns], keys[j]]),
        query=query,
        read_memory=_block_diagonal(product.read_memory, np.eye(len(i))),
        read_query=np.concatenate(
            [np.pad(product.read_query, ((0, 0), (0, len(keys) - shared))), np.eye(len(keys))[j]]
        ),
        readout=np.concatenate([write[:, :shared] @ product.collect, write[:, i]], axis=1),
    )


def _joined(heads: list[Wiring], tolerance: float, every_form: bool = False) -> Wiring:
    """One memory and one set of queries for all heads: an independent choice among theirs."""
    left, right = (np.concatenate([getattr(head, side) for head in heads]) for side in ("left", "right"))
    forms = pair_products(left, right)
    chosen = np.arange(forms.shape[1])
    if not every_form:
        size = np.linalg.norm(forms, axis=1, keepdims=True)
        pivoted: Any = scipy.linalg.qr((forms / np.where(size == 0, 1, size)).T, mode="r", pivoting=True)
        r, order = pivoted
        pivots = np.abs(np.diag(r))
        chosen = np.sort(order[: max(int(np.sum(pivots > tolerance * pivots[0])), 1)])
    if len(chosen) == forms.shape[1]:
        i, j = np.triu_indices(left.shape[1])
        left, right = np.eye(left.shape[1])[i], np.eye(left.shape[1])[j]
    else:
        left, right = left[chosen], right[chosen]
    coordinates = np.linalg.lstsq(pair_products(left, right).T, forms.T, rcond=None)[0].T
    asked, query = _thin(np.concatenate([head.query for head in heads]), tolerance)
    return Wiring(
        left=left,
        right=right,
        query=query,
        read_memory=_block_diagonal(*[head.read_memory for head in heads]) @ coordinates,
        read_query=_block_diagonal(*[head.read_query for head in heads]) @ asked,
        readout=np.concatenate([head.readout for head in heads], axis=1),
    )


def _fewest_products(wiring: Wiring, tolerance: float) -> Wiring:
    """The same function by the fewest products among: as given, and slice by slice along each axis of its tensor."""
    factors = (wiring.readout.T, wiring.read_memory, wiring.read_query)
    tensor = np.einsum("mo,ma,mb->oab", *factors, optimize=True)
    scale = np.linalg.norm(tensor)
    for axis in range(3):
        slices = np.moveaxis(tensor, axis, 0)
        decomposed = [np.linalg.svd(matrix, full_matrices=False) for matrix in slices]
        kept = [s > tolerance * scale / len(slices) for _, s, _ in decomposed]
        if sum(int(k.sum()) for k in kept) < len(factors[0]):
            index = np.concatenate([np.full(k.sum(), place) for place, k in enumerate(kept)])
            first = np.concatenate([(u * s[None])[:, k].T for (u, s, _), k in zip(decomposed, kept, strict=True)])
            second = np.concatenate([w[k] for (_, _, w), k in zip(decomposed, kept, strict=True)])
            others = [first, second]
            others.insert(axis, np.eye(len(slices))[index])
            factors = tuple(others)
    return wiring._replace(readout=factors[0].T, read_memory=factors[1], read_query=factors[2])
