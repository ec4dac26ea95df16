"""Copying: symbols, a long silence, then the symbols again."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.errors import require
from dualform.tasks.registration import register
from dualform.tasks.scores import NO_TARGET, of_tokens
from dualform.tasks.task import DrawnTask, setting


@register("copy")
class Copy(DrawnTask):
    """`tokens` symbols, `time` - 1 blanks, a cue, and as many blanks as symbols, at which these are to be said again.

    A sequence is time + 2 tokens long. Token 0 is the blank, 1 to `symbols` are the symbols, the cue is the last. Who remembers
    nothing loses log(symbols) at each symbol.

    - blanks: whether the blanks before the answer are to be said, too, and counted; published losses are over all tokens.

    **Raises:** `InputError` where there are fewer symbols than 2, or no token to copy.

    **Source:** Arjovsky, Shah and Bengio 2016 (arXiv 1511.06464), Sec. 5.1: 10 tokens of 8 symbols, time 100 to 500. Keller et
    al. 2024 (arXiv 2309.08045): T = 10, 30 and 80, of which their public code (akandykeller/Wave_RNNs at 2630b88) takes the
    symbols off, so that its cue is at place T - 1; its losses are cross-entropies over all tokens, divided by the batch of 50
    once more.
    """

    time: int = setting(default=100)
    tokens: int = setting(default=10)
    symbols: int = setting(default=8)
    blanks: bool = setting(default=False)
    judge = staticmethod(of_tokens)
    source = "Arjovsky et al. 2016 (arXiv 1511.06464)"

    def __check_init__(self):
        require(self.symbols >= 2, f"symbols is {self.symbols}; there must be at least 2.")
        require(self.tokens >= 1, f"tokens is {self.tokens}; there must be at least 1 to copy.")

    @property
    def vocabulary(self) -> int:
        """The blank, the symbols and the cue."""
        return self.symbols + 2

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Tokens and targets, (time + 2 tokens,)."""
        symbols = jr.randint(key, (self.tokens,), 1, self.symbols + 1, jnp.int32)
        blank = lambda count: jnp.zeros(count, jnp.int32)
        cue = jnp.full(1, self.symbols + 1, jnp.int32)
        before = jnp.full(self.tokens + self.time, 0 if self.blanks else NO_TARGET, jnp.int32)
        x = jnp.concatenate([symbols, blank(self.time - 1), cue, blank(self.tokens)])
        return x, jnp.concatenate([before, symbols])
