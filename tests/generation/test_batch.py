"""Texts of a batch are those that each prompt alone gets, and what does not fit into memory is said before."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.errors import InputError
from dualform.generation import bounded, for_decoding, generate, generate_batch, room, text_keys
from tests.generation.test_multi_state import MODEL, TOKENS
from tests.laws import laws
from tests.tiers import tiers

SMALL = bounded(MODEL, "tova", 4)
PROMPTS = (TOKENS[:9], TOKENS[3:6], TOKENS[5:6])


@pytest.mark.parametrize("chunk", tiers([4, 256], 4))
def test_a_batch_is_its_texts(chunk):
    """Prompts of 9, 3 and 1 tokens, read in chunks or not: greedy or drawn, each is what its own key gives alone."""
    settings: Any = ({"temperature": 0}, {"key": jr.key(3), "top_k": 5})
    for options in settings:
        found = generate_batch(SMALL, PROMPTS, 6, chunk=chunk, **options)
        for i, (prompt, text) in enumerate(zip(PROMPTS, found, strict=True)):
            keys = text_keys(options.get("key"), 3)
            alone: Any = options | ({} if keys is None else {"key": keys[i]})
            np.testing.assert_array_equal(text.tokens, generate(SMALL, prompt, 6, **(alone if i else options))[0])
            assert not text.ended


def test_ends_are_whole_numbers():
    """An end beyond the vocabulary, and beyond 64 bits, never comes; what is no number is refused before anything is read."""
    expected = generate_batch(SMALL, PROMPTS[:1], 3, temperature=0)[0].tokens
    found = generate_batch(SMALL, PROMPTS[:1], 3, temperature=0, ends=[2**70, -1, int(1e6)])[0]
    assert found.tokens.tolist() == expected.tolist() and not found.ended
    for wrong in ("a", ["1"], [1.0], [True], None):
        with pytest.raises(InputError, match="ends are .*; give a list of whole numbers, which may be empty"):
            generate_batch(SMALL, PROMPTS[:1], 3, temperature=0, ends=wrong)  # pyright: ignore[reportArgumentType] - wrong on purpose


def test_log_probabilities_are_the_models():
    """Each is the log-softmax of the model's own logits at that token, whatever the temperature."""
    [text] = generate_batch(SMALL, [TOKENS[:5]], 6, key=jr.key(0), temperature=3.0)
    whole = jnp.concatenate([TOKENS[:5], jnp.asarray(text.tokens, TOKENS.dtype)])
    expected = jax.nn.log_softmax(SMALL(whole)[0][4:-1])[jnp.arange(6), text.tokens]
    laws.check_close(jnp.asarray(text.logprobs), expected, laws.EXACT, "log-probabilities")


def test_a_text_ends_by_itself():
    """A token that ends a text is not part of it; the other texts go on, and all stop where all have ended."""
    free = generate_batch(SMALL, PROMPTS, 6, temperature=0)
    end = int(free[0].tokens[2])
    found = generate_batch(SMALL, PROMPTS, 6, temperature=0, ends={end})
    for before, after in zip(free, found, strict=True):
        at = np.flatnonzero(before.tokens == end)
        expected = before.tokens[: at[0]] if len(at) else before.tokens
        np.testing.assert_array_equal(after.tokens, expected)
        assert after.ended == (len(at) > 0) and len(after.logprobs) == len(expected)
    everything = generate_batch(SMALL, PROMPTS, 6, temperature=0, ends=range(MODEL.vocabulary))
    assert all(text.ended and len(text.tokens) == 0 for text in everything)


def test_recurrent_models_in_a_batch():
    """A model that needs no bound is batched in the same way."""
    model = models.mamba(key=jr.key(0), vocabulary=11, d=4, layers=1)
    for prompt, text in zip(PROMPTS, generate_batch(model, PROMPTS, 4, temperature=0), strict=True):
        np.testing.assert_array_equal(text.tokens, generate(model, prompt, 4, temperature=0)[0])


def test_what_does_not_fit_is_said_before(monkeypatch):
    """More states than there is memory: how much is needed, what is free, and how many would fit."""
    one = room.state_bytes(SMALL)
    assert one == sum(leaf.nbytes for leaf in jax.tree.leaves(SMALL.init_state()))
    monkeypatch.setattr(room, "free_bytes", lambda: 2 * one)
    with pytest.raises(
        InputError, match=r"3 sequences need .* kB for the states.* are free. Give fewer at once, 2 at most"
    ):
        generate_batch(SMALL, PROMPTS, 6, temperature=0)
    assert len(generate_batch(SMALL, PROMPTS[:2], 1, temperature=0)) == 2


def test_free_memory_is_measured():
    """What this machine says is free lies between a megabyte and what could be addressed."""
    free = room.free_bytes()
    assert free is None or 10**6 < free < 2**50


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ((), {}, "there are no prompts"),
        ((TOKENS[:3], TOKENS[:0]), {}, "prompt 2 is empty"),
        ((TOKENS[:3],), {"length": 0}, "length is 0"),
        ((TOKENS[:3],), {"chunk": 0}, "chunk is 0"),
        ((TOKENS[:3] + 100,), {}, "this vocabulary goes from 0"),
        ((TOKENS[:3],), {"temperature": 1.0}, "no key is given"),
    ],
)
def test_bad_batches(prompts, options, message):
    """A sentence that says what to give instead."""
    with pytest.raises(InputError, match=message):
        generate_batch(SMALL, prompts, **{"length": 3, "temperature": 0} | options)


@pytest.mark.parametrize("form", [pytest.param(lambda model: model, marks=pytest.mark.slow), for_decoding])
def test_a_cache_too_small_is_said(form):
    """Where nothing may be dropped and there are too few places, no token is made; one place more is enough."""
    with pytest.raises(InputError, match="prompt 2 has 9 tokens, and 6 are to follow; the policy full has 12 places"):
        generate_batch(form(bounded(MODEL, "full", 12)), [TOKENS[:3], TOKENS[:9]], 6, temperature=0)
    model, whole = form(bounded(MODEL, "full", 13)), bounded(MODEL, "full", 64)
    found = generate_batch(model, [TOKENS[:3], TOKENS[:9]], 6, temperature=0)
    for text, expected in zip(found, generate_batch(whole, [TOKENS[:3], TOKENS[:9]], 6, temperature=0), strict=True):
        np.testing.assert_array_equal(text.tokens, expected.tokens)
        assert np.all(np.isfinite(text.logprobs))
