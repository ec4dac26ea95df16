"""Arithmetic modulo 5, of expressions without brackets and with them.

Tokens are the numbers 0 to 4, then + - x ( ), as far as the task has them.

**Source:** Delétang et al. 2023 (arXiv 2207.02098), google-deepmind/neural_networks_chomsky_hierarchy at 2b8eb4b.
"""

import jax
import jax.numpy as jnp
import jax.random as jr

from dualform.tasks.registration import register
from dualform.tasks.strings import Strings

MODULUS = 5
PLUS, MINUS, TIMES = MODULUS, MODULUS + 1, MODULUS + 2
OPEN, CLOSE = MODULUS + 2, MODULUS + 3
"""Of expressions with brackets, which do not multiply."""


@register("modular-arithmetic")
class ModularArithmetic(Strings):
    """The value modulo 5 of numbers with + - x between them, of which x binds closest; lengths are odd. Regular."""

    alphabet, classes, odd = MODULUS + 3, MODULUS, True

    def string(self, key, n):
        """Numbers at even places, operators at odd ones."""
        del n
        for_numbers, for_operators = jr.split(key)
        numbers = jr.randint(for_numbers, (self.time,), 0, MODULUS, jnp.int32)
        operators = jr.randint(for_operators, (self.time,), PLUS, TIMES + 1, jnp.int32)
        return jnp.where(jnp.arange(self.time) % 2 == 0, numbers, operators)

    def answer(self, string, n):
        """The sum of the terms that are complete, and the product that is not yet."""
        numbers = string[2::2]
        operators = string[1::2][: len(numbers)]

        def read(state, pair):
            total, term = state
            operator, number, within = pair
            times = operator == TIMES
            signed = jnp.where(operator == MINUS, -number, number)
            after = jnp.where(times, total, total + term), jnp.where(times, term * number, signed)
            return tuple(jnp.where(within, new % MODULUS, old) for new, old in zip(after, state, strict=True)), None

        pairs = (operators, numbers, self.within(n)[2::2])
        (total, term), _ = jax.lax.scan(read, (jnp.zeros_like(string[0]), string[0]), pairs)
        return ((total + term) % MODULUS)[None]


@register("modular-arithmetic-brackets")
class BracketedArithmetic(Strings):
    """The value modulo 5 of an expression E = d, -d, (d), (-d), (E + E) or (E - E) with numbers d. Deterministic context-free.

    An expression of length 5 or more is of the last two kinds; the length of its left part is uniform in 1 to length - 4.
    """

    alphabet, classes = MODULUS + 4, MODULUS

    def string(self, key, n):
        """Written from left to right, off a stack of what is to come: a length is an expression of it, -1 - t the token t."""

        def write(state):
            key, string, place, stack, height = state
            key, for_number, for_operator, for_left = jr.split(key, 4)
            top = stack[height - 1]
            token = lambda symbol: jnp.asarray(-1 - symbol, jnp.int32)
            number = token(jr.randint(for_number, (), 0, MODULUS, jnp.int32))
            operator = token(jr.randint(for_operator, (), PLUS, MINUS + 1, jnp.int32))
            left = jr.randint(for_left, (), 1, jnp.maximum(top - 3, 2), jnp.int32)
            opened, closed, minus, none = token(OPEN), token(CLOSE), token(MINUS), jnp.zeros((), jnp.int32)
            kinds = (  # what is written last comes first
                (number, none, none, none, none),
                (number, minus, none, none, none),
                (closed, number, opened, none, none),
                (closed, number, minus, opened, none),
                (closed, top - 3 - left, operator, left, opened),
            )
            kind = jnp.clip(top, 1, 5) - 1
            parts = jnp.stack([jnp.stack(each) for each in kinds])[kind]
            is_token = top < 0
            string = jnp.where(is_token, string.at[place].set(-1 - top), string)
            expanded = jax.lax.dynamic_update_slice(stack, parts, (height - 1,))
            return (
                key,
                string,
                place + is_token.astype(jnp.int32),
                jnp.where(is_token, stack, expanded),
                jnp.where(is_token, height - 1, height + kind),
            )

        room = jnp.zeros(self.time + 5, jnp.int32)
        zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
        begin = (key, jnp.zeros(self.time, jnp.int32), zero, room.at[0].set(n), one)
        return jax.lax.while_loop(lambda state: state[-1] > 0, write, begin)[1]

    def answer(self, string, n):
        """The sum of the numbers, each with the product of the signs before it and before the brackets that it is in."""

        def read(state, token_and_within):
            signs, depth, sign, total, after_value = state
            token, within = token_and_within
            is_number = token < MODULUS
            outer = signs[depth]
            minus = jnp.where(after_value, -outer, -sign)
            deeper = depth + (token == OPEN).astype(jnp.int32) - (token == CLOSE).astype(jnp.int32)
            after = (
                jnp.where(token == OPEN, signs.at[depth + 1].set(sign), signs),
                deeper,
                jnp.where(token == PLUS, outer, jnp.where(token == MINUS, minus, sign)),
                jnp.where(is_number, total + sign * token, total) % MODULUS,
                is_number | (token == CLOSE),
            )
            return jax.tree.map(lambda new, old: jnp.where(within, new, old), after, state), None

        zero = jnp.zeros((), jnp.int32)
        begin = (jnp.ones(self.time + 1, jnp.int32), zero, zero + 1, zero, jnp.array(False))
        (_, _, _, total, _), _ = jax.lax.scan(read, begin, (string, self.within(n)))
        return total[None]
