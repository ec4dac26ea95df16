"""Induction: what came after the mark, when the mark comes again."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.errors import require
from dualform.tasks.registration import register
from dualform.tasks.scores import NO_TARGET, of_tokens
from dualform.tasks.task import DrawnTask, setting


@register("induction")
class Induction(DrawnTask):
    """`time` random symbols, a mark at a random place among them, and the mark again at the end: say what followed the first one.

    Symbols are 0 to `symbols` - 1, the mark is the last token. One target, at the last token.

    **Raises:** `InputError` where there are fewer symbols than 2, or fewer than 3 tokens.

    **Source:** Olsson et al. 2022 (arXiv 2209.11895); the sizes of Gu and Dao 2023 (arXiv 2312.00752), Sec. 4.1.2: time 256, 16
    tokens of which one is the mark, tests at lengths of 64 to 2^20.
    """

    time: int = setting(default=256)
    symbols: int = setting(default=15)
    judge = staticmethod(of_tokens)
    source = "Gu and Dao 2023 (arXiv 2312.00752)"

    def __check_init__(self):
        require(self.symbols >= 2, f"symbols is {self.symbols}; there must be at least 2.")
        require(self.time >= 3, f"time is {self.time}; it must be at least 3: a mark, a symbol, and the mark again.")

    @property
    def vocabulary(self) -> int:
        """The symbols and the mark."""
        return self.symbols + 1

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Tokens and targets, (time,)."""
        for_symbols, for_place = jr.split(key)
        symbols = jr.randint(for_symbols, (self.time,), 0, self.symbols, jnp.int32)
        place = jr.randint(for_place, (), 0, self.time - 2, jnp.int32)
        x = symbols.at[place].set(self.symbols).at[-1].set(self.symbols)
        return x, jnp.full(self.time, NO_TARGET, jnp.int32).at[-1].set(symbols[place + 1])
