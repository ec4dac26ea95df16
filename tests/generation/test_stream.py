"""Text is streamed as it is certain, from the states that a call would leave; and a text is measured as its logits say."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.checkpoints.tokens import ByteTokens, CharacterTokens
from dualform.errors import InputError
from dualform.generation import Perplexity, Session, bounded, generate, passages_of, perplexity, stream, written
from dualform.generation.sampling import kept
from tests.generation.test_multi_state import MODEL, TOKENS
from tests.laws import laws

SMALL = bounded(MODEL, "tova", 4)


def test_a_stream_is_greedy_generation():
    """At temperature 0 the streamed tokens are those of `generate`, the prompt in chunks of 4 or not."""
    expected, _ = generate(SMALL, TOKENS[:9], 8, temperature=0)
    for chunk in (4, 256):
        found = list(itertools.islice(stream(SMALL, TOKENS[:9], temperature=0, chunk=chunk), 8))
        np.testing.assert_array_equal(found, expected)


def test_a_prompt_in_chunks_is_a_prompt():
    """Chunks, the last one filled up with what is not there, leave the state of one call."""
    session = Session(SMALL, chunk=4)
    session.read(TOKENS[:9])
    whole, after = eqx.filter_jit(SMALL)(TOKENS[:9])
    laws.check_close(session.logits, whole[-1], laws.EXACT, "logits")
    laws.check_close(session.state, after, laws.EXACT, "the state")


def test_draws_are_of_the_key():
    """The same key gives the same tokens, another one others; one token left is greedy."""
    draw = lambda **options: list(itertools.islice(stream(SMALL, TOKENS[:9], chunk=256, **options), 8))
    assert draw(key=jr.key(0)) == draw(key=jr.key(0)) != draw(key=jr.key(1))
    assert draw(key=jr.key(0), min_p=1.0) == draw(temperature=0)


def test_a_prompt_may_be_read_at_once():
    """The first token is then that of full attention."""
    first = next(iter(stream(SMALL, TOKENS, temperature=0, at_once=True)))
    assert first == int(jnp.argmax(MODEL(TOKENS)[0][-1]))


def test_min_p_leaves_a_share_of_the_likeliest():
    """Tokens below that share of the likeliest one's probability have no chance."""
    logits = jnp.log(jnp.array([0.15, 0.45, 0.1, 0.3]))
    for share, left in ((0.3, [0, 1, 3]), (0.5, [1, 3]), (1.0, [1]), (0.1, [0, 1, 2, 3])):
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(kept(logits, None, None, share))), left)


LETTERS = CharacterTokens("abcdefgh ")


def pieces(text: str, tokens: Any = LETTERS, length: int = 100, **options: Any) -> list[str]:
    ids = tokens.encode(text).tolist()
    return [piece for piece in written(tokens, iter(ids), length, **options) if piece]


def test_text_is_given_as_soon_as_it_is_certain():
    """Letter by letter; with a text to stop at, never a letter of it, nor of what follows."""
    assert pieces("abc") == ["a", "b", "c"]
    assert pieces("ab cd ef", stop=("cd", "x")) == ["a", "b", " "]
    assert "".join(pieces("abcab", stop=("abd",))) == "abcab"
    assert "".join(pieces("abcdefgh", length=3)) == "abc"
    assert "".join(pieces("abcdefgh", ends={4})) == "abcd"
    assert "".join(pieces("abdc", stop=("dc", "b"))) == "a"


def test_characters_are_whole():
    """A character of several tokens comes in one piece; what is no character is shown as such in the end."""
    assert pieces("h\u00e9\U0001f600!", ByteTokens()) == ["h", "\u00e9", "\U0001f600", "!"]
    assert "".join(written(ByteTokens(), iter([104, 0xC3]), 9)) == "h\ufffd"
    assert "".join(written(None, iter([3, 14]), 9)) == "3 14"


