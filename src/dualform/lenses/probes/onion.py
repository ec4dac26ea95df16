"""A probe that peels: it reads the layer that shows, takes it off, and reads the next one."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.arrays import affine
from dualform.errors import require
from dualform.lenses.onion import Onion, token_effects
from dualform.lenses.probes.example_rows import check_finite
from dualform.mixers.fresh import uniform_affine
from dualform.training.config import FitConfig
from dualform.training.fitting import fit


class OnionProbe(eqx.Module):
    """logits_p = W_2 relu(W_1 norm(h_p) + b_1) + b_2,  h_{p+1} = h_p - g(p) * E[token_p],  norm to mean 0 and deviation 1.

    **Arguments:** onion: g and E; w_1 (n, n), b_1 (n,); w_2 (vocabulary, n), b_2 (vocabulary,).

    **Source:** Csordás et al. 2024 (arXiv 2408.10920) and its public code; there the norm has weights, too.
    """

    onion: Onion
    w_1: Float[Array, "n n"]
    b_1: Float[Array, " n"]
    w_2: Float[Array, "vocabulary n"]
    b_2: Float[Array, " vocabulary"]

    @classmethod
    def make(cls, vocabulary: int, n: int, *, key: Array, dtype=None) -> "OnionProbe":
        """A probe to be trained."""
        keys, dtype = jr.split(key, 3), dtype or float
        onion = Onion.make(vocabulary, n, key=keys[0], dtype=dtype)
        return cls(onion, *uniform_affine(keys[1], n, n, dtype), *uniform_affine(keys[2], vocabulary, n, dtype))

    def read(self, h: Float[Array, " n"]) -> Float[Array, " vocabulary"]:
        """The logits of the layer that shows."""
        centred = h - jnp.mean(h)
        normed = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred)) + 1e-5)
        hidden = jax.nn.relu(affine(normed[None], self.w_1, self.b_1))
        return affine(hidden, self.w_2, self.b_2)[0]

    def told(self, h: Float[Array, " n"], tokens: Int[Array, " time"]) -> Float[Array, "time vocabulary"]:
        """The logits at each place, where every layer before it was taken off as the token that it is: for training."""
        layers = jax.vmap(self.onion.layer)(tokens, jnp.arange(len(tokens)))
        taken = jnp.cumsum(layers, axis=0) - layers
        return jax.vmap(lambda off: self.read(h - off))(taken)

    def peeled(self, h: Float[Array, " n"], count: int) -> Int[Array, " count"]:
        """So many tokens, each the likeliest one, which is then taken off."""

        def one(h, place):
            token = jnp.argmax(self.read(h)).astype(jnp.int32)
            return h - self.onion.layer(token, place), token

        return jax.lax.scan(one, h, jnp.arange(count, dtype=jnp.int32))[1]


class Rows(eqx.Module):
    """Batches of rows drawn from arrays, each as likely as any other: what `fit` calls with a key."""

    x: Float[Array, "row n"]
    labels: Int[Array, "row time"]
    size: int = eqx.field(static=True, default=64)

    def __call__(self, key: Array) -> tuple[Array, Array]:
        """Some rows and their labels."""
        rows = jr.randint(key, (self.size,), 0, len(self.x))
        return self.x[rows], self.labels[rows]


def told_loss(probe: Any, h: Float[Array, "batch n"], tokens: Int[Array, "batch time"]) -> Float[Array, ""]:
    """-log p of every token, the mean over those that are there (0 or above); a loss for `fit`."""
    there = tokens >= 0
    wanted = jnp.where(there, tokens, jnp.zeros_like(tokens))
    logp = jax.nn.log_softmax(jax.vmap(probe.told)(h, wanted))
    chosen = jnp.take_along_axis(logp, wanted[..., None], axis=-1)[..., 0]
    total = jnp.sum(jnp.where(there, chosen, jnp.zeros_like(chosen)))
    return -total / jnp.maximum(jnp.sum(there), 1).astype(chosen.dtype)


def fit_onion(
    x: Float[Array | np.ndarray, "row n"],
    labels: Int[Array | np.ndarray, "row time"],
    *,
    seed: int = 0,
    steps: int = 2000,
) -> tuple[OnionProbe, Callable[[Float[np.ndarray, "row n"]], Int[np.ndarray, "row time"]]]:
    """A probe of the tokens that each row holds, trained on rows of activations; what it peels off begins in closed form.

    **Arguments:** labels: the tokens in the order in which they are peeled, below 0 behind the last.

    **Returns:** the probe, and activations -> the tokens that it peels off, (row, time).

    **Raises:** `InputError` where the shapes do not fit, a row has no token, or an activation is no number.
    """
    x, labels = np.asarray(x, np.float64), np.asarray(labels, np.int32)
    require(
        x.ndim == labels.ndim == 2 and len(x) == len(labels) >= 1,
        f"activations have shape {x.shape} and labels {labels.shape}; give (row, n) and (row, time).",
    )
    require(bool((labels[:, 0] >= 0).all()), "a row has no token to be peeled off; give each at least one.")
    check_finite(x)
    single = lambda x: jnp.asarray(x, jnp.float32)
    vocabulary = int(labels.max()) + 1
    probe = OnionProbe.make(vocabulary, x.shape[1], key=jr.key(seed), dtype=jnp.float32)
    first = Onion.explaining(token_effects(x, labels, vocabulary))
    probe = eqx.tree_at(lambda probe: probe.onion, probe, first)
    config = FitConfig(steps=steps, chunk=steps, warmup=steps // 20, learning_rate=5e-3, weight_decay=0.1, seed=seed)
    fitted = fit(probe, Rows(single(x), jnp.asarray(labels)), config, loss=told_loss).model
    count = labels.shape[1]
    return fitted, lambda x: np.asarray(_peeled(fitted, single(x), count))


@eqx.filter_jit
def _peeled(probe: OnionProbe, h: Float[Array, "row n"], count: int) -> Int[Array, "row time"]:
    return jax.vmap(lambda h: probe.peeled(h, count))(h)
