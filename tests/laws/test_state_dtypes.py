"""States keep the structure and the dtypes of `init_state()`, and can be given up to a compiled step."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from dualform.mixers import GLA, GRU, HGRN2, LRU, LSTM, RetNet, SoftmaxAttention, registry
from dualform.models import Block, LanguageModel, RMSNorm, SequenceModel, Stack
from tests.laws import laws, states
from tests.tiers import tiers

DTYPES = [
    (True, "float32", "float64"),
    (False, "bfloat16", "float32"),
    (True, "bfloat16", "float32"),
    (True, "float64", "bfloat16"),
    (False, "float32", "bfloat16"),
]
"""Whether JAX's float64 is on; the dtype of weights, and of tokens."""


def keeps_the_state(name: str, dtypes: list[tuple[bool, str, str]]) -> None:
    for wide, weights, x in dtypes:
        with jax.enable_x64(wide):
            make = lambda weights=weights: registry()[name](laws.D, key=jr.key(0), dtype=jnp.dtype(weights))
            states.steps_keep_the_state(make, tokens(x))


def tokens(dtype: str, d: int = laws.D) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((states.TIME, d), jnp.dtype(dtype))


@pytest.mark.parametrize("name", registry())
def test_steps_keep_the_state(name):
    """A call and steps fit back, with weights narrower than tokens."""
    keeps_the_state(name, DTYPES[:1])


@pytest.mark.slow
@pytest.mark.parametrize("name", registry())
def test_steps_keep_the_state_in_every_dtype(name):
    """So they do in the other dtypes of weights and tokens, with float64 on and off."""
    keeps_the_state(name, DTYPES[1:])


def stack(dtype: Any) -> Stack:
    layers = LRU.make(4, key=jr.key(0), dtype=dtype), LSTM.make(4, key=jr.key(1), dtype=dtype)
    return Stack.make(layers, 4, 2, key=jr.key(2), dtype=dtype)


def blocks(dtype: Any) -> tuple[Block, ...]:
    mixers = (RetNet, SoftmaxAttention, HGRN2, GRU, GLA)
    return tuple(Block.make(m.make(4, key=jr.key(0), dtype=dtype), key=jr.key(1), dtype=dtype) for m in mixers)


def sequence(dtype: Any, pool: str) -> SequenceModel:
    return SequenceModel.make(
        blocks(dtype), 4, 2, key=jr.key(2), norm=RMSNorm.make(4, dtype=dtype), pool=pool, dtype=dtype
    )


MODELS = {
    "stack": stack,
    "block": lambda dtype: blocks(dtype)[0],
    "none": lambda dtype: sequence(dtype, "none"),
    "mean": lambda dtype: sequence(dtype, "mean"),
    "last": lambda dtype: sequence(dtype, "last"),
}


FEW = ("stack", "mean")


@pytest.mark.parametrize("name", tiers(MODELS, *FEW))
def test_steps_of_models_keep_the_state(name):
    """So it is for stacks, blocks and sequence models, whatever they pool."""
    for wide, weights, x in DTYPES[:2]:
        with jax.enable_x64(wide):
            states.steps_keep_the_state(lambda weights=weights: MODELS[name](jnp.dtype(weights)), tokens(x))


def test_steps_of_language_models_keep_the_state():
    """So it is for a language model, with float64 on and off."""
    for wide, weights, _ in DTYPES[:2]:
        make = lambda weights=weights: LanguageModel.make(
            blocks(jnp.dtype(weights)), 8, key=jr.key(2), dtype=jnp.dtype(weights)
        )
        with jax.enable_x64(wide):
            states.steps_keep_the_state(make, jax.ShapeDtypeStruct((states.TIME,), jnp.int32))


@pytest.mark.parametrize("name", registry())
def test_no_memory_is_held_twice(name):
    """No two leaves of a state share memory, before the first token and after some."""
    mixer = laws.make(name)
    states.no_memory_is_held_twice(mixer.init_state())
    states.no_memory_is_held_twice(laws.some_state(mixer, 0))


def test_a_state_can_be_given_up():
    """A compiled step that takes over the memory of its state goes on from every kind of it."""
    model = stack(float)
    step = jax.jit(lambda state, x_t: model.step(x_t, state)[1], donate_argnums=0)
    before = model.init_state()
    after = step(step(before, laws.sequence(0, 1)[0]), laws.sequence(1, 1)[0])
    assert all(leaf.is_deleted() for leaf in jax.tree_util.tree_leaves(before))
    _, expected = laws.call(model, jnp.stack([laws.sequence(0, 1)[0], laws.sequence(1, 1)[0]]))
    laws.check_close(after, expected, laws.EXACT, "steps that take over the state")
