"""Products of orthogonal matrices: each observation turns a hidden vector, and nothing is ever forgotten."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from dualform.errors import require
from dualform.tasks.hmm.affine import carried
from dualform.tasks.hmm.filtering import Form
from dualform.tasks.hmm.source import Drawn, Source


class MatrixProduct(Source):
    """b_t = A[o_t] b_{t-1}, from b_0 = begin; observations are drawn uniformly, whatever the state.

    **Arguments:** matrices: (observation, n, n), orthogonal; begin (n,).

    **Raises:** `InputError` where a matrix is not orthogonal.
    """

    matrices: Float[Array, "observation n n"]
    begin: Float[Array, " n"]
    probabilities = False

    def __check_init__(self):
        require(
            self.matrices.ndim == 3 and self.matrices.shape[1:] == self.begin.shape * 2,
            f"matrices has shape {self.matrices.shape} and begin {self.begin.shape}; they must be (observation, n, n), (n,).",
        )
        if isinstance(self.matrices, Tracer):
            return
        for i, a in enumerate(np.asarray(self.matrices, np.float64)):
            off = float(np.abs(a @ a.T - np.eye(len(a))).max())
            require(
                bool(off < 1e-4),  # what float32 holds
                f"the matrix of observation {i} is not orthogonal, A A^T is off by {off:.3g}: products of such matrices vanish "
                "or grow. Give orthogonal ones, such as those of a QR decomposition.",
            )

    @property
    def d_in(self) -> int:
        """How many observations there are."""
        return len(self.matrices)

    @property
    def states(self) -> int:
        """n."""
        return len(self.begin)

    @property
    def informative(self) -> bool:
        """False: every observation is as likely as any other."""
        return False

    def beliefs(self, tokens: Float[Array, "time d_in"], *, form: Form = "naive") -> Float[Array, "time n"]:
        """b_t after each token."""
        matrices = self.matrices[jnp.argmax(tokens, axis=1)]
        return carried(matrices, jnp.zeros(matrices.shape[:2], matrices.dtype), self.begin, form=form)

    def drawn(self, key: Array, time: int) -> Drawn:
        """A sequence, and the vector after each token."""
        observed = jr.randint(key, (time + 1,), 0, self.d_in, jnp.int32)
        tokens = jax.nn.one_hot(observed, self.d_in, dtype=self.begin.dtype)
        return Drawn(
            tokens[:-1],
            self.beliefs(tokens[:-1]),
            tokens[1:],
            jnp.full((time, self.d_in), 1 / self.d_in, tokens.dtype),
        )


def matrix_product(states: int, observations: int, seed: int, dtype: Any) -> MatrixProduct:
    """Matrices drawn uniformly of all orthogonal ones (Haar), from the first axis.

    **Source:** ours, after what is said in public of the MatMul family of Hu et al. 2024 (arXiv 2406.04089).
    """
    random = np.random.default_rng(seed)
    matrices = []
    for _ in range(observations):
        q, r = np.linalg.qr(random.normal(size=(states, states)))
        matrices.append(q * np.sign(np.diag(r)))
    return MatrixProduct(jnp.asarray(np.stack(matrices), dtype), jnp.asarray(np.eye(states)[0], dtype))
