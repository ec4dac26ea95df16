"""A model's stages, one after the other, are the model; the stages of their own kind freeze into exact affine maps."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import registry
from dualform.models import Block, LanguageModel, Stack, rwkv4
from dualform.models.stages import Affine, Pool
from tests.laws import laws
from tests.models.families import TIME, D, language_model, sequence_model, shaken, tokens
from tests.tiers import tiers

START, MASK = jnp.array([0, 0, 1, 0, 1, 0], bool), jnp.array([1, 1, 0, 1, 1, 1], bool)
X = jr.normal(jr.key(1), (TIME, 3))


@eqx.filter_jit
def chained(model, x, state, start, mask):
    """One stage after the other, each of which its frozen map at its own input gives, too."""
    states = model.split(model.init_state() if state is None else state)
    for (_, stage), before in zip(model.stages(), states, strict=True):
        y, _, affine, *_ = stage.frozen(x, before, start, mask)
        z = affine(x)
        x = eqx.error_if(y, jnp.max(jnp.abs(z - y)) > 1e-12 * jnp.max(jnp.abs(y)), "frozen at x, it is not itself")
    return x


def stack() -> Any:
    layers = tuple(registry()["gru"](D, key=jr.key(i)) for i in range(2))
    return shaken(Stack.make(layers, 3, 2, key=jr.key(3)))


LANGUAGE = {
    "language model": lambda: language_model("gru", softcap=2.0, scale=3.0, tied=True),
    "RWKV-4": lambda: shaken(rwkv4(vocabulary=7, d=D, layers=1, key=jr.key(2))),
}
NAMES = {"language model": "block 1, norm, head", "RWKV-4": "embedding_norm, block 1, block 2, norm, head"}


@pytest.mark.parametrize("name", tiers(LANGUAGE, "language model"))
def test_the_stages_of_a_language_model_are_the_model(name):
    """From the embedded tokens to the logits, with a start, an absent token and a carried state."""
    model: Any = LANGUAGE[name]()
    assert ", ".join(stage for stage, _ in model.stages()) == NAMES[name]
    x = tokens(0)
    _, state = laws.call(model, x)
    expected, _ = laws.call(model, x, state, START, MASK)
    laws.check_close(chained(model, model.embed(x, MASK), state, START, MASK), expected, laws.EXACT, name)


@pytest.mark.parametrize("pool", tiers(["none", "mean", "last"], "none", "mean"))
def test_the_stages_of_a_sequence_model_are_the_model(pool):
    """At each token the chain gives what the model gives for the tokens up to it."""
    model: Any = sequence_model("gru", pool=pool)
    _, state = laws.call(model, X)
    found = chained(model, X, state, START, MASK)
    expected, _ = laws.call(model, X, state, START, MASK)
    laws.check_close(found if pool == "none" else found[-1], expected, laws.EXACT, pool)
    assert ("pool" in dict(model.stages())) == (pool != "none")
    if pool != "none":
        shorter, _ = laws.call(model, X, state, START & False, MASK & (jnp.arange(TIME) < 4))
        laws.check_close(chained(model, X, state, START & False, MASK)[3], shorter, laws.EXACT, "three tokens")


def test_the_stages_of_a_stack_are_the_stack():
    """From the tokens to the outputs, biases included."""
    model = stack()
    _, state = laws.call(model, X)
    expected, _ = laws.call(model, X, state, START, MASK)
    assert [name for name, _ in model.stages()] == ["embed", "layer 1", "layer 2", "readout"]
    laws.check_close(chained(model, X, state, START, MASK), expected, laws.EXACT, "stack")


def test_lower_bounds_of_a_model_are_in_its_stages():
    """The blocks that are handed out have the bounds that the model's logits give."""
    block = Block(None, registry()["hgrn2"](D, key=jr.key(0)))
    model: Any = LanguageModel.make((block, block), 7, key=jr.key(1), bounds=jnp.ones((2, D)))
    laws.check_close(
        chained(model, model.embed(tokens(0)), None, None, None), model(tokens(0))[0], laws.EXACT, "bounds"
    )


def test_affine_stages_are_affine():
    """Frozen, a map is affine: f(a + b) - f(a) = f(b) - f(0), and a softcap's is one decomposition among others."""
    a, b = jr.normal(jr.key(0), (2, TIME, 3))
    w, bias = jr.normal(jr.key(1), (2, 3)), jnp.ones(2)
    for stage, kind in ((Affine(w, bias), "linear given its gates"), (Affine(w, bias, 0.7), "frozen nonlinearity")):
        _, _, f, found, _ = stage.frozen(a)
        assert found == kind
        np.testing.assert_allclose(f(a + b) - f(a), f(b) - f(0 * b), atol=1e-12)


def test_bad_stages(unchecked):
    """What does not fit is named."""
    with pytest.raises(InputError, match=r"w has shape \(2,\); it must be \(d_out, d_in\)"):
        Affine(jnp.ones(2))
    with pytest.raises(InputError, match="there is no pool 'most'; there are mean and last"):
        Pool(3, "most")
