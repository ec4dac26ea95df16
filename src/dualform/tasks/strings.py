"""Strings of many lengths, with an answer behind each: what the tasks of the Chomsky hierarchy share."""

import dataclasses
from abc import abstractmethod
from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Int

from dualform.errors import require
from dualform.tasks.scores import NO_TARGET, of_tokens
from dualform.tasks.task import DrawnTask, setting

HIERARCHY = "Delétang et al. 2023 (arXiv 2207.02098)"


class Strings(DrawnTask):
    """A string of `shortest` to `time` symbols, every length as likely, then as many blanks as its answer is long.

    The answer is read at these blanks. Behind it stand blanks without a target, so that all sequences of a batch are as long as
    the longest. Symbols are 0 to `alphabet` - 1, the blank is token `alphabet`; answers are tokens below `classes`, of which
    there may be more than symbols. A test at a further length has strings of that length alone.

    - alphabet: how many symbols there are.  classes: how many answers.  odd: whether a string of even length loses its last
      symbol.

    **Raises:** `InputError` where `shortest` is not between the least length of the task and `time`.

    **Source:** Delétang et al. 2023 (arXiv 2207.02098): lengths of 1 to 40, tests at 41 to 500, batches of 128.
    """

    time: int = setting(default=40)
    shortest: int = setting(default=1)
    batch: int = setting(default=128)
    judge = staticmethod(of_tokens)
    source = HIERARCHY
    alphabet: ClassVar[int]
    classes: ClassVar[int]
    odd: ClassVar[bool] = False
    least: ClassVar[int] = 1

    def __check_init__(self):
        require(
            self.least <= self.shortest <= self.time,
            f"shortest is {self.shortest}; it must be from {self.least} to the longest, {self.time}.",
        )

    @property
    def vocabulary(self) -> int:
        """The symbols and the blank, and further tokens where there are more answers than that."""
        return max(self.alphabet + 1, self.classes)

    @property
    def chance(self) -> float:
        """The accuracy of a guess."""
        return 1 / self.classes

    def at(self, time: int) -> "Strings":
        """Strings of this length alone."""
        return dataclasses.replace(self, time=time, shortest=time, lengths=())

    def string(self, key: Array, n: Int[Array, ""]) -> Int[Array, " time"]:
        """A string of n symbols; what stands behind them is not read."""
        del n
        return jr.randint(key, (self.time,), 0, self.alphabet, jnp.int32)

    @abstractmethod
    def answer(self, string: Int[Array, " time"], n: Int[Array, ""]) -> Int[Array, " room"]:
        """What is to be said of the first n symbols, `NO_TARGET` behind its end."""

    def within(self, n: Int[Array, ""]) -> Bool[Array, " time"]:
        """Where the first n symbols stand."""
        return jnp.arange(self.time, dtype=jnp.int32) < n

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Tokens and targets, (time + room for the longest answer,)."""
        for_length, for_string = jr.split(key)
        n = jr.randint(for_length, (), self.shortest, self.time + 1, jnp.int32)
        n = n - (1 - n % 2) if self.odd else n
        string = self.string(for_string, n)
        answer = self.answer(string, n)
        place = jnp.arange(self.time + len(answer), dtype=jnp.int32)
        x = jnp.where(place < n, jnp.pad(string, (0, len(answer))), self.alphabet)
        behind = (place >= n) & (place < n + len(answer))
        return x, jnp.where(behind, answer[jnp.where(behind, place - n, 0)], NO_TARGET)
