"""What is handed the wrong kind of thing says what it needs: never an AttributeError."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form, lenses
from dualform.dual import (
    attention_as_rnn,
    attribute,
    freeze,
    layer_form,
    model_form,
    perturbation_curves,
    state_shares,
    to_bertviz,
    to_circuitsvis,
)
from dualform.errors import InputError
from dualform.mixers import GLA
from dualform.models import TPGN, LanguageModel
from tests.laws import laws
from tests.models.families import block, language_model, sequence_model, tokens

X = functools.cache(lambda: laws.sequence(0, 3))


class Foreign:
    """A module of another library."""

    def __call__(self, x):
        return x


OBJECTS: dict[str, tuple[Callable[[], Any], str]] = {
    "a class": (lambda: GLA, r"GLA is a class; give one of its instances, such as GLA\.make"),
    "a model's class": (lambda: LanguageModel, "LanguageModel is a class; give one of its instances"),
    "a function": (lambda: laws.make, "the function make cannot be frozen: it is no layer"),
    "a foreign module": (Foreign, "a Foreign cannot be frozen: it is no layer"),
    "a module without a map": (lambda: eqx.nn.Linear(4, 4, key=jr.key(0)), "a Linear cannot be frozen"),
    "a forecaster": (lambda: TPGN.make(48, 24, key=jr.key(0)), "a TPGN cannot be frozen"),
    "an array": (lambda: jnp.ones(3), "an array cannot be frozen"),
    "nothing": (lambda: None, "a NoneType cannot be frozen"),
}
MODULES: dict[str, Any] = {
    "dual_form": dual_form,
    "layer_form": layer_form,
    "freeze": freeze,
    "model_form": model_form,
    "attribute": lambda it, x: attribute(it, x, (0, 0)),
    "perturbation_curves": lambda it, x: perturbation_curves(it, x, (0, 0), np.ones(3)),
    "trace": lenses.trace,
    "knock_out": lambda it, x: lenses.knock_out(it, x, "block 1", 0, 0),
}


@pytest.mark.parametrize("entry", MODULES)
@pytest.mark.parametrize("what", OBJECTS)
def test_what_is_no_module(unchecked, what, entry):
    """Every entry that takes a module or a model names what it was given."""
    make, message = OBJECTS[what]
    with pytest.raises(InputError, match=message):
        MODULES[entry](make(), X())


BLOCK = functools.cache(lambda: block("gla"))
MODEL = functools.cache(lambda: language_model("gla"))
BATCH, TOKENS = functools.cache(lambda: jnp.ones((2, 3, 4))), functools.cache(lambda: jnp.zeros((2, 3), jnp.int32))
INPUTS: dict[str, tuple[Callable[[], tuple[Any, Any]], str]] = {
    "a mixer, a batch": (lambda: (laws.make("gla"), BATCH()), "For a batch use jax.vmap"),
    "a block, a batch": (lambda: (BLOCK(), BATCH()), "For a batch use jax.vmap"),
    "a norm, a batch": (lambda: (BLOCK().norm, BATCH()), "For a batch use jax.vmap"),
    "a norm, another width": (lambda: (BLOCK().norm, X()[:, :2]), "RMSNorm takes tokens of width 4; got 2"),
    "a block, another width": (lambda: (BLOCK(), X()[:, :2]), "Block takes tokens of width 4; got 2"),
    "a block, a list": (lambda: (BLOCK(), [[1.0]]), "Block takes an array; got list. Wrap it in jnp.asarray"),
    "a block, tokens": (lambda: (BLOCK(), tokens(0)), "Block takes real floating-point activations; got int"),
    "a block, another state": (lambda: ((BLOCK(), jnp.ones(7)), X()), "the state does not belong to this Block"),
    "a model, a batch": (lambda: (MODEL(), TOKENS()), "For a batch use jax.vmap"),
    "a model, another vocabulary": (lambda: (MODEL(), jnp.array([1, 7])), "token 1 is 7; this vocabulary goes from 0"),
    "a model, another state": (lambda: ((MODEL(), ()), tokens(0)), "the state does not belong to this"),
    "a pooling model, another state": (
        lambda: ((sequence_model("gla", pool="last"), ()), X()[:, :3]),
        "the state does not belong",
    ),
}


@pytest.mark.parametrize("case", INPUTS)
def test_what_is_no_input(unchecked, case):
    """Whatever takes a module says what is wrong with the input or the state: a batch, a list, a width, a token."""
    make, message = INPUTS[case]
    module, x = make()
    module, state = module if isinstance(module, tuple) else (module, None)
    entries = [dual_form, layer_form, freeze, *([model_form, lenses.trace] if hasattr(module, "stages") else [])]
    with jax.disable_jit():
        for entry in entries:
            with pytest.raises(InputError, match=message):
                entry(module, x, state=state)


def test_what_is_no_form(unchecked):
    """Entries that take a form name what they were given."""
    with pytest.raises(InputError, match="the form of a layer is needed, as of layer_form; got a GLA"):
        state_shares(laws.make("gla"))  # pyright: ignore[reportArgumentType] - refused
    with pytest.raises(InputError, match="the form of a model is needed, as of model_form; got a GLA"):
        lenses.edge_effects(laws.make("gla"), "block 1", 0, 0)  # pyright: ignore[reportArgumentType] - refused
    with pytest.raises(InputError, match="a layer's form, as of layer_form, is needed; got a GLA"):
        to_circuitsvis(laws.make("gla"), ["a"])  # pyright: ignore[reportArgumentType] - refused
    with pytest.raises(InputError, match="a model's form, as of model_form, is needed; got GLA"):
        to_bertviz(GLA, ["a"])  # pyright: ignore[reportArgumentType] - refused
    with pytest.raises(InputError, match="a GLA has no queries of its own; give softmax attention"):
        attention_as_rnn(laws.make("gla"), X())  # pyright: ignore[reportArgumentType] - refused
