"""Orthogonal subspaces of activations or states, one for each of several variables: what of one run is put into another's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.errors import require


class Subspaces(eqx.Module):
    """A basis that is turned as training finds it, each of whose directions belongs to one variable, or to none.

    The basis is the orthogonal factor of `turned` = Q R. Direction c belongs to the variable with the largest of
    `belongs`[c]; the last stands for none.

    **Arguments:** turned (n, n); belongs (n, variables + 1).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** distributed alignment search (Geiger et al. 2024, arXiv 2303.02536), with the learned assignment of directions
    of Csordás et al. 2024 (arXiv 2408.10920).
    """

    turned: Float[Array, "n n"]
    belongs: Float[Array, "n variables_and_none"]

    def __check_init__(self):
        n = len(self.turned)
        require(self.turned.shape == (n, n), f"turned has shape {self.turned.shape}; it must be square.")
        require(
            self.belongs.ndim == 2 and len(self.belongs) == n and self.belongs.shape[1] >= 2,
            f"belongs has shape {self.belongs.shape}; it must be ({n}, variables + 1), of at least one variable.",
        )

    @classmethod
    def make(cls, n: int, variables: int, *, key: Array, dtype=None) -> "Subspaces":
        """A random basis, whose directions belong to nobody in particular."""
        turned, belongs = jr.split(key)
        dtype = dtype or float
        return cls(jr.normal(turned, (n, n), dtype), 0.01 * jr.normal(belongs, (n, variables + 1), dtype))

    @classmethod
    def explaining(
        cls, h: Float[np.ndarray, "row n"], labels: Int[np.ndarray, "row label"], ngram: int = 1
    ) -> "Subspaces":
        """For each variable the directions that explain most of what is remembered of it, in closed form.

        C_p is the covariance of the mean of h given label p, summed over the labels of a variable. Each variable has the
        n // variables leading eigenvectors of its own; all together are brought to the nearest orthonormal basis. Exact where
        variables have orthogonal subspaces of as many directions; training may begin there.

        **Arguments:** h: what is remembered; labels: whole numbers, what each of it is made of; ngram: how many neighbouring
        labels a variable is of, from the first on.
        """
        h, labels = np.asarray(h, np.float64), np.asarray(labels)
        effects = []
        for column in labels.T:
            rows = np.eye(column.max() + 1)[column]
            means = (rows.T @ (h - h.mean(0))) / np.maximum(rows.sum(0), 1)[:, None]
            effects.append((means * rows.mean(0)[:, None]).T @ means)
        n, count = h.shape[1], len(effects) - ngram + 1
        of_each = max(1, n // count)
        leading = [np.linalg.eigh(sum(effects[i : i + ngram]))[1][:, -of_each:] for i in range(count)]
        u, _, v = np.linalg.svd(np.concatenate(leading, 1)[:, :n], full_matrices=True)
        own = min(n, count * of_each)
        basis = np.concatenate([u[:, :own] @ v[:own], u[:, own:]], 1)
        belongs = np.where(np.arange(count + 1)[None] == np.minimum(np.arange(n) // of_each, count)[:, None], 4.0, 0.0)
        return cls(jnp.asarray(basis, jnp.float32), jnp.asarray(belongs, jnp.float32))

    @property
    def variables(self) -> int:
        """How many variables there are."""
        return self.belongs.shape[1] - 1

    def basis(self) -> Float[Array, "n n"]:
        """The directions, orthonormal columns."""
        return jnp.linalg.qr(self.turned)[0]

    def chosen(self) -> Int[Array, " n"]:
        """The variable that each direction belongs to; `variables` for none."""
        return jnp.argmax(self.belongs, axis=1).astype(jnp.int32)

    def of(self, variable: int) -> Float[Array, "n k"]:
        """The directions of one variable; a concrete call, outside of `jax.jit`."""
        return self.basis()[:, self.chosen() == variable]

    def exchanged(
        self,
        base: Float[Array, " n"],
        source: Float[Array, " n"],
        moved: Bool[Array, " variables"],
        noise: Float[Array, "n variables_and_none"] | None = None,
    ) -> Float[Array, " n"]:
        """`base` with what `source` has in the subspaces of the variables that are moved.

        **Arguments:** noise: of Gumbel, added to `belongs`, so that the assignment can be learnt: what goes on is the choice,
        its gradient that of a softmax. None where it is not learnt.
        """
        basis, logits = self.basis(), self.belongs if noise is None else self.belongs + noise
        hard = jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1], dtype=basis.dtype)
        if noise is not None:
            soft = jax.nn.softmax(logits, axis=1)
            hard = hard + soft - jax.lax.stop_gradient(soft)
        share = hard[:, :-1] @ moved.astype(basis.dtype)
        return base + basis @ (share * (basis.T @ (source - base)))
