"""The algebra of a gated RNN's weights: every unit's input and every output as a quadratic form, and what they make.

With z = (x, 1), unit i takes in z^T F_i z, and output o is h^T K_o h. Contracted with each other they give the
*effective* tensor of the network: output x memory form x query form. It sees the function alone: units that are
permuted, rescaled, mixed or superfluous leave it as it is.

It stops where units are neither at 1 nor at 0: `recover` weighs those, lag by lag.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dualform.errors import require
from dualform.mixers import GatedRNN


def symmetric_part(left: Float[np.ndarray, "*n k"], right: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n k k"]:
    """(left right^T + right left^T) / 2: the symmetric matrix of the form (left . z)(right . z)."""
    product = left[..., :, None] * right[..., None, :]
    return (product + product.swapaxes(-1, -2)) / 2


def input_forms(rnn: GatedRNN) -> Float[np.ndarray, "n k k"]:
    """The symmetric matrices F: unit i takes in z^T F_i z, z = (x, 1), in float64."""
    return symmetric_part(*(np.asarray(w).astype(np.float64) for w in (rnn.w_m_in, rnn.w_x_in)))


def output_kernels(rnn: GatedRNN) -> Float[np.ndarray, "d_out n n"]:
    """The symmetric matrices K: output o is h^T K_o h, in float64. K_o = sum_j D_oj sym(W_m,j W_x,j^T)."""
    w_m, w_x, readout = (np.asarray(w).astype(np.float64) for w in (rnn.w_m_out, rnn.w_x_out, rnn.readout))
    kernels = np.einsum("oj,ji,jk->oik", readout, w_m, w_x, optimize=True)
    return (kernels + kernels.swapaxes(1, 2)) / 2


def form_basis(k: int) -> Float[np.ndarray, "forms k k"]:
    """An orthonormal basis of the symmetric k x k matrices, k (k + 1) / 2 of them, ordered as `np.triu_indices`."""
    i, j = np.triu_indices(k)
    basis = symmetric_part(np.eye(k)[i], np.eye(k)[j])
    return basis * np.where(i == j, 1.0, 2.0**0.5)[:, None, None]


def form_kinds(k: int) -> Int[np.ndarray, " forms"]:
    """The degree in x of each form of `form_basis(k)`, z = (x, 1): 2, 1 (some x_l times 1) or 0 (the constant)."""
    i, j = np.triu_indices(k)
    return (i < k - 1).astype(int) + (j < k - 1).astype(int)


def form_coordinates(forms: Float[np.ndarray, "n k k"]) -> Float[np.ndarray, "n forms"]:
    """Symmetric matrices in the coordinates of `form_basis`; norms stay as they are."""
    return np.einsum("nij,fij->nf", forms, form_basis(forms.shape[-1]), optimize=True)


class EffectiveTensor(NamedTuple):
    """What units at 1 (S, summed over the past and the present) and at 0 (q, of the present token) make of each other.

    With e(z) the forms of `form_basis(d + 1)`: y_o = sum_ab memory_query[o, a, b] S_a q_b + memory_memory[o, a, b] S_a
    S_b + query_query[o, a, b] q_a q_b, S_a = sum_s e_a(z_s), q_b = e_b(z_t). Attention has the first alone, between the
    degree-2 forms and the linear ones.

    `evidence`: norms of what should be 0, relative to that of `memory_query`. "memory_memory"; "query_query", as a
    function of x_t (forms may cancel there without being 0); "memory_not_quadratic" and "query_not_linear", the parts
    of `memory_query` in forms that attention does not have. They prove the function, given that all other units are at
    1 or 0 exactly; they do not say that the units are few.
    """

    memory_query: Float[np.ndarray, "d_out forms forms"]
    memory_memory: Float[np.ndarray, "d_out forms forms"]
    query_query: Float[np.ndarray, "d_out forms forms"]
    evidence: dict[str, float]

    def attention_block(self) -> Float[np.ndarray, "d_out quadratic d"]:
        """T[o, a, l], the part that attention can have: y_o = sum_al T[o, a, l] S_a x_l over the forms a of degree 2."""
        return attention_block(self.memory_query)


def effective_tensor(rnn: GatedRNN, memory: Any, forget: Any) -> EffectiveTensor:
    """The function of a gated RNN as a tensor, its units at `memory` taken to be at 1 and those at `forget` at 0.

    **Arguments:** memory, forget: indices of hidden units, disjoint; units in neither are left out.

    **Raises:** `InputError` where an index is no unit, or stands in both sets.
    """
    n = len(rnn.w_m_in)
    memory, forget = (np.asarray(index, int).reshape(-1) for index in (memory, forget))
    both = np.concatenate([memory, forget])
    require(
        bool(np.all((both >= 0) & (both < n))),
        f"a unit index lies outside 0 .. {n - 1}; this network has {n} hidden units.",
    )
    require(len(np.unique(both)) == len(both), "a unit stands twice in memory and forget; each remembers or forgets.")
    coordinates, kernels = form_coordinates(input_forms(rnn)), output_kernels(rnn)

    def block(rows, columns):
        kernel = kernels[:, rows[:, None], columns[None]]
        return np.einsum("oij,ia,jb->oab", kernel, coordinates[rows], coordinates[columns], optimize=True)

    memory_query = 2 * block(memory, forget)
    memory_memory, query_query = block(memory, memory), block(forget, forget)
    kinds = form_kinds(rnn.w_m_in.shape[1])
    size = np.linalg.norm(memory_query) or 1.0
    evidence = {
        "memory_memory": np.linalg.norm(memory_memory) / size,
        "query_query": np.linalg.norm(as_function(query_query)) / size,
        "memory_not_quadratic": np.linalg.norm(memory_query[:, kinds != 2]) / size,
        "query_not_linear": np.linalg.norm(memory_query[:, :, kinds != 1]) / size,
    }
    return EffectiveTensor(memory_query, memory_memory, query_query, {name: float(v) for name, v in evidence.items()})


def attention_block(memory_query: Float[np.ndarray, "*o forms forms"]) -> Float[np.ndarray, "*o quadratic d"]:
    """The part of a tensor over `form_basis(d + 1)` that attention can have; query forms in units of x_l.

    A linear form x_l has norm 1 / sqrt(2) as a symmetric matrix, hence the factor.
    """
    kinds = form_kinds(_width(memory_query.shape[-1]))
    return memory_query[..., kinds == 2, :][..., kinds == 1] * 2.0**0.5


def embed_attention_block(block: Float[np.ndarray, "*o quadratic d"]) -> Float[np.ndarray, "*o forms forms"]:
    """The inverse of `attention_block`: zeros where attention has nothing."""
    kinds = form_kinds(block.shape[-1] + 1)
    whole = np.zeros((*block.shape[:-2], len(kinds), len(kinds)))
    whole[..., np.flatnonzero(kinds == 2)[:, None], np.flatnonzero(kinds == 1)[None]] = block / 2.0**0.5
    return whole


def circuit_block(
    output_value: Float[np.ndarray, "head d_out d"], key_query: Float[np.ndarray, "head d d"]
) -> Float[np.ndarray, "d_out quadratic d"]:
    """The block of an attention, T[o, a, l] = sum_h <e_a, sym(V_o C_l^T)>, from its circuits V_h and C_h."""
    i, j = np.triu_indices(key_query.shape[-1])
    weight = np.where(i == j, 0.5, 0.5**0.5)
    both = output_value[:, :, i, None] * key_query[:, None, j] + output_value[:, :, j, None] * key_query[:, None, i]
    return both.sum(0) * weight[None, :, None]


def as_function(block: Float[np.ndarray, "*o forms forms"]) -> Float[np.ndarray, "*o k k k k"]:
    """The quartic sum_ab block[a, b] e_a(z) e_b(z) as a fully symmetric tensor: 0 exactly where the function is 0."""
    k = _width(block.shape[-1])
    basis = form_basis(k)
    tensor = np.einsum("...ab,aij,bkl->...ijkl", block, basis, basis, optimize=True)
    tensor = (tensor + np.einsum("...ijkl->...klij", tensor)) / 2
    return (tensor + np.einsum("...ijkl->...ikjl", tensor) + np.einsum("...ijkl->...ilkj", tensor)) / 3


def _width(forms: int) -> int:
    """k, of k (k + 1) / 2 forms."""
    return round(((8 * forms + 1) ** 0.5 - 1) / 2)
