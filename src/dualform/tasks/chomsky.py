"""Tasks of the Chomsky hierarchy: what a machine of each kind of memory can say of a string of any length.

Regular ones (parity, even pairs, cycle navigation) need a state of fixed size, stack manipulation and reversal a stack, sorting,
majority and the missing duplicate more than that. Arithmetic is in `arithmetic`.

**Source:** Delétang et al. 2023 (arXiv 2207.02098), google-deepmind/neural_networks_chomsky_hierarchy at 2b8eb4b; its models see
what is here: the string, then one blank for each symbol of the answer.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.tasks.registration import register
from dualform.tasks.scores import NO_TARGET
from dualform.tasks.strings import Strings
from dualform.tasks.task import setting


@register("parity")
class Parity(Strings):
    """Whether the number of ones among bits is odd. Regular."""

    alphabet, classes = 2, 2

    def answer(self, string, n):
        """0 where it is even, 1 where it is odd."""
        return jnp.sum(string, where=self.within(n), keepdims=True, dtype=jnp.int32) % 2


@register("even-pairs")
class EvenPairs(Strings):
    """Whether 01 and 10 together stand an odd number of times in a string of bits: whether its ends differ. Regular."""

    alphabet, classes = 2, 2

    def answer(self, string, n):
        """0 where it is even, 1 where it is odd."""
        return (string[0] ^ string[n - 1])[None]


@register("cycle-navigation")
class CycleNavigation(Strings):
    """Where on a circle of 5 places one is after steps back (0), none (1) and forward (2), from place 0 on. Regular."""

    alphabet, classes = 3, 5

    def answer(self, string, n):
        """The place."""
        return jnp.sum(string - 1, where=self.within(n), keepdims=True, dtype=jnp.int32) % 5


@register("majority")
class Majority(Strings):
    """Whether there are more ones than zeros among bits, of which there is an odd number. It takes a counter.

    **Source:** the function of circuit complexity, at the lengths of the hierarchy's tasks. The task of this name in Beck et
    al. 2024 (arXiv 2405.04517) asks for the commonest of many symbols.
    """

    alphabet, classes, odd = 2, 2, True
    source = "majority of circuit complexity"

    def answer(self, string, n):
        """1 where there are."""
        ones = jnp.sum(string, where=self.within(n), keepdims=True, dtype=jnp.int32)
        return (2 * ones > n[None]).astype(jnp.int32)


@register("bucket-sort")
class BucketSort(Strings):
    """The symbols of a string in order, of an alphabet of 5. Context-sensitive."""

    alphabet, classes = 5, 5

    def answer(self, string, n):
        """As many as there are symbols."""
        within = self.within(n)
        return jnp.where(within, jnp.sort(jnp.where(within, string, self.alphabet)), NO_TARGET)


@register("reverse-string")
class ReverseString(Strings):
    """A string of bits from its end to its begin. Deterministic context-free."""

    alphabet, classes = 2, 2

    def answer(self, string, n):
        """As many as there are symbols."""
        back = n - 1 - jnp.arange(self.time, dtype=jnp.int32)
        return jnp.where(self.within(n), string[jnp.maximum(back, 0)], NO_TARGET)


@register("missing-duplicate")
class MissingDuplicate(Strings):
    """A string of bits, twice, in which one symbol is a gap (2): say which. Of an odd length, 3 fills the end. Context-sensitive.

    Of one symbol nothing is twice: `shortest` is 2 or more. The published task says 1 then, without a string.
    """

    shortest: int = setting(default=2)
    alphabet, classes, least = 4, 2, 2

    def string(self, key, n):
        """Bits, the gap, and the end."""
        for_bits, for_gap = jr.split(key)
        bits, half = jr.randint(for_bits, (self.time,), 0, 2, jnp.int32), n // 2
        place = jnp.arange(self.time, dtype=jnp.int32)
        twice = bits[jnp.where(place < half, place, place - half)]
        gap = jr.randint(for_gap, (), 0, 2 * half, jnp.int32)
        return jnp.where(place >= 2 * half, 3, jnp.where(place == gap, 2, twice))

    def answer(self, string, n):
        """The symbol where the other copy stands."""
        gap, half = jnp.argmax(string == 2).astype(jnp.int32), n // 2
        return string[jnp.where(gap < half, gap + half, gap - half)][None]


@register("stack-manipulation")
class StackManipulation(Strings):
    """A stack of bits, its bottom first, then what is done to it (2 pops, 3 pushes 0, 4 pushes 1): what is left, its top first.

    2 ends the answer; an empty stack stays empty when popped. Deterministic context-free. The published loss also counts zeros
    behind the end, its accuracy does not; here they are not asked for.
    """

    alphabet, classes = 5, 3

    @property
    def chance(self) -> float:
        """As published: that of a bit."""
        return 1 / 2

    def string(self, key, n):
        """From 1 to n - 1 bits, uniformly, then actions; 1 bit where n is 1."""
        for_size, for_bits, for_actions = jr.split(key, 3)
        size = jr.randint(for_size, (), 1, jnp.maximum(n, 2), jnp.int32)
        bits = jr.randint(for_bits, (self.time,), 0, 2, jnp.int32)
        actions = jr.randint(for_actions, (self.time,), 2, 5, jnp.int32)
        return jnp.where(self.within(size), bits, actions)

    def answer(self, string, n):
        """Up to n bits and the end."""

        def done(state, token):
            stack, height = state
            pops, bit = token == 2, jnp.where(token < 2, token, token - 3)
            pushed = stack.at[height].set(bit)
            after = jnp.where(pops, jnp.maximum(height - 1, 0), height + 1)
            return (jnp.where(pops, stack, pushed), after), None

        def read(state, token_and_within):
            token, within = token_and_within
            after, _ = done(state, token)
            return jax.tree.map(lambda new, old: jnp.where(within, new, old), after, state), None

        empty: tuple[Array, Array] = (jnp.zeros(self.time, jnp.int32), jnp.zeros((), jnp.int32))
        (stack, height), _ = jax.lax.scan(read, empty, (string, self.within(n)))
        place = jnp.arange(self.time + 1, dtype=jnp.int32)
        from_top = stack[jnp.maximum(height - 1 - place, 0)]
        return jnp.where(place < height, from_top, jnp.where(place == height, 2, NO_TARGET))
