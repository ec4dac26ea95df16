"""Repeating: a few symbols of any number up to a longest, a cue, and the symbols again."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.errors import require
from dualform.tasks.registration import register
from dualform.tasks.scores import NO_TARGET, of_tokens
from dualform.tasks.task import DrawnTask, setting


@register("repeat")
class Repeat(DrawnTask):
    """`shortest` to `time` symbols, a cue, and from the cue on these symbols in their order, each read after it is said.

    A sequence is 2 `time` tokens long; what is behind the answer is blank. Token 0 is the blank, 1 to `symbols` are the symbols,
    the cue is the last. Lengths are uniform, symbols too, with repetition.

    - autonomous: whether the cue is read in place of each symbol that was said, so that the state alone says what is next.

    **Raises:** `InputError` where there are fewer symbols than 2, or `shortest` is not from 1 to `time`.

    **Source:** Csordás, Potts, Manning and Geiger 2024 (arXiv 2408.10920): 30 symbols, lengths 2 to 9. Their public code
    (RobertCsordas/onion_representations) trains on a million fixed sequences; here each is drawn anew.
    """

    time: int = setting(default=9)
    shortest: int = setting(default=2)
    symbols: int = setting(default=30)
    autonomous: bool = setting(default=False)
    judge = staticmethod(of_tokens)
    source = "Csordás et al. 2024 (arXiv 2408.10920)"

    def __check_init__(self):
        require(self.symbols >= 2, f"symbols is {self.symbols}; there must be at least 2.")
        require(
            1 <= self.shortest <= self.time,
            f"shortest is {self.shortest}; it must be from 1 to the longest, time = {self.time}.",
        )

    @property
    def vocabulary(self) -> int:
        """The blank, the symbols and the cue."""
        return self.symbols + 2

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Tokens and targets, (2 time,)."""
        of_length, of_symbols = jr.split(key)
        length = jr.randint(of_length, (), self.shortest, self.time + 1, jnp.int32)
        symbols = jr.randint(of_symbols, (self.time,), 1, self.symbols + 1, jnp.int32)
        places = jnp.arange(2 * self.time, dtype=jnp.int32)
        cue = jnp.full_like(places, self.symbols + 1)
        said = places - length  # which symbol is to be said at a place
        again = cue if self.autonomous else symbols[jnp.clip(said - 1, 0, self.time - 1)]
        x = jnp.where(places < length, symbols[jnp.clip(places, 0, self.time - 1)], jnp.where(said == 0, cue, again))
        there = (said >= 0) & (said < length)
        y = jnp.where(there, symbols[jnp.clip(said, 0, self.time - 1)], jnp.full_like(places, NO_TARGET))
        return jnp.where(said < length, x, jnp.zeros_like(x)), y
