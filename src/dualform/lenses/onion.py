"""Sequences that one vector holds in layers: each token's embedding at the scale of its place.

    h = sum_p g(p) * E[x_p],    g(p) = w * gamma^p + a p + b,  entry by entry

Peeled off from the largest scale on, each layer shows the next one: so nine tokens can lie in the same directions, and no linear
subspace holds one of them. With gamma^p alone, g is what the recurrence h_t = gamma^-1 * h_{t-1} + E[x_t] makes up to a factor: a
row of its dual form.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.errors import require

GAMMAS = np.arange(1, 100) / 100.0
"""Those that `Onion.explaining` chooses from."""


class Onion(eqx.Module):
    """Embeddings, and the scale of each place.

    **Arguments:** embedding: E, (vocabulary, n); gamma, w, a, b: (n,), of g(p) = w * gamma^p + a p + b, with p counted from 0.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Csordás et al. 2024 (arXiv 2408.10920), whose interventions have this g; E is used as it is here, where theirs
    goes through a tanh.
    """

    embedding: Float[Array, "vocabulary n"]
    gamma: Float[Array, " n"]
    w: Float[Array, " n"]
    a: Float[Array, " n"]
    b: Float[Array, " n"]

    def __check_init__(self):
        require(self.embedding.ndim == 2, f"embedding has shape {self.embedding.shape}; it must be (vocabulary, n).")
        n = self.embedding.shape[1]
        for name in ("gamma", "w", "a", "b"):
            shape = getattr(self, name).shape
            require(shape == (n,), f"{name} has shape {shape}; it must be ({n},), as wide as the embedding.")

    @classmethod
    def make(cls, vocabulary: int, n: int, *, key: Array, gamma: float = 0.9, dtype=None) -> "Onion":
        """A small random embedding, and g(p) = gamma^p: where training may begin."""
        dtype = dtype or float
        embedding = jr.normal(key, (vocabulary, n), dtype) / n**0.5
        zeros = jnp.zeros(n, dtype)
        return cls(embedding, jnp.full(n, gamma, dtype), zeros + 1, zeros, zeros)

    @classmethod
    def explaining(cls, added: Float[np.ndarray, "time vocabulary n"]) -> "Onion":
        """The onion that is nearest to what each token at each place adds to a vector, in closed form.

        Entry by entry, scales and embedding are the best product g(p) E[x], by a singular value decomposition; then w, a and b
        are least squares at each gamma of a grid, of which the best one stays. Exact where there is an onion whose gammas are of
        the grid; training may begin there.

        **Arguments:** added: as of `token_effects`.
        """
        u, s, v = np.linalg.svd(np.moveaxis(np.asarray(added, np.float64), -1, 0), full_matrices=False)
        sign = np.where(u[:, :, 0].sum(1) < 0, -1.0, 1.0)[:, None]
        scales, embedding = (u[:, :, 0] * sign).T, (v[:, 0] * s[:, :1] * sign).T
        places = np.arange(len(scales), dtype=np.float64)
        shapes = [np.stack([gamma**places, places, np.ones_like(places)], axis=1) for gamma in GAMMAS]
        found = np.stack([np.linalg.lstsq(shape, scales, rcond=None)[0] for shape in shapes])
        wrong = np.sum(np.square(np.stack(shapes) @ found - scales[None]), axis=1)
        best = np.argmin(wrong, axis=0)
        w, a, b = found[best, :, np.arange(scales.shape[1])].T
        single = lambda x: jnp.asarray(x, jnp.float32)
        return cls(single(embedding), single(GAMMAS[best]), single(w), single(a), single(b))

    def scale(self, place: Int[Array, ""] | int) -> Float[Array, " n"]:
        """g(place)."""
        p = jnp.asarray(place, self.gamma.dtype)
        return self.w * self.gamma**p + self.a * p + self.b

    def layer(self, token: Int[Array, ""] | int, place: Int[Array, ""] | int) -> Float[Array, " n"]:
        """g(place) * E[token]: what one token adds to the vector."""
        return self.scale(place) * self.embedding[token]

    def stored(self, tokens: Int[Array, " time"]) -> Float[Array, " n"]:
        """The vector that holds these tokens, the first one at place 0."""
        return jnp.sum(jax.vmap(self.layer)(tokens, jnp.arange(len(tokens))), axis=0)

    def exchanged(
        self,
        h: Float[Array, " n"],
        place: Int[Array, ""] | int,
        old: Int[Array, ""] | int,
        new: Int[Array, ""] | int,
    ) -> Float[Array, " n"]:
        """A vector with the layer of one place taken off, and another token's put in its place."""
        return h + self.scale(place) * (self.embedding[new] - self.embedding[old])


def token_effects(
    h: Float[np.ndarray, "row n"], tokens: Int[np.ndarray, "row time"], vocabulary: int
) -> Float[np.ndarray, "time vocabulary n"]:
    """What each token at each place adds to a vector, less what tokens add there in the mean: least squares.

    **Arguments:** tokens: those that each vector holds, from 0 on; below 0 where there is none.

    **Returns:** zeros for a token that never stands at a place.
    """
    h, tokens = np.asarray(h, np.float64), np.asarray(tokens)
    time, n = tokens.shape[1], h.shape[1]
    rows = np.zeros((len(h), time * vocabulary), np.float32)
    row, place = np.nonzero(tokens >= 0)
    rows[row, place * vocabulary + tokens[row, place]] = 1.0
    counts = np.asarray(rows.T @ rows, np.float64)
    found = np.linalg.lstsq(counts, rows.T @ h, rcond=None)[0].reshape(time, vocabulary, n)
    seen = np.diag(counts).reshape(time, vocabulary, 1) > 0
    mean = np.sum(found * seen, axis=1, keepdims=True) / np.maximum(np.sum(seen, axis=1, keepdims=True), 1)
    return np.where(seen, found - mean, 0.0)
