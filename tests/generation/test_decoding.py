"""The form for decoding is the bounded model, step by step, with the same states."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.errors import InputError
from dualform.generation import MultiStateAttention, bounded, for_decoding, generate, policy
from dualform.generation.decoding import JoinedAttention
from dualform.mixers import SoftmaxAttention
from dualform.models.mlp import GatedMLP, JoinedMLP
from tests.generation.test_multi_state import MODEL, TOKENS
from tests.laws import laws
from tests.tiers import tiers


@pytest.mark.parametrize("biases", [False, True])
def test_the_form_for_decoding_is_the_model(biases):
    """A call, then a step from its state: logits and states are those of the model, with biases or without."""
    sizes: Any = {"vocabulary": 11, "d": 8, "layers": 1, "heads": 4, "kv_heads": 2, "hidden": 12, "context": 64}
    model = models.llama(key=jr.key(0), biases=biases, **sizes)
    model = jax.tree.map(lambda a: 20 * a + 0.1 if a.ndim > 1 else a + 0.1, model)
    model = bounded(model, "tova", 4)

    @eqx.filter_jit
    def both(model):
        logits, state = model(TOKENS[:9])
        return logits, state, model.step(TOKENS[9], state)

    laws.check_close(both(for_decoding(model)), both(model), laws.EXACT, "logits and states")


@pytest.mark.parametrize("name", tiers(["tova", "window"], "tova"))
def test_generated_tokens_are_the_same(name):
    """Greedy tokens, the prompt read in parallel or token by token, are those of the model."""
    model = bounded(MODEL, name, 4)
    expected, _ = generate(model, TOKENS[:9], 8, temperature=0)
    found, _ = generate(for_decoding(model), TOKENS[:9], 8, temperature=0)
    np.testing.assert_array_equal(found, expected)


def test_a_joined_attention_parts_into_what_was_joined():
    """Its window and its context stay two."""
    for said in ({"window": 5}, {"context": 5}, {"window": 3, "context": 5}):
        mixer = MultiStateAttention(SoftmaxAttention.make(4, key=jr.key(0), **said), policy("tova"), 2)
        laws.check_same_bits(JoinedAttention.of(mixer).parted(), mixer, str(said))


@pytest.mark.parametrize("name", ["b_gate", "b_up"])
def test_a_joined_mlp_is_a_gated_one(name):
    """With one of the biases, too."""
    mlp = GatedMLP.make(4, key=jr.key(0), hidden=6)
    mlp = eqx.tree_at(lambda m: getattr(m, name), mlp, jnp.arange(6.0), is_leaf=lambda a: a is None)
    x = jr.normal(jr.key(1), (3, 4))
    laws.check_close(JoinedMLP.of(mlp)(x), mlp(x), laws.EXACT, "outputs")


def test_only_a_bounded_model_has_such_a_form():
    """Others get a sentence."""
    with pytest.raises(InputError, match=r"not bounded; make it so first: generation\.bounded"):
        for_decoding(MODEL)
