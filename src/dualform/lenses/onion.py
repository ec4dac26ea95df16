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
from jaxtyping import Array, Float, Int

from dualform.errors import require


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
