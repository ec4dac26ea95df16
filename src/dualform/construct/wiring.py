"""The weights of a gated RNN as attention needs them: memory at lam = 1, queries at lam = 0, products of the two."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform.mixers import GatedRNN


class Wiring(NamedTuple):
    """y = D ((A S) * (B q)), with S_a = sum_s (l_a x_s)(r_a x_s) kept at lam = 1 and q_b = (w_b x_t) at lam = 0.

    - left, right: l and r, (memory, d).  query: w, (queries, d).
    - read_memory: A, (m, memory).  read_query: B, (m, queries).  readout: D, (d_out, m).

    Everything is numpy float64: the algebra of a construction is exact to rounding before any dtype is chosen.
    """

    left: Float[np.ndarray, "memory d"]
    right: Float[np.ndarray, "memory d"]
    query: Float[np.ndarray, "queries d"]
    read_memory: Float[np.ndarray, "m memory"]
    read_query: Float[np.ndarray, "m queries"]
    readout: Float[np.ndarray, "d_out m"]

    def rnn(self, dtype: Any = None) -> GatedRNN:
        """The network itself."""
        return GatedRNN(**{name: jnp.asarray(w, dtype or float) for name, w in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """The network's weights by name, in float64; a query passes through its product gate as (w x)(1)."""
        memory, queries, m = len(self.left), len(self.query), len(self.read_memory)
        one = np.zeros((queries, self.query.shape[1] + 1))
        one[:, -1] = 1
        return {
            "w_m_in": np.concatenate([_with_zero(self.left), _with_zero(self.query)]),
            "w_x_in": np.concatenate([_with_zero(self.right), one]),
            "w_m_out": np.concatenate([self.read_memory, np.zeros((m, queries))], axis=1),
            "w_x_out": np.concatenate([np.zeros((m, memory)), self.read_query], axis=1),
            "readout": self.readout,
            "decay": np.concatenate([np.ones(memory), np.zeros(queries)]),
        }

    def tensor(self) -> Float[np.ndarray, "d_out pairs d"]:
        """The function itself: output x memory form x query form, the memory forms in the basis of `pair_products`."""
        memory = self.read_memory @ pair_products(self.left, self.right)
        return np.einsum("om,mp,ml->opl", self.readout, memory, self.read_query @ self.query, optimize=True)


def _with_zero(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d+1"]:
    return np.concatenate([rows, np.zeros((len(rows), 1))], axis=1)


def pair_products(
    left: Float[np.ndarray, "*#rows d"], right: Float[np.ndarray, "*#rows d"]
) -> Float[np.ndarray, "*rows pairs"]:
    """The quadratic forms (l x)(r x) in an orthonormal basis of the symmetric matrices, (rows, d (d + 1) / 2)."""
    i, j = np.triu_indices(left.shape[-1])
    symmetric = (left[..., i] * right[..., j] + left[..., j] * right[..., i]) / 2
    return symmetric * np.where(i == j, 1.0, 2.0**0.5)


class SymmetricProduct(NamedTuple):
    """z = S q for a symmetric S with its c (c + 1) / 2 entries held once, by as many products.

    For i < j one product S_ij (q_i + q_j) serves z_i and z_j; the product (S_ii - sum_{j != i} S_ij) q_i mends z_i.

    - rows, columns: the entries S_ij held, i <= j.
    - read_memory (pairs, pairs), read_query (pairs, c), collect (c, pairs): z = collect ((read_memory S) * (read_query
      q)).
    """

    rows: np.ndarray
    columns: np.ndarray
    read_memory: Float[np.ndarray, "pairs pairs"]
    read_query: Float[np.ndarray, "pairs c"]
    collect: Float[np.ndarray, "c pairs"]


def symmetric_product(c: int) -> SymmetricProduct:
    """The symmetric product for a c x c state; see `SymmetricProduct`."""
    rows, columns = np.triu_indices(c)
    diagonal = rows == columns
    unit = np.eye(c)
    touches = (unit[rows] + unit[columns]) > 0
    read_memory = np.eye(len(rows))
    read_memory[diagonal] -= touches[:, rows[diagonal]].T & ~diagonal[None]
    return SymmetricProduct(rows, columns, read_memory, touches.astype(float), touches.T.astype(float))
