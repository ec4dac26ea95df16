"""The smallest network that does what a split student does, by algebra on its effective tensor.

With every decay at 0 or 1 a student computes

    y_o = sum_PQ T[o, P, Q] S_P phi_Q  + (memory x memory) + (query x query),

phi the quadratic forms of (x, 1), S their running sum. The ranks of T along its memory and query axes are the numbers
of units that are needed; the rest is redundancy. The reduction itself uses the student's weights and inputs alone; which
directions an ablation does not miss (`least_power`), the teacher's outputs tell.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dualform.discover.forms import form_basis, form_coordinates, input_forms, output_kernels, symmetric_part
from dualform.discover.products import Products, fewest_products
from dualform.discover.units import relative_error_power, targets
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention
from dualform.threads import one_blas_thread
from dualform.training.second_order import Weights, network, weights_of


class Reduced(NamedTuple):
    """The smaller network, and what the reduction threw away, each as a share of the output's power.

    - memory_memory, query_query: parts of the output that attention has no place for.
    - memory_power, query_power: power along each direction of the memory and query axes, largest first: the gap after
      the last one kept is the evidence that the count is no choice of a threshold.
    - product_error: squared error of the pre-readout units' tensor.
    """

    rnn: GatedRNN
    memory_memory: float
    query_query: float
    memory_power: Float[np.ndarray, " memory_forms"]
    query_power: Float[np.ndarray, " query_forms"]
    product_error: float


@one_blas_thread
def reduce(
    rnn: GatedRNN,
    inputs: Float[np.ndarray, "sequence time d"],
    *,
    keep: float,
    product_tolerance: float = 1e-16,
    seed: int = 0,
) -> Reduced:
    """The smallest equivalent of a student whose decays are all 0 or 1.

    **Arguments:**

    - inputs: (sequence, time, d), what power is measured over.
    - keep: directions with less than this share of the output's power are dropped.
    - product_tolerance: squared relative error allowed to the pre-readout units.
    - seed: of the random starts in the search for the fewest pre-readout units.

    **Raises:** `InputError` where a decay is neither 0 nor 1.
    """
    effective = _Effective(rnn, inputs)
    weights, features, one, flat = effective.weights, effective.features, effective.one, effective.flat
    tensor, read = effective.tensor, features.power(effective.weights)
    least = keep * read.total * len(tensor)
    memory_axis, memory_power = _axis(tensor, 1, least)
    query_axis, query_power = _axis(tensor, 2, least)
    require(
        memory_axis.shape[1] > 0 and query_axis.shape[1] > 0,
        "no product of memory and query is left in this student's readout; it does not compute an attention.",
    )
    memory, query = (
        _realise(axis * np.sqrt(power[: axis.shape[1]]), flat[units], whitener, weights.w_m_in.shape[1])
        for axis, power, units, whitener in (
            (memory_axis, memory_power, one, features.memory),
            (query_axis, query_power, ~one, features.query),
        )
    )
    memory_axis, query_axis = (np.linalg.qr(units.coordinates.T)[0] for units in (memory, query))
    core = np.einsum("oPQ,Pr,Qs->ors", tensor, memory_axis, query_axis, optimize=True)
    in_memory, in_query = flat[one] @ features.memory.T @ memory_axis, flat[~one] @ features.query.T @ query_axis
    own = Products(
        np.concatenate([weights.readout.T, weights.readout.T]),
        np.concatenate([weights.w_m_out[:, one] @ in_memory, weights.w_x_out[:, one] @ in_memory]),
        np.concatenate([weights.w_x_out[:, ~one] @ in_query, weights.w_m_out[:, ~one] @ in_query]),
        0.0,
    )
    products = fewest_products(core, own, product_tolerance, np.random.default_rng(seed))
    return Reduced(
        network(_assembled(memory, query, memory_axis, query_axis, products)),
        read.memory_memory / read.total,
        read.query_query / read.total,
        memory_power / (len(tensor) * read.total),
        query_power / (len(tensor) * read.total),
        products.error,
    )


def least_power(
    rnn: GatedRNN,
    attention: LinearAttention,
    inputs: Float[np.ndarray, "sequence time d"],
    most: float,
    spare: float = 0.0,
) -> float | None:
    """The largest `keep` for `reduce` whose directions' ablation leaves the relative loss at `most` or below.

    **Arguments:**

    - inputs: (sequence, time, d), what the ablations are made on; not what the network was trained on.
    - spare: what it may cost beyond `most` to leave out the products that attention has no place for (memory with memory,
      query with query), which a reduction leaves out in any case; an ablation may then cost a tenth of what that leaves.

    **Returns:** a share of the output's power, below which directions do nothing; None where even all of the products of
    memory and query are not enough.
    """
    effective, expected = _Effective(rnn, inputs), targets(attention, inputs)
    memory_axis, memory_power = _axis(effective.tensor, 1, 0.0)
    query_axis, query_power = _axis(effective.tensor, 2, 0.0)
    powers = np.unique(np.concatenate([memory_power, query_power]))[::-1]
    scale = len(effective.tensor) * effective.features.power(effective.weights).total
    left = relative_error_power(effective.features.products(effective.tensor), expected)
    if left > most + spare:
        return None
    most = max(most, 1.1 * left)
    for least in (*powers[powers > 0], 0.0):
        tensor = effective.tensor
        for mode, axis, power in ((1, memory_axis, memory_power), (2, query_axis, query_power)):
            kept = axis[:, power[: axis.shape[1]] > least]
            tensor = np.moveaxis(np.tensordot(tensor, kept @ kept.T, (mode, 0)), -1, mode)
        if relative_error_power(effective.features.products(tensor), expected) <= most:
            return float(least) * (1 + 1e-9) / max(scale, 1e-300)
    return None


class _Effective:
    """The student's tensor T in whitened coordinates of the forms.

    **Raises:** `InputError` where a decay is neither 0 nor 1.
    """

    def __init__(self, rnn: GatedRNN, inputs: Float[np.ndarray, "sequence time d"]):
        self.weights = weights_of(rnn)
        self.one = self.weights.decay == 1
        require(
            bool(np.all(self.one | (self.weights.decay == 0))),
            "reduction by the effective tensor needs every decay at exactly 0 or 1; settle the decays first.",
        )
        self.features, self.flat = _Features(inputs), form_coordinates(input_forms(rnn))
        cross = output_kernels(rnn)[:, self.one][:, :, ~self.one]
        memory, query = self.flat[self.one] @ self.features.memory.T, self.flat[~self.one] @ self.features.query.T
        self.tensor = 2 * np.einsum("oab,aP,bQ->oPQ", cross, memory, query, optimize=True)


class _Power(NamedTuple):
    total: float
    memory_memory: float
    query_query: float


class _Features:
    """Second moments of the running sums S and the forms phi over some inputs, as square roots: |W c|^2 = E[(c.S)^2].

    A direction that no input shows (one-hot tokens have no products) is still a part of the function: it is weighed as
    those that are seen are on average, so that both roots can be inverted.
    """

    def __init__(self, inputs: Float[np.ndarray, "sequence time d"]):
        x = np.asarray(inputs, np.float64)
        self.z = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
        i, j = np.triu_indices(self.z.shape[-1])
        self.phi = self.z[..., i] * self.z[..., j] * np.where(i == j, 1.0, 2**0.5)
        self.sums = np.cumsum(self.phi, axis=1)
        self.memory, self.query = _root(self.sums), _root(self.phi)

    def products(self, tensor: Float[np.ndarray, "d_out forms forms"]) -> Float[np.ndarray, "sequence time d_out"]:
        """sum_PQ tensor[o, P, Q] S_P phi_Q on the inputs, the tensor in whitened coordinates."""
        plain = np.einsum(
            "oPQ,Pa,Qb->oab", tensor, np.linalg.inv(self.memory).T, np.linalg.inv(self.query).T, optimize=True
        )
        return np.einsum("oab,sta,stb->sto", plain, self.sums, self.phi, optimize=True)

    def power(self, weights: Weights) -> _Power:
        """Mean squared output, whole and of the two parts that attention has no place for."""
        one = weights.decay == 1
        read = lambda h: ((h @ weights.w_m_out.T) * (h @ weights.w_x_out.T)) @ weights.readout.T
        drive = (self.z @ weights.w_m_in.T) * (self.z @ weights.w_x_in.T)
        h = np.where(one, np.cumsum(drive, axis=1), drive)
        mean = lambda part: float(np.mean(read(np.where(part, h, 0.0)) ** 2))
        return _Power(mean(np.ones_like(one)), mean(one), mean(~one))


def _root(features: Float[np.ndarray, "sequence time forms"]) -> Float[np.ndarray, "forms forms"]:
    """The symmetric root of the features' second moments, directions that are never seen at the mean of the others."""
    flat = features.reshape(-1, features.shape[-1])
    size, directions = np.linalg.svd(flat / len(flat) ** 0.5, full_matrices=False)[1:]
    if len(size) < flat.shape[1]:
        size, directions = np.zeros(flat.shape[1]), np.linalg.svd(flat)[2]
    seen = size > 1e-7 * max(size[0], 1e-300)
    size = np.where(seen, size, np.sqrt(np.mean(size[seen] ** 2)) if seen.any() else 1.0)
    return (directions.T * size) @ directions


