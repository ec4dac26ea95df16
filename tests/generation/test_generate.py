"""Generated tokens are those that the parallel form would have chosen, and go on from a state."""

import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.counts import key_of
from dualform.errors import InputError
from dualform.generation import Session, choose_token, generate, generate_batch, stream
from dualform.generation.sampling import kept
from tests.laws import laws
from tests.models.families import VOCABULARY, language_model, tokens
from tests.tiers import tiers


@functools.cache
def the_model() -> Any:
    """Of weights whose likeliest text is not one token over and over."""
    return eqx.tree_at(
        lambda model: (model.embedding, model.head),
        language_model("griffin_recurrent", "linear_attention"),
        (jr.normal(jr.key(5), (VOCABULARY, 4)), 3 * jr.normal(jr.key(105), (VOCABULARY, 4))),
    )


PROMPT, LENGTH = tokens(6, 5), 8


@pytest.fixture(scope="module")
def greedy():
    """Eight tokens after the prompt, and the state."""
    return generate(the_model(), PROMPT, LENGTH, temperature=0)


def test_greedy_is_the_argmax_of_the_parallel_form(greedy):
    """Every token is the likeliest one after all before it, read at once; the state is that of all but the last."""
    found, state = greedy
    text = jnp.concatenate([PROMPT, found.astype(PROMPT.dtype)])
    logits, _ = laws.call(the_model(), text)
    np.testing.assert_array_equal(found, jnp.argmax(logits[len(PROMPT) - 1 : -1], axis=1))
    laws.check_close(state, laws.call(the_model(), text[:-1])[1], laws.EXACT, "the state")
    assert found.shape == (LENGTH,) and len(set(found.tolist())) >= 4


def test_going_on_is_one_long_run(greedy):
    """Three tokens, and five more from the returned state and the last of them, are the eight of one run."""
    first, state = generate(the_model(), PROMPT, 3, temperature=0)
    second, last = generate(the_model(), first[-1:], 5, temperature=0, state=state)
    np.testing.assert_array_equal(jnp.concatenate([first, second]), greedy[0])
    laws.check_close(last, greedy[1], laws.EXACT, "the state")


def test_a_prompt_may_be_read_in_parts(greedy):
    """A prompt of which the first part is in the state already gives the same."""
    _, state = laws.call(the_model(), PROMPT[:2])
    np.testing.assert_array_equal(generate(the_model(), PROMPT[2:], LENGTH, temperature=0, state=state)[0], greedy[0])


def test_plain_numbers_are_a_prompt(greedy):
    """A list of numbers is a prompt, too, and at temperature 0 a key changes nothing."""
    found, _ = generate(the_model(), PROMPT.tolist(), LENGTH, temperature=0, key=jr.key(1))
    np.testing.assert_array_equal(found, greedy[0])


def test_it_is_compiled_once(caplog):
    """A second prompt of the same length, with another key and state, compiles nothing."""

    def compilations(seed, state):
        caplog.clear()
        with jax.log_compiles():
            _, state = generate(the_model(), prompts[seed], 4, key=keys[seed], state=state)
        return sum("ompiling" in record.message for record in caplog.records), state

    prompts, keys = [jnp.asarray(tokens(seed, 3)) for seed in (0, 1)], [jr.key(seed) for seed in (0, 1)]
    first, state = compilations(0, the_model().init_state())
    assert first > 0 and compilations(1, state)[0] == 0


def test_draws_follow_the_probabilities():
    """Tokens are drawn with the probabilities of the softmax at that temperature; the same key gives the same token."""
    logits, keys = jnp.array([2.0, 1.0, 0.0, -1.0]), jr.split(jr.key(0), 20_000)
    draw = jax.jit(jax.vmap(lambda key: choose_token(logits, key, temperature=0.5)))
    share = np.bincount(np.asarray(draw(keys)), minlength=4) / len(keys)
    expected = np.asarray(jax.nn.softmax(logits / 0.5))
    # Five standard deviations of a share of 20,000 draws.
    assert np.abs(share - expected).max() < 5 * 0.5 / np.sqrt(len(keys))
    same, again, other = (np.asarray(generate(the_model(), PROMPT, LENGTH, key=jr.key(seed))[0]) for seed in (4, 4, 5))
    assert (same == again).all() and (same != other).any()


