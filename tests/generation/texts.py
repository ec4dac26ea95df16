"""Small language models of every family, and sessions in which they read and write."""

import functools
from typing import Any

import jax
import jax.random as jr
import numpy as np

from dualform import models
from dualform.generation import Session, bounded
from tests.laws import laws

VOCABULARY, CHUNK = 11, 16
TEXT = np.asarray(jr.randint(jr.key(7), (60,), 0, VOCABULARY))
TINY: Any = {"vocabulary": VOCABULARY, "d": 8, "layers": 1, "key": jr.key(0)}
HEADS: Any = {**TINY, "heads": 2, "std": None}


def llama(policy: Any, states: Any = 6, seed: int = 0) -> Any:
    """Two layers, so sharp that every policy has something to choose."""
    sizes: Any = {**TINY, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 12, "context": 64, "key": jr.key(seed)}
    sharp = jax.tree.map(lambda a: 4 * a if a.ndim > 2 else a, models.llama(**sizes))
    return bounded(sharp, policy, states)


MAKE: dict[str, Any] = {
    "tova": lambda: llama("tova"),
    "h2o": lambda: llama("h2o"),
    "window+4": lambda: llama("window+4"),
    "full": lambda: llama("full", 64),
    "llama": lambda: models.llama(**TINY, heads=4, kv_heads=2, hidden=12, context=64),
    "gla": lambda: models.gla(**HEADS),
    "hgrn": lambda: models.hgrn(**TINY, std=None),
    "hgrn2": lambda: models.hgrn2(**HEADS),
    "retnet": lambda: models.retnet(**HEADS),
    "delta_net": lambda: models.delta_net(**HEADS),
    "gated_delta_net": lambda: models.gated_delta_net(**HEADS, d_k=4),
    "gsa": lambda: models.gsa(**HEADS, slots=4),
    "griffin": lambda: models.griffin(**{**TINY, "layers": 3}, heads=2, window=8),
    "mamba": lambda: models.mamba(**TINY),
    "mamba2": lambda: models.mamba2(**TINY, heads=2, n=4),
    "min_gru": lambda: models.min_rnn(**TINY),
    "min_lstm": lambda: models.min_rnn(**TINY, cell="lstm"),
    "rwkv4": lambda: models.rwkv4(**TINY),
}


@functools.cache
def model(name: str) -> Any:
    """The model of that name, the same object each time."""
    return MAKE[name]()


def session(name: str, **options: Any) -> Session:
    """A session in which nothing was read."""
    return Session(model(name), **{"chunk": CHUNK, **options})


def check_same(one: Session, other: Session) -> None:
    """The same tokens, logits and state, to the bit."""
    np.testing.assert_array_equal(one.tokens, other.tokens)
    laws.check_same_bits((one.logits, one.state), (other.logits, other.state), "the session")
