"""RWKV-4, the whole model: trained weights give the logits that rwkv.cpp stored for them, and write text."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.checkpoints import load_weights, read_rwkv4, save_weights
from dualform.errors import InputError
from dualform.generation import generate
from dualform.mixers import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.models import LanguageModel, rwkv4
from tests.laws import laws

PROMPT = list(b'"in')
TOLERANCE = 1e-5
"""Of the logits, the largest of which is 5.8: the stored ones were computed in float32, and so are these (3.3e-6 apart)."""


@pytest.fixture(scope="module")
def trained(shared: Path) -> LanguageModel:
    """A byte-level model of 661,504 trained weights."""
    return read_rwkv4(shared / "data" / "rwkv" / "tiny-rwkv-4v0-660K-FP32.bin")


@pytest.fixture(scope="module")
def expected(shared: Path) -> np.ndarray:
    """The 256 logits after the prompt."""
    return np.fromfile(shared / "data" / "rwkv" / "expected-logits-4v0-660K.bin", "<f4")


def test_the_trained_model_is_what_it_says(trained):
    """256 bytes, width 128, four pairs of blocks, all in float32."""
    assert (trained.embedding.shape, len(trained.blocks), trained.parameters()) == ((256, 128), 8, 661_504)
    assert {leaf.dtype for leaf in jax.tree_util.tree_leaves(trained)} == {jnp.dtype("float32")}


def test_trained_weights_give_the_stored_logits(trained, expected):
    """The prompt read at once, and token by token: the logits of rwkv.cpp."""
    logits, _ = laws.call(trained, jnp.asarray(PROMPT))
    np.testing.assert_allclose(logits[-1], expected, rtol=0, atol=TOLERANCE)
    step, state, found = jax.jit(lambda token, state: trained.step(token, state)), trained.init_state(), logits[0]
    for token in PROMPT:
        found, state = step(token, state)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_it_writes_token_by_token(trained, expected):
    """The first byte is the likeliest of the stored logits; the others, those of the parallel form; English comes of it."""
    found, _ = generate(trained, PROMPT, 12, temperature=0)
    text = jnp.asarray([*PROMPT, *found.tolist()])
    assert int(found[0]) == int(expected.argmax())
    logits, _ = laws.call(trained, text)
    np.testing.assert_array_equal(found, jnp.argmax(logits[len(PROMPT) - 1 : -1], axis=1))
    assert b" the " in bytes(found.tolist())


def test_it_is_saved_to_the_bit(trained, tmp_path):
    """Written by `save_weights`, the trained model comes back with the same bits, and the same settings."""
    save_weights(tmp_path / "rwkv.safetensors", trained)
    laws.check_same_bits(load_weights(tmp_path / "rwkv.safetensors", LanguageModel), trained, "the model")


@pytest.mark.slow
def test_fresh_weights_are_the_published_ones():
    """Every block is the identity, mixes and rates are those of its layer, and embedding and head are orthogonal."""
    vocabulary, d, layers = 12, 6, 2
    model = jax.jit(lambda key: rwkv4(key=key, vocabulary=vocabulary, d=d, layers=layers, hidden=7))(jr.key(0))
    kinds = [RWKV4TimeMixing, RWKV4ChannelMixing] * layers
    assert [type(block.mixer) for block in model.blocks] == kinds
    for i, block in enumerate(model.blocks):
        made = kinds[i].make(d, key=jr.key(1), layer=i // 2, layers=layers, zeros=True)
        np.testing.assert_allclose(block.mixer.mu_k, made.mu_k, rtol=1e-12)
        np.testing.assert_allclose(block.mixer.mu_r, made.mu_r, rtol=1e-12)
    assert model.blocks[1].mixer.w_k.shape == (7, d)
    x, state = laws.sequence(0, 4, d), [block.init_state() for block in model.blocks]
    for block, before in zip(model.blocks, state, strict=True):
        laws.check_same_bits(block(x, before)[0], x, "the output of a fresh block")
    np.testing.assert_allclose(model.embedding.T @ model.embedding, 1e-8 * vocabulary * np.eye(d), atol=1e-20)
    np.testing.assert_allclose(model.head.T @ model.head, 0.25 * vocabulary / d * np.eye(d), atol=1e-12)
    logits, _ = laws.call(model, jnp.arange(4))
    # The norm of the embedding undoes its size: the logits are those of a model of that vocabulary.
    assert logits.shape == (4, vocabulary) and 0.1 < float(jnp.std(logits)) < 10 * math.sqrt(d)


def test_no_layer(unchecked):
    """Sizes that make no model are named."""
    with pytest.raises(InputError, match="vocabulary 5, d 4 and layers 0 must each be at least 1"):
        rwkv4(key=jr.key(0), vocabulary=5, d=4, layers=0)
