"""Selective copying: tokens stand at random places among blanks, and are said again, in their order, at the end."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.errors import require
from dualform.tasks.registration import register
from dualform.tasks.scores import NO_TARGET, of_tokens
from dualform.tasks.task import DrawnTask, setting


@register("selective-copy")
class SelectiveCopy(DrawnTask):
    """`tokens` of `symbols` symbols among blanks in `time` places, then as many cues, each of which asks for the next one.

    A sequence is time + tokens long. Token 0 is the blank, 1 the cue, the symbols follow. Where the symbols stand is drawn anew
    for each sequence, so that what is kept must be chosen by what it is.

    **Raises:** `InputError` where there are fewer symbols than 2, or more tokens than places.

    **Source:** Gu and Dao 2023 (arXiv 2312.00752), Sec. 3.1; the sizes of Feng et al. 2024 (arXiv 2410.01201): 16 tokens of a
    vocabulary of 16 in 4,096 places.
    """

    time: int = setting(default=256)
    tokens: int = setting(default=16)
    symbols: int = setting(default=14)
    judge = staticmethod(of_tokens)
    source = "Gu and Dao 2023 (arXiv 2312.00752)"

    def __check_init__(self):
        require(self.symbols >= 2, f"symbols is {self.symbols}; there must be at least 2.")
        require(1 <= self.tokens <= self.time, f"tokens is {self.tokens}; it must be from 1 to the {self.time} places.")

    @property
    def vocabulary(self) -> int:
        """The symbols, the blank and the cue."""
        return self.symbols + 2

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Tokens and targets, (time + tokens,)."""
        for_places, for_symbols = jr.split(key)
        places = jnp.sort(jr.permutation(for_places, self.time)[: self.tokens])
        symbols = jr.randint(for_symbols, (self.tokens,), 2, self.vocabulary, jnp.int32)
        shown = jnp.zeros(self.time, jnp.int32).at[places].set(symbols)
        cues = jnp.ones(self.tokens, jnp.int32)
        return jnp.concatenate([shown, cues]), jnp.concatenate([jnp.full(self.time, NO_TARGET, jnp.int32), symbols])
