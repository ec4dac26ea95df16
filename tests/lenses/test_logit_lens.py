"""The logit lens: what a layer would say is what a model that ends there says; nothing that is added changes nothing."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.lenses import lens_log_probabilities, logit_lens
from dualform.mixers import GRU
from dualform.models import LanguageModel, LayerNorm, Recurrent, Stack
from dualform.models.stages import Alone
from tests.laws import laws
from tests.lenses.lens_models import idle
from tests.models.families import VOCABULARY, D, language_model, sequence_model, tokens

X = tokens(0)
MODEL = functools.cache(lambda: language_model("gla", "griffin_recurrent"))
POOLED = functools.cache(lambda: sequence_model("gla", pool="mean"))
READING = functools.cache(lambda: logit_lens(MODEL(), X, top=3))


def log_softmax(logits: Any) -> np.ndarray:
    """In NumPy."""
    logits = np.asarray(logits, np.float64)
    return (
        logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) - logits.max(-1)[:, None]
    )


def test_layers_that_add_nothing():
    """Every layer says what the model says in the end: KL is 0."""
    reading = logit_lens(idle(), X)
    assert reading.layers == ("embedding", "block 1", "block 2", "block 3")
    assert np.abs(reading.kl).max() <= 1e-12 and (reading.entropy > 0).all()
    assert (reading.top == reading.top[-1]).all()


def test_a_layer_says_what_a_model_says_that_ends_there():
    """The reading at a layer is the call of the model without the blocks above it; KL, entropy and ranks follow from that."""
    model, reading = MODEL(), READING()
    norm: Any = model.norm
    says = [log_softmax(model.logits(model.embed(X)))]
    says += [log_softmax(LanguageModel(model.embedding, model.blocks[:k], norm, model.head)(X)[0]) for k in (1, 2)]
    assert reading.layers == ("embedding", "block 1", "block 2")
    for layer, (name, lens) in enumerate(zip(reading.layers, says, strict=True)):
        laws.check_close(lens_log_probabilities(model, X, name), jnp.asarray(lens), laws.EXACT, name)
        kl = (np.exp(says[-1]) * (says[-1] - lens)).sum(1)
        np.testing.assert_allclose(reading.kl[layer], kl, atol=1e-10)
        np.testing.assert_allclose(reading.entropy_bits[layer], -(np.exp(lens) * lens).sum(1) / math.log(2), atol=1e-10)
        order = np.argsort(-lens, axis=1)[:, :3]
        assert (reading.top[layer] == order).all()
        np.testing.assert_allclose(reading.log_probability[layer], np.take_along_axis(lens, order, 1), atol=1e-10)
    assert not reading.kl[-1].any() and (reading.kl[:-1] > 0).all()
    np.testing.assert_allclose(reading.kl_bits * math.log(2), reading.kl)


def test_padding_states_and_documents():
    """Padded places are 0 and change nothing; a text read on from a state, or a document, is read as the whole was."""
    model, whole = MODEL(), READING()
    mask = jnp.asarray([True, True, False, True, True, True, True])
    padded = logit_lens(model, jnp.insert(X, 2, 99), top=3, mask=mask)
    for field in ("kl", "entropy", "log_probability"):
        found, expected = getattr(padded, field), getattr(whole, field)
        np.testing.assert_allclose(found[:, np.asarray(mask)], expected, atol=1e-10)
        assert not found[:, 2].any()
    rest = logit_lens(model, X[4:], top=3, state=laws.call(model, X[:4])[1])
    np.testing.assert_allclose(rest.kl, whole.kl[:, 4:], atol=1e-10)
    twice = logit_lens(model, jnp.concatenate([X, X]), top=3, start=jnp.arange(12) == 6)
    np.testing.assert_allclose(twice.kl[:, 6:], whole.kl, atol=1e-10)


def test_models_that_are_no_language_models():
    """Whatever ends in a linear readout has a lens: at the last layer it gives the model's own output, pooled ones too."""
    keys, x = jr.split(jr.key(0), 4), laws.sequence(0, 5)[:, :3]
    gru = lambda i, d: GRU.make(d, key=keys[i])
    models: dict[tuple[str, ...], Any] = {
        ("layer 1", "layer 2"): Recurrent.make((gru(0, 3), gru(1, 3)), 4, key=keys[2]),
        ("embed", "layer 1", "layer 2"): Stack.make((gru(0, D), gru(1, D)), 3, 4, key=keys[3]),
        ("embedding", "block 1"): POOLED(),
    }
    for layers, model in models.items():
        reading, (y, _) = logit_lens(model, x, top=99), laws.call(model, x)
        assert reading.layers == layers and reading.kl.shape == (len(layers), 5)
        said = lens_log_probabilities(model, x, layers[-1])
        expected = log_softmax(np.atleast_2d(np.asarray(y)))
        laws.check_close(said[-len(expected) :], jnp.asarray(expected), laws.EXACT, str(layers))
        assert reading.top.shape[2] == said.shape[1]


def test_a_lens_is_compiled_and_differentiated():
    """As a function of the model it has a gradient, that of the difference of two values."""
    model = MODEL()
    value = lambda size: lens_log_probabilities(model, size * model.embed(X), "block 1")[3, 2]
    slope = jax.jit(jax.grad(value))(1.0)
    assert float(slope) == pytest.approx(float(value(1 + 1e-6) - value(1 - 1e-6)) / 2e-6, rel=1e-5)


BAD = {
    "mixer": (lambda: logit_lens(GRU.make(D, key=jr.key(0)), jnp.zeros((2, D))), "a GRU has no stages"),
    "alone": (
        lambda: logit_lens(Alone(GRU.make(D, key=jr.key(0))), jnp.zeros((2, D))),
        "an? Alone has no unembedding that a lens could look through: nothing stands behind its last layer",
    ),
    "one output": (
        lambda: logit_lens(Recurrent.make((GRU.make(D, key=jr.key(0)),), 1, key=jr.key(1)), jnp.zeros((2, D))),
        "a Recurrent has one output; a lens compares the probabilities of two or more",
    ),
    "pooled": (
        lambda: logit_lens(POOLED(), jnp.zeros((2, 3)), state=POOLED().init_state()),
        "a SequenceModel pools, and its state has the sum of its last layer alone.*Read the whole sequence at once",
    ),
    "token": (lambda: logit_lens(MODEL(), [0, 7]), "token 1 is 7; this vocabulary goes from 0 to 6"),
    "layer": (
        lambda: lens_log_probabilities(MODEL(), X, "block 3"),
        "there is no layer 'block 3' to look at; there are embedding, block 1, block 2",
    ),
    "top": (lambda: logit_lens(MODEL(), X, top=0), "top is 0; give how many of the likeliest outputs to name"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What has no unembedding, and what there is not, gets a sentence."""
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call()


def test_a_norm_with_a_bias_and_a_softcap_are_looked_through():
    """All that stands behind the blocks is part of the readout."""
    model = language_model("gla", softcap=2.0)
    norm = LayerNorm(jnp.full(D, 1.5), jnp.linspace(-1.0, 1.0, D))
    model = LanguageModel(model.embedding, model.blocks, norm, model.head, softcap=2.0)
    said = lens_log_probabilities(model, X, "block 1")
    laws.check_close(said, jnp.asarray(log_softmax(laws.call(model, X)[0])), laws.EXACT, "the last layer")
    assert said.shape == (len(X), VOCABULARY)
