"""Associative recall over tokens: pairs of a key and a value, one after the other, then keys that ask for their value."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int

from dualform.errors import require

KEYS, VALUES = "abcdefghijklmnop", "0123456789"
"""The characters of keys and of values: token i is the i-th character of the keys, then of the values."""


class RecallSample(NamedTuple):
    """Sequences of `TokenRecall`.

    - tokens: (batch, time), "k v k v ... k v k v": each key with its value, then keys that were shown, again with theirs.
    - targets: (batch, time), the value that belongs to the key where one asks, -1 elsewhere.
    - sources: (batch, time), where that value was shown, -1 where nothing is asked: the only place that tells it.
    """

    tokens: Int[Array, "batch time"]
    targets: Int[Array, "batch time"]
    sources: Int[Array, "batch time"]


class TokenRecall(eqx.Module):
    """`pairs` keys are shown, each once and followed by its value; then `asked` of them, each once, ask for that value.

    Keys are drawn without replacement, values with it, anew for each sequence. A key that asks is followed by its value, as
    in the text that it is part of; the model predicts it from the key on. For each question there is one true source: the
    token of the value, behind the key's first appearance.

    **Arguments:** pairs, asked: of a sequence, asked at most pairs, and pairs at most 16; batch: sequences of a sample.

    **Raises:** `InputError` where a number is out of range.
    """

    pairs: int = eqx.field(static=True, default=8)
    asked: int = eqx.field(static=True, default=8)
    batch: int = eqx.field(static=True, default=64)

    def __check_init__(self):
        require(
            1 <= self.pairs <= len(KEYS), f"pairs is {self.pairs}; it must be from 1 to {len(KEYS)}, one for each key."
        )
        require(1 <= self.asked <= self.pairs, f"asked is {self.asked}; it must be from 1 to the {self.pairs} pairs.")
        require(self.batch >= 1, f"batch is {self.batch}; it must be at least 1.")

    def sequences(self, key: Array) -> RecallSample:
        """Tokens, targets and true sources."""
        one = jax.vmap(self._sequence)(jr.split(key, self.batch))
        return RecallSample(*one)

    def sample(self, key: Array) -> tuple[Int[Array, "batch time"], Int[Array, "batch time"]]:
        """Tokens and targets, for `training.fit`."""
        drawn = self.sequences(key)
        return drawn.tokens, drawn.targets

    def _sequence(self, key: Array) -> tuple[Array, Array, Array]:
        for_keys, for_values, for_order = jr.split(key, 3)
        keys = jr.permutation(for_keys, len(KEYS))[: self.pairs].astype(jnp.int32)
        values = len(KEYS) + jr.randint(for_values, (self.pairs,), 0, len(VALUES), jnp.int32)
        order = jr.permutation(for_order, self.pairs)[: self.asked].astype(jnp.int32)
        beside = lambda a, b: jnp.stack([a, b], axis=1).reshape(-1)
        nothing = jnp.full(2 * self.pairs, -1, jnp.int32)
        none = nothing[: self.asked]
        tokens = jnp.concatenate([beside(keys, values), beside(keys[order], values[order])])
        targets = jnp.concatenate([nothing, beside(values[order], none)])
        sources = jnp.concatenate([nothing, beside(2 * order + 1, none)])
        return tokens, targets, sources