@pytest.mark.parametrize(
    "settings, left",
    [
        ((None, None), [0, 1, 2, 3]),
        ((2, None), [1, 3]),
        ((1, None), [1]),
        ((None, 0.6), [1, 3]),
        ((None, 0.4), [1]),
        ((None, 1e-9), [1]),
        ((None, 1.0), [0, 1, 2, 3]),
        ((3, 0.7), [1, 3]),
    ],
)
def test_what_is_left_out(settings, left):
    """`top_k` leaves the k likeliest, `top_p` as few as have that share (after `top_k`); the others have no chance."""
    logits = jnp.log(jnp.array([0.15, 0.45, 0.1, 0.3]))
    found = kept(logits, *settings)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(found)), left)
    np.testing.assert_array_equal(found[jnp.array(left)], logits[jnp.array(left)])


def test_equal_logits_are_not_all_kept():
    """Of equal logits as many are left as asked for."""
    assert int(jnp.isfinite(kept(jnp.zeros(5), 2, None)).sum()) == 2


def test_top_k_of_one_is_greedy(greedy):
    """With one token left, drawing is choosing the likeliest."""
    np.testing.assert_array_equal(generate(the_model(), PROMPT, LENGTH, key=jr.key(3), top_k=1)[0], greedy[0])


def test_the_same_key_gives_the_same_text():
    """Alone, as a stream, first of a batch and in a session, in one piece or two: a draw is of the key and the token's place."""
    choices: Any = ({"key": jr.key(3)}, {"key": jr.key(3), "temperature": 0.5, "top_k": 5})
    for settings in choices:
        expected = generate(the_model(), PROMPT, LENGTH, **settings)[0].tolist()
        assert list(itertools.islice(stream(the_model(), PROMPT, **settings), LENGTH)) == expected
        assert generate_batch(the_model(), [PROMPT, PROMPT], LENGTH, **settings)[0].tokens.tolist() == expected
        session = Session(the_model())
        session.read(PROMPT)
        assert session.write(3, **settings) + session.write(LENGTH - 3, **settings) == expected


def test_what_is_traced_is_told():
    """A text is written on the host: a sentence says what there is for several prompts."""
    with pytest.raises(
        InputError, match="these tokens are traced, .* Leave jax.jit and jax.vmap out; for several prompts"
    ):
        jax.vmap(lambda prompt: generate(the_model(), prompt, LENGTH, temperature=0)[0])(jnp.stack([PROMPT, PROMPT]))


