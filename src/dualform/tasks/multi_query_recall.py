"""Associative recall with many queries: pairs of a key and a value, then keys that ask for theirs, at gaps of a power law."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int

from dualform.errors import require
from dualform.tasks.registration import register
from dualform.tasks.scores import NO_TARGET, of_tokens
from dualform.tasks.task import DrawnTask, setting


@register("associative-recall")
class MultiQueryRecall(DrawnTask):
    """`pairs` keys, each followed by its value; behind them each key once more, at which its value is to be said.

    Keys are tokens from 1 on, values from size / 2 on, both drawn without replacement, so that nothing but the sequence tells
    which belong together. Behind the pairs a query may stand at every second token, place i = 0, 1, ... The keys, in their order,
    take places without replacement with odds (i + 1)^(power - 1). Other places hold token 0. Targets are at the queries alone.

    - time: of a sequence.  size: of the vocabulary.  filled: whether random tokens stand where 0 would, keys and values too.

    **Raises:** `InputError` where time is odd, the queries have not room enough, or there are fewer keys or values than pairs.

    **Source:** Arora et al. 2023 (arXiv 2312.04927), MQAR, as in HazyResearch/zoology at d88d6f5: size 8,192, power 0.01, and
    (time, pairs) = (64, 4), (128, 8), (256, 16), (512, 64), not filled. Of its 100,000 examples each is seen 64 times; here
    every batch is drawn anew.
    """

    time: int = setting(default=64)
    pairs: int = setting(default=4)
    size: int = setting(default=8192)
    power: float = setting(default=0.01)
    filled: bool = setting(default=False)
    judge = staticmethod(of_tokens)
    source = "Arora et al. 2023 (arXiv 2312.04927)"

    def __check_init__(self):
        require(self.pairs >= 1, f"pairs is {self.pairs}; it must be at least 1.")
        require(self.time % 2 == 0, f"time is {self.time}; it must be even, since a pair takes two tokens.")
        require(
            4 * self.pairs <= self.time,
            f"time is {self.time}; {self.pairs} pairs and their queries need {4 * self.pairs}.",
        )
        require(
            self.pairs < self.size // 2,
            f"size is {self.size}; {self.pairs} pairs need a vocabulary of {2 * self.pairs + 2} at the least.",
        )

    @property
    def vocabulary(self) -> int:
        """Token 0, the keys and the values."""
        return self.size

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Tokens and targets, (time,)."""
        for_keys, for_values, for_places, for_rest = jr.split(key, 4)
        half, begin = self.size // 2, 2 * self.pairs
        keys = 1 + distinct(for_keys, self.pairs, half - 1)
        values = half + distinct(for_values, self.pairs, self.size - half)
        # The largest of log p + Gumbel noise, in their order, are draws without replacement with odds p.
        places = (self.time - begin) // 2
        odds = jnp.asarray((self.power - 1) * np.log(np.arange(1, places + 1)), jnp.float32)
        _, chosen = jax.lax.top_k(odds + jr.gumbel(for_places, (places,), jnp.float32), self.pairs)
        queries = begin + 2 * chosen
        rest = jr.randint(for_rest, (self.time,), 0, self.size, jnp.int32) if self.filled else None
        x = jnp.zeros(self.time, jnp.int32) if rest is None else rest
        x = x.at[:begin].set(jnp.stack([keys, values], axis=1).reshape(-1)).at[queries].set(keys)
        return x, jnp.full(self.time, NO_TARGET, jnp.int32).at[queries].set(values)


def distinct(key: Array, count: int, below: int) -> Int[Array, " count"]:
    """`count` numbers from 0 to `below` - 1, no two alike, in an order that is random too.

    Number i is drawn as its rank among those that are left, and lifted above the earlier ones: count^2 operations, where a
    permutation of all would sort them.
    """
    ranks = jr.randint(key, (count,), 0, below - jnp.arange(count, dtype=jnp.int32), jnp.int32)
    later = jnp.arange(count)

    def lift(i, numbers):
        at = count - 1 - i
        above = (later > at) & (numbers >= numbers[at])
        return numbers + above.astype(jnp.int32)

    return jax.lax.fori_loop(0, count, lift, ranks)
