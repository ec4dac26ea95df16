"""Sequences of which a rule is known in part: a map that each has of its own, mostly followed, and its exact next-token law."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

SYMBOLS = 3
FOLLOWS = 0.8
"""How often a symbol is what the map says; otherwise it is drawn from `OTHERWISE`."""

OTHERWISE = (0.7, 0.2, 0.1)


@functools.partial(jax.jit, static_argnums=(1, 2))
def drawn(key: Array, batch: int, time: int) -> Int[Array, "batch time"]:
    """Sequences: f is uniform over all maps of symbols to symbols, x_1 over symbols; x_{t+1} is f(x_t), or of `OTHERWISE`."""
    keys = jr.split(key, 4)
    maps = jr.randint(keys[0], (batch, SYMBOLS), 0, SYMBOLS, jnp.int32)
    first = jr.randint(keys[1], (batch,), 0, SYMBOLS, jnp.int32)
    followed = jr.bernoulli(keys[2], FOLLOWS, (time - 1, batch))
    others = jr.choice(keys[3], SYMBOLS, (time - 1, batch), p=jnp.asarray(OTHERWISE)).astype(jnp.int32)

    def step(x: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        follows, other = now
        x = jnp.where(follows, jnp.take_along_axis(maps, x[:, None], axis=1)[:, 0], other)
        return x, x

    _, rest = jax.lax.scan(step, first, (followed, others))
    return jnp.concatenate([first[None], rest]).T


def predictive(tokens: Int[np.ndarray, "batch time"]) -> Float[np.ndarray, "batch time symbols"]:
    """p(x_{t+1} | x_1, ..., x_t), exactly.

    Rows of the map are independent, and that of symbol a says b with a probability in proportion to
    ((p + (1 - p) q_b) / ((1 - p) q_b))^n_ab, of the n_ab times that b has followed a.
    """
    q = np.asarray(OTHERWISE)
    evidence = np.log((FOLLOWS + (1 - FOLLOWS) * q) / ((1 - FOLLOWS) * q))
    batch, time = tokens.shape
    rows = np.arange(batch)
    seen = np.zeros((batch, SYMBOLS, SYMBOLS))
    found = np.zeros((batch, time, SYMBOLS))
    for t in range(time):
        if t:
            seen[rows, tokens[:, t - 1], tokens[:, t]] += 1
        logits = seen[rows, tokens[:, t]] * evidence
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        found[:, t] = FOLLOWS * weights / weights.sum(axis=1, keepdims=True) + (1 - FOLLOWS) * q
    return found


def entropy(p: Float[np.ndarray, "batch time symbols"]) -> float:
    """The mean of -sum p log p, in nats: the floor of every predictor's cross-entropy."""
    return float(np.mean(-np.sum(p * np.log(p), axis=-1)))


def excess(p: Float[np.ndarray, "batch time symbols"], logits: Float[np.ndarray, "batch time symbols"]) -> float:
    """The mean of sum p (log p - log softmax(logits)), in nats: by how much a predictor's cross-entropy is above the floor.

    Infinite where a logit is not finite.
    """
    if not np.all(np.isfinite(logits)):
        return float("inf")
    logits = np.asarray(logits, np.float64)
    top = logits - logits.max(axis=-1, keepdims=True)
    log_q = top - np.log(np.sum(np.exp(top), axis=-1, keepdims=True))
    return float(np.mean(np.sum(p * (np.log(p) - log_q), axis=-1)))


def without_context() -> Float[np.ndarray, " symbols"]:
    """Logits of a predictor that looks at nothing: what f may say, each as likely, or what else is drawn."""
    return np.log(FOLLOWS / SYMBOLS + (1 - FOLLOWS) * np.asarray(OTHERWISE))