BAD = {
    "empty": ({"prompt": []}, "the prompt is empty; give at least one token"),
    "empty integers": ({"prompt": jnp.zeros(0, int)}, "the prompt is empty; give at least one token"),
    "real": ({"prompt": [0.5]}, "tokens must be integers; got float64"),
    "out of the vocabulary": ({"prompt": [1, VOCABULARY]}, "token 1 is 7; this vocabulary goes from 0 to 6"),
    "negative": ({"prompt": [-1]}, "token 0 is -1; this vocabulary"),
    "a batch": ({"prompt": [[1]]}, r"one sequence, \(time,\); got shape \(1, 1\)"),
    "length 0": ({"length": 0}, "length is 0; give a whole number of tokens, at least 1"),
    "negative length": ({"length": -2}, "length is -2; give a whole number"),
    "half a token": ({"length": 1.5}, "length is 1.5; give a whole number"),
    "no key": ({"temperature": 1.0}, "temperature 1.0, and no key is given. Pass key="),
    "temperature": ({"temperature": -1.0}, "temperature is -1.0; give 0 for the likeliest"),
    "top_k 0": ({"top_k": 0}, "top_k is 0; at least 1 token must be left"),
    "top_k": ({"top_k": 8}, "top_k is 8; the vocabulary has 7 tokens"),
    "top_p 0": ({"top_p": 0.0}, "top_p is 0.0; it is a share of probability"),
    "top_p": ({"top_p": 1.5}, "top_p is 1.5; it is a share of probability"),
    "sequences of different lengths": (
        {"prompt": [[1], [2, 3]]},
        "one sequence of integers; got several, of different len",
    ),
    "a text as a temperature": ({"temperature": "1"}, "temperature is 1; give 0 for the likeliest"),
    "no temperature": ({"temperature": None}, "temperature is None; give 0 for the likeliest"),
    "several temperatures": ({"temperature": np.ones(2)}, r"temperature is \[1. 1.\]; give 0 for the likeliest"),
    "a text as top_p": ({"top_p": "a"}, "top_p is a; it is a share of probability"),
    "min_p": ({"min_p": 1j}, "min_p is 1j; it is a share of the likeliest"),
    "a seed as a key": (
        {"temperature": 1.0, "key": 0},
        "the key is 0, which is not one PRNG key. Pass key=jax.random.key",
    ),
    "several keys": ({"temperature": 1.0, "key": jr.split(jr.key(0))}, "which is not one PRNG key"),
    "numbers as a key": ({"temperature": 1.0, "key": np.arange(3)}, r"the key is \[0 1 2\], which is not one PRNG key"),
    "state": ({"state": ()}, "the state does not belong to this LanguageModel"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What is wrong is said, with which value, and what to do."""
    changed, message = BAD[case]
    given = {"prompt": PROMPT, "length": 2, "temperature": 0} | changed
    with pytest.raises(InputError, match=message):
        generate(the_model(), **given)


@pytest.mark.parametrize(
    "dtype", tiers([jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16], jnp.float32, jnp.float16)
)
@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9}, {"top_k": 3, "min_p": 0.01}])
def test_at_the_lowest_temperatures_the_likeliest_is_drawn(dtype, settings):
    """Down to the smallest float above 0, from logits of either sign and of any size: as at 0."""
    no = -jnp.inf
    for logits in ([1.0, 3.0, 2.0, -5.0], [-700.0, -30.0, -80.0, -31.0], [0.0, 6e4, 5.9e4, -6e4], [no, 0.5, no, 0.25]):
        for temperature in (5e-324, 1e-310, 1e-45, 1e-38, 1e-30, 1e-9):
            drawn = choose_token(jnp.asarray(logits, dtype), jr.key(0), temperature=temperature, **settings)
            assert int(drawn) == 1


def test_the_highest_temperature_draws_evenly():
    """At the largest float all tokens are alike, but those that cannot be."""
    logits = jnp.asarray([1.0, -jnp.inf, 3.0], jnp.float32)
    drawn = jax.vmap(lambda key: choose_token(logits, key, temperature=1e308))(jr.split(jr.key(0), 300))
    counts = np.bincount(np.asarray(drawn), minlength=3)
    assert counts[1] == 0 and abs(counts[0] - 150) < 5 * np.sqrt(300) / 2


def test_a_temperature_may_be_traced():
    """As an argument of a compiled function it gives what the number gives, 0 among them."""
    logits, key = jr.normal(jr.key(1), (11,)), jr.key(2)
    compiled = jax.jit(lambda temperature: choose_token(logits, key, temperature=temperature, top_k=5))
    for temperature in (0.0, 1e-310, 0.3, 1.0, 7.0):
        assert int(compiled(temperature)) == int(choose_token(logits, key, temperature=temperature, top_k=5))


def test_counts_may_be_numpys():
    """A whole number of NumPy or JAX is one; what is none is told."""
    model, prompt = models.mamba(key=jr.key(0), vocabulary=7, d=4, layers=1), np.array([1, 2])
    want = generate(model, prompt, 3, key=jr.key(1), top_k=2)[0]
    found = generate(model, prompt, np.int64(3), key=jr.key(1), top_k=np.uint8(2))[0]
    np.testing.assert_array_equal(found, want)
    assert len(generate_batch(model, [prompt], np.int32(2), temperature=0, chunk=np.int64(16))[0].tokens) == 2
    for wrong in (True, 3.0, np.float64(3), "3", None):
        with pytest.raises(InputError, match="length is .*; give a whole number of tokens, at least 1"):
            generate(model, prompt, wrong, temperature=0)  # pyright: ignore[reportArgumentType] - refused


def test_an_older_key_is_one(greedy):
    """Two numbers of `jax.random.PRNGKey` draw what the key of that seed draws."""
    logits = jnp.arange(7.0)
    draw = lambda key: int(choose_token(logits, key))
    assert [draw(jr.PRNGKey(seed)) for seed in range(9)] == [draw(jr.key(seed)) for seed in range(9)]


def test_every_seed_is_a_key_of_its_own():
    """Up to 32 bits as JAX has it; beyond them another one, the same with float64 and without; a negative one is refused."""
    seeds = [0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**63 - 1]
    for x64 in (False, True):
        with jax.enable_x64(x64):
            keys = [tuple(np.asarray(jr.key_data(key_of(seed))).tolist()) for seed in seeds]
            assert len(set(keys)) == len(seeds) and keys[:5] == [(0, 0), (0, 1), (0, 2**32 - 1), (1, 0), (1, 1)]
            assert keys[1] == tuple(np.asarray(jr.key_data(jr.key(1))).tolist())
    for wrong in (2**63, -1, -(2**40), 0.5, True, "0"):
        with pytest.raises(InputError, match=r"the seed is .*; give a whole number from 0 to 2\^63 - 1"):
            key_of(wrong)  # pyright: ignore[reportArgumentType] - refused