def test_perplexity_is_of_the_logits():
    """exp of the mean loss; the interval is that of the passages' means; a bounded model's is of its own logits."""
    passages = np.asarray(jr.randint(jr.key(1), (3, 9), 0, 11))
    losses = []
    for passage in passages:
        logits, _ = SMALL(jnp.asarray(passage))
        chosen = jax.nn.log_softmax(logits)[jnp.arange(8), passage[1:]]
        losses.append(-float(chosen.mean()))
    found = perplexity(SMALL, passages)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-10)
    mean = float(np.mean(losses))
    error = 4.302653 * float(np.std(losses, ddof=1)) / 3**0.5  # Student's t of 2 degrees of freedom
    np.testing.assert_allclose(found[:3], np.exp([mean, mean - error, mean + error]), rtol=1e-6)
    np.testing.assert_allclose(found.nats, [mean, mean - error, mean + error], rtol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_an_interval_of_few_passages_covers(count):
    """In 2,000 draws of normal losses the interval of 95% holds the truth in 95%, also of two passages; one tells nothing."""
    draws = np.random.default_rng(count).normal(3.0, 0.4, (2000, count))
    found = [Perplexity.of(losses) for losses in draws]
    share = np.mean([one.low <= np.exp(3.0) <= one.high for one in found])
    assert abs(share - 0.95) <= 4 * (0.95 * 0.05 / 2000) ** 0.5
    alone = Perplexity.of(draws[0, :1])
    assert (alone.low, alone.high) == (0, np.inf) and alone.nats[1:] == (-np.inf, np.inf)
    assert Perplexity.of(np.array([0.0, 1000.0])).high == np.inf


def test_passages_are_spread():
    """From the beginning to the end, none upon another, fewer where there is no place."""
    np.testing.assert_array_equal(passages_of(np.arange(11), 3, 3), [[0, 1, 2], [4, 5, 6], [8, 9, 10]])
    assert passages_of(np.arange(11), 9, 5).tolist() == [[0, 1, 2, 3, 4], [6, 7, 8, 9, 10]]
    assert passages_of(np.arange(11), 1, 5).tolist() == [[0, 1, 2, 3, 4]]


BAD = {
    "empty": (lambda: stream(SMALL, jnp.zeros(0, int), temperature=0), "the prompt is empty; give at least one token"),
    "chunk": (lambda: stream(SMALL, TOKENS, temperature=0, chunk=0), "chunk is 0; read at least 1 token"),
    "no key": (lambda: stream(SMALL, TOKENS), "at temperature 1.0, and no key is given"),
    "min_p": (lambda: stream(SMALL, TOKENS, key=jr.key(0), min_p=0.0), "min_p is 0.0; it is a share of the likeliest"),
    "length": (lambda: list(written(None, iter([1]), 0)), "length is 0; give at least 1 token"),
    "stop": (lambda: list(written(None, iter([1]), 3, ("",))), "a text to stop at is empty; leave it out"),
    "short": (lambda: passages_of(np.arange(4), 1, 5), "the text has 4 tokens; a passage needs 5. Give a longer text"),
    "no passage": (lambda: passages_of(np.arange(4), 0, 2), "0 passages of 2 tokens: give at least 1 of at least 2"),
    "one token": (
        lambda: perplexity(SMALL, np.zeros((2, 1), int)),
        r"passages have shape \(2, 1\); give \(passage, time\)",
    ),
    "unbounded": (lambda: stream(MODEL, TOKENS, temperature=0, at_once=True), "this model is not bounded"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_streams(case):
    """What cannot be streamed or measured is told in a sentence."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()


def test_the_perplexity_of_a_bad_model_is_infinite():
    """Where exp of the mean loss is beyond all numbers it is infinity, and the losses say how bad; nats are finite."""
    found = Perplexity.of(np.array([900.0, 1100.0, 1000.0]))
    assert found.value == found.high == math.inf and found.nats[0] == 1000.0 and found.losses.tolist()[0] == 900.0
    assert found.nats[1] < 1000 < found.nats[2] < math.inf
    one = Perplexity.of(np.array([709.5]))
    assert one.value == math.exp(709.5) and one.nats == (709.5, -math.inf, math.inf)
