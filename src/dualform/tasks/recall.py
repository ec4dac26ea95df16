"""Associative recall: pairs of a key and a value are shown, then a key is asked for its value."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from dualform.counts import key_of
from dualform.errors import require
from dualform.tasks.in_context import last_output, tokens


class AssociativeRecall(eqx.Module):
    """Sequences of `pairs` tokens (key, value), then the query (key, 0); the target is the id of the value it was shown with.

    Keys are drawn without replacement, values with it, from two vocabularies of the same size. The binding is drawn anew for
    each sequence: nothing but the sequence tells it. A pair is one token, since a single layer without a convolution can
    not join two; this deviates from the benchmarks in which key and value follow each other.

    **Arguments:**

    - vocabulary: how many keys, and how many values, there are.  pairs: shown in a sequence.
    - embedding: "one_hot", or "random": fixed Gaussian vectors of width `width` and norm 1, the same in every sequence.
    - width: of a random embedding; a one-hot's is the vocabulary.
    - batch: sequences of a sample.  seed: of the random embeddings.

    **Raises:** `InputError` where a size is out of range, there are more pairs than keys, or the embedding is unknown.
    """

    vocabulary: int = eqx.field(static=True, default=16)
    pairs: int = eqx.field(static=True, default=8)
    embedding: str = eqx.field(static=True, default="one_hot")
    width: int | None = eqx.field(static=True, default=None)
    batch: int = eqx.field(static=True, default=64)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        for name, least in (("vocabulary", 2), ("pairs", 1), ("batch", 1)):
            require(getattr(self, name) >= least, f"{name} is {getattr(self, name)}; it must be at least {least}.")
        require(
            self.pairs <= self.vocabulary,
            f"pairs is {self.pairs}, more than the {self.vocabulary} keys there are; a key is shown once. Raise vocabulary.",
        )
        require(
            self.embedding in ("one_hot", "random"),
            f"there is no embedding {self.embedding!r}; there are one_hot and random.",
        )
        require(
            (self.width is None) == (self.embedding == "one_hot"),
            "give a width with random embeddings, and none with one_hot, whose width is the vocabulary.",
        )
        require(self.width is None or self.width >= 1, f"width is {self.width}; it must be at least 1.")

    @property
    def d(self) -> int:
        """Width of a token: a key's and a value's."""
        return 2 * (self.vocabulary if self.width is None else self.width)

    def embeddings(self) -> Float[Array, "2 vocabulary d_half"]:
        """Of the keys and of the values."""
        if self.width is None:
            return jnp.broadcast_to(jnp.eye(self.vocabulary)[None], (2, self.vocabulary, self.vocabulary))
        drawn = jr.normal(key_of(self.seed), (2, self.vocabulary, self.width))
        return drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)

    def sample(self, key: Array) -> tuple[Float[Array, "batch time d"], Int[Array, " batch"]]:
        """Tokens, `pairs` + 1 of them, and the id of the value that is asked for."""
        for_keys, for_values, for_query = jr.split(key, 3)
        order = lambda key: jr.permutation(key, self.vocabulary)[: self.pairs]
        keys = jax.vmap(order)(jr.split(for_keys, self.batch))
        values = jr.randint(for_values, (self.batch, self.pairs), 0, self.vocabulary)
        asked = jr.randint(for_query, (self.batch, 1), 0, self.pairs)
        pick = lambda ids: jnp.take_along_axis(ids, asked, axis=1)
        of_keys, of_values = self.embeddings()
        return tokens(of_keys[jnp.concatenate([keys, pick(keys)], axis=1)], of_values[values]), pick(values)[:, 0]


def recall_loss(model: Any, x: Float[Array, "batch time d"], y: Int[Array, " batch"]) -> Float[Array, ""]:
    """The cross-entropy of the last output, read as one logit for each value, in nats; `training.fit(loss=...)` takes it."""
    logits = jax.nn.log_softmax(last_output(model, x))
    return -jnp.mean(jnp.take_along_axis(logits, y[:, None], axis=1))


def recall_accuracy(model: Any, x: Float[Array, "batch time d"], y: Int[Array, " batch"]) -> Float[Array, ""]:
    """The share of sequences whose largest logit is the value asked for."""
    return jnp.mean((jnp.argmax(last_output(model, x), axis=1) == y).astype(x.dtype))