def _axis(tensor, mode: int, least: float):
    """An orthonormal basis of the directions along one axis with power above `least`, and every direction's power."""
    u, s, _ = np.linalg.svd(np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1), full_matrices=False)
    return u[:, s**2 > least], s**2


class _Units(NamedTuple):
    """Input gates of units, and their forms in whitened coordinates."""

    w_m: Float[np.ndarray, "units columns"]
    w_x: Float[np.ndarray, "units columns"]
    coordinates: Float[np.ndarray, "units forms"]


def _realise(
    directions: Float[np.ndarray, "forms rank"],
    candidates: Float[np.ndarray, "units forms"],
    whitener: Float[np.ndarray, "forms forms"],
    columns: int,
    sweeps: int = 200,
) -> _Units:
    """Units, each a product of two linear functions, whose forms span some directions, as well as products can.

    A unit's form has one positive and one negative eigenvalue at the most. The student's own units are projected on the
    directions and on the products in turn, until they lie in both; pivoted QR then picks independent ones.

    **Arguments:** directions: orthogonal, each of the size that it counts for.
    """
    back, pairs, basis = np.linalg.pinv(whitener), [], form_basis(columns)
    axis = directions / np.linalg.norm(directions, axis=0)
    for form in candidates:
        a = b = np.zeros(0)
        for _ in range(sweeps):
            inside = back @ (axis @ (axis.T @ (whitener @ form)))
            if not np.linalg.norm(inside) > 1e-12:
                break
            a, b = _nearest_product(inside, basis)
            form = form_coordinates(symmetric_part(a, b)[None])[0]
            if np.linalg.norm(form - inside) < 1e-13 * np.linalg.norm(inside):
                break
        size = np.linalg.norm(whitener @ form)
        if len(a) and size > 1e-12:
            pairs.append((a / size**0.5, b / size**0.5))
    w_m, w_x = (np.array(side) for side in zip(*pairs, strict=True))
    coordinates = form_coordinates(symmetric_part(w_m, w_x)) @ whitener.T
    pivoted: Any = scipy.linalg.qr(axis.T @ coordinates.T, pivoting=True, mode="economic")
    order = pivoted[2][: axis.shape[1]]
    return _fitted(w_m[order], w_x[order], directions, whitener)


