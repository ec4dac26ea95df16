"""The laws of infinities, of states and of training: each catches what breaks it, and lets the unbroken pass."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.finite import put_back, set_aside, spoiled
from dualform.maps import Frozen, present
from dualform.mixers import LRU, AbstractMixer, RetNet
from dualform.models import Stack
from tests.laws import infinities, laws, states, trained
from tests.laws.broken import Around
from tests.laws.programs import Cases, cases


class ReadsWhatIsNotFinite(Around):
    """Leaves NaN to the recurrence, where a decay of 0 does not forget it."""

    def as_part(self, x, state, segments):
        if segments.start is None:
            return super().as_part(x, state, segments)
        found = spoiled(x, state, segments.start, segments.mask)
        frozen = self.at(x, state, segments)
        y, after = put_back(frozen.y, frozen.state, state, found)
        return frozen._replace(y=present(y, segments.mask), state=after)


class CarriesWhatIsNotFinite(Around):
    """Sets tokens aside, and goes on from any state."""

    def as_part(self, x, state, segments):
        if segments.start is None:
            return super().as_part(x, state, segments)
        found = spoiled(x, state, segments.start, segments.mask)
        frozen = self.at(set_aside(x, state, state, found)[0], state, segments)
        y, after = put_back(frozen.y, frozen.state, state, found)
        return frozen._replace(y=present(y, segments.mask), state=after)


class HidesWhatIsNotFinite(Around):
    """Gives a number where none can be known: it takes the token for one of zeros."""

    def __call__(self, x, state=None, *, start=None, mask=None) -> Any:
        return super().__call__(jnp.nan_to_num(x, posinf=0.0, neginf=0.0), state, start=start, mask=mask)


def documents(mixer: AbstractMixer) -> Cases:
    """Every packing of six tokens, after another sequence."""
    x = np.stack([laws.sequence(row % 8, laws.TIME) for row in range(64)])
    start = (np.arange(64)[:, None] >> np.arange(laws.TIME)) % 2 == 1
    mask = np.ones_like(start)
    mask[5::7, 2] = False
    left = jax.tree_util.tree_map(lambda leaf: np.stack([leaf] * 64), laws.some_state(mixer, 0))
    return cases([mixer] * 64, x, left, start, mask)


@pytest.mark.parametrize("breaks", [ReadsWhatIsNotFinite, CarriesWhatIsNotFinite, HidesWhatIsNotFinite])
def test_crossing_a_start_is_caught(breaks):
    """Law 5g passes on the mixer and fails on the same mixer broken."""
    infinities.they_stay_in_their_document(documents(Around(laws.make("lru"))))
    with pytest.raises(AssertionError):
        infinities.they_stay_in_their_document(documents(breaks(laws.make("lru"))))


class CountsInTheDefaultInteger(Around):
    """Counts its tokens in JAX's default integers, which are 64 bits wide where float64 is on."""

    def init_state(self) -> Any:
        return super().init_state(), jnp.zeros((), int)

    def at(self, x, state, segments):
        y, after, map, *_ = super().at(x, state[0], segments)
        return Frozen(y, (after, state[1] + len(y)), map)


class ForgetsAPart(Around):
    """Returns less than it was given."""

    def init_state(self) -> Any:
        return super().init_state(), jnp.zeros(())

    def at(self, x, state, segments):
        y, after, map, *_ = super().at(x, state[0], segments)
        return Frozen(y, (after, None), map)


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
