"""The laws of states and of training: each catches what breaks it, and lets the unbroken pass."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from dualform.mixers import LRU, RetNet
from dualform.models import Stack
from tests.laws import laws, states, trained
from tests.laws.broken import Around


class CountsInTheDefaultInteger(Around):
    """Counts its tokens in JAX's default integers, which are 64 bits wide where float64 is on."""

    def init_state(self) -> Any:
        return super().init_state(), jnp.zeros((), int)

    def context(self, x, state, start, mask):
        return super().context(x, state[0], start, mask)

    def mix(self, context, value, state, start, mask):
        y, after = super().mix(context, value, state[0], start, mask)
        return y, (after, state[1] + len(y))


class ForgetsAPart(Around):
    """Returns less than it was given."""

    def init_state(self) -> Any:
        return super().init_state(), jnp.zeros(())

    def context(self, x, state, start, mask):
        return super().context(x, state[0], start, mask)

    def mix(self, context, value, state, start, mask):
        y, after = super().mix(context, value, state[0], start, mask)
        return y, (after, None)


class StateOfTheTokens(Stack):
    """Returns its states in the dtype of the tokens."""

    def __call__(self, x, state=None, *, start=None, mask=None) -> Any:
        y, after = super().__call__(x, state, start=start, mask=mask)
        return y, jax.tree_util.tree_map(lambda leaf: leaf.astype(x.dtype), after)


class OneZeroTwice(Around):
    """Begins with one array in two places."""

    def init_state(self) -> Any:
        zero = super().init_state()
        return zero, zero


def test_states_that_do_not_fit_back_are_caught():
    """The law of states fails on another dtype, another structure, and on integers that are not int32."""
    tokens = jax.ShapeDtypeStruct((states.TIME, laws.D), jnp.float64)
    inner = lambda: LRU.make(laws.D, key=jr.key(0), dtype=jnp.float32)
    states.steps_keep_the_state(lambda: Around(inner()), tokens)
    for breaks in (CountsInTheDefaultInteger, ForgetsAPart):
        with pytest.raises((AssertionError, ValueError)):
            states.steps_keep_the_state(lambda breaks=breaks: breaks(inner()), tokens)
    with pytest.raises(AssertionError, match="a call: float64"):
        states.steps_keep_the_state(
            lambda: StateOfTheTokens.make((inner(),), laws.D, 2, key=jr.key(0), dtype=jnp.float32), tokens
        )


def test_memory_that_is_held_twice_is_caught():
    """The law of memory fails where one array is two leaves."""
    states.no_memory_is_held_twice(Around(laws.make("lru")).init_state())
    with pytest.raises(AssertionError, match="are one array"):
        states.no_memory_is_held_twice(OneZeroTwice(laws.make("lru")).init_state())


class PhasesDecayed(LRU):
    """Has its phases pulled towards 0."""

    weight_decayed = ("b_re", "b_im", "c_re", "c_im", "theta")


class Misspelt(LRU):
    """Names a field that there is not."""

    weight_decayed = ("b_re", "b_im", "c_re", "c_imag")


def test_wrong_declarations_are_caught():
    """The law of weight decay fails on decayed phases, on a class that does not declare, and on a name of no field."""
    expected = {"b_re", "b_im", "c_re", "c_im"}
    trained.weight_decay_acts_on(LRU.make(4, key=jr.key(0)), expected)
    made = LRU.make(4, key=jr.key(0))
    given = {name: getattr(made, name) for name in (*expected, "nu", "theta", "gamma", "skip")}
    with pytest.raises(AssertionError):
        trained.weight_decay_acts_on(PhasesDecayed(**given), expected)
    with pytest.raises(AssertionError, match="has no fields {'c_imag'}"):
        trained.every_class_declares(Misspelt(**given))
    with pytest.raises(AssertionError, match="Around does not say what is decayed"):
        trained.every_class_declares(Around(made))


def test_a_constant_that_is_trained_is_caught():
    """The law of constants fails on decays that are a plain array."""
    retnet = RetNet.make(4, key=jr.key(0))
    trained.constants_are(retnet, {"gamma"})
    with pytest.raises(AssertionError, match="constants are"):
        trained.constants_are(eqx.tree_at(lambda m: m.gamma, retnet, retnet.gamma.value), {"gamma"})