def _fitted(
    a: Float[np.ndarray, "units columns"],
    b: Float[np.ndarray, "units columns"],
    directions: Float[np.ndarray, "forms rank"],
    whitener: Float[np.ndarray, "forms forms"],
    sweeps: int = 50,
) -> _Units:
    """The units moved to where they give the directions best, large ones first: alternating least squares.

    A direction of a trained student is no sum of products exactly; what it is off by must not fall on the largest.
    """
    basis, best, best_error = form_basis(a.shape[1]), (a, b), np.inf
    coordinates = lambda a, b: form_coordinates(symmetric_part(a, b)) @ whitener.T
    for _ in range(sweeps):
        for side in range(2):
            forms = coordinates(a, b)
            mixture = np.linalg.lstsq(forms.T, directions, rcond=None)[0]
            error = float(np.sum((forms.T @ mixture - directions) ** 2))
            if side == 0:
                if not error < 0.99 * best_error or error < 1e-28 * np.sum(directions**2):
                    return _Units(*best, coordinates(*best))
                best, best_error = (a, b), error
            by_entry = np.einsum("Pf,fmn,in->iPm", whitener, basis, b if side == 0 else a, optimize=True)
            design = np.einsum("ik,iPm->Pkim", mixture, by_entry).reshape(directions.size, -1)
            moved = np.linalg.lstsq(design, directions.ravel(), rcond=1e-12)[0].reshape(a.shape)
            a, b = (moved, b) if side == 0 else (a, moved)
    return _Units(*best, coordinates(*best))


def _nearest_product(form: Float[np.ndarray, " forms"], basis: Float[np.ndarray, "forms k k"]):
    """Vectors a, b whose symmetric product is nearest to the form: made of its top positive and negative parts."""
    values, vectors = np.linalg.eigh(np.einsum("f,fij->ij", form, basis))
    positive, negative = max(values[-1], 0) ** 0.5 * vectors[:, -1], max(-values[0], 0) ** 0.5 * vectors[:, 0]
    return positive + negative, positive - negative


def _assembled(memory: _Units, query: _Units, memory_axis, query_axis, products: Products) -> Weights:
    """The network of these units and products: W_m reads the units at 1, W_x those at 0."""
    r, s, m = len(memory.w_m), len(query.w_m), len(products.outputs)
    u = products.memory @ np.linalg.pinv(memory.coordinates @ memory_axis)
    w = products.query @ np.linalg.pinv(query.coordinates @ query_axis)
    return Weights(
        np.concatenate([np.ones(r), np.zeros(s)]),
        np.concatenate([memory.w_m, query.w_m]),
        np.concatenate([memory.w_x, query.w_x]),
        np.concatenate([u, np.zeros((m, s))], axis=1),
        np.concatenate([np.zeros((m, r)), w], axis=1),
        products.outputs.T,
    )
