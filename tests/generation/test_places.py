"""A policy that drops nothing refuses what it has no place for, whoever reads or writes; up to there nothing is bounded."""

import functools
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.errors import InputError
from dualform.generation import (
    PrefixStore,
    Session,
    bounded,
    generate,
    generate_batch,
    perplexity,
    read_prompt,
    stream,
    survivors,
)
from dualform.generation.places import places_of
from dualform.mixers import GatedRNN, SoftmaxAttention
from dualform.tasks import Teacher
from tests.laws import laws

SIZES: Any = {"vocabulary": 11, "d": 8, "layers": 1, "heads": 2, "kv_heads": 1, "hidden": 8, "context": 64}
TEXT = np.asarray(jr.randint(jr.key(3), (20,), 0, 11))
GREEDY: Any = {"temperature": 0}


@functools.cache
def full(states: int) -> Any:
    return bounded(models.llama(key=jr.key(0), **SIZES), "full", states)


def read(count: int) -> Session:
    session = Session(full(6))
    session.read(TEXT[:count])
    return session


def taken(prompt: int, count: int, **options: Any) -> list[int]:
    tokens = stream(full(6), TEXT[:prompt], **GREEDY, **options)
    return [next(tokens) for _ in range(count)]


# 6 states and the newest token: 7 tokens can be read. What is written last is read by sessions and streams.
BEYOND = {
    "generate": (lambda: generate(full(6), TEXT[:5], 4, **GREEDY), "the prompt has 5 tokens, and 4 are to follow"),
    "generate, from a state": (
        lambda: generate(full(6), TEXT[3:5], 4, state=full(6)(TEXT[:3])[1], **GREEDY),
        "3 tokens were read; the prompt has 2 tokens, and 4 are to follow",
    ),
    "a batch": (lambda: generate_batch(full(6), [TEXT[:2], TEXT[:5]], 4, **GREEDY), "prompt 2 has 5 tokens, and 4"),
    "a stream": (lambda: taken(5, 3), "7 tokens were read; what is written has 1 tokens"),
    "a stream's prompt": (lambda: taken(8, 1), "the prompt has 8 tokens; the policy full has 6 places"),
    "a stream, read at once": (
        lambda: taken(8, 1, at_once=True),
        "the prompt has 8 tokens; the policy full has 6 places",
    ),
    "a prompt, read at once": (
        lambda: read_prompt(full(6), jnp.asarray(TEXT[:8])),
        "the prompt has 8 tokens; the policy full has 6 places",
    ),
    "a session": (
        lambda: read(5).read(TEXT[:3]),
        "5 tokens were read; the text has 3 tokens; the policy full has 6 places",
    ),
    "a session that writes": (lambda: read(5).write(3, **GREEDY), "7 tokens were read; what is written has 1 tokens"),
    "a store": (
        lambda: PrefixStore(9**9, chunk=2).read(full(6), TEXT[:8]),
        "the text has 8 tokens; the policy full has 6",
    ),
    "perplexity": (lambda: perplexity(full(6), TEXT[:9][None]), "a passage, but for its last token, has 8 tokens; the"),
    "survivors": (
        lambda: survivors(full(6), TEXT[:8]),
        "the text has 8 tokens; the policy full has 6 places. Bound the",
    ),
}


@pytest.mark.parametrize("case", BEYOND)
def test_beyond_its_places(case):
    """One sentence, from every driver: how many places there are, and what to do."""
    use, message = BEYOND[case]
    with pytest.raises(InputError, match=message):
        use()


def test_up_to_its_places_nothing_is_lost():
    """At the last place every driver gives what it gives with room to spare."""
    assert places_of(full(6)) == 7 and places_of(models.mamba(key=jr.key(0), vocabulary=11, d=4, layers=1)) is None
    want = [int(token) for token in generate(full(20), TEXT[:5], 3, **GREEDY)[0]]
    assert [int(token) for token in generate(full(6), TEXT[:5], 3, **GREEDY)[0]] == want and taken(5, 2) == want[:2]
    assert generate_batch(full(6), [TEXT[:5]], 3, **GREEDY)[0].tokens.tolist() == want
    session = read(5)
    assert session.write(2, **GREEDY) == want[:2] and np.isfinite(np.asarray(session.logits)).all()
    found, whole = (perplexity(full(states), TEXT[:8][None]).value for states in (6, 20))
    laws.check_close(found, whole, 1e-12, "perplexity")
    with pytest.raises(InputError):
        session.read([1])
    assert len(session) == 7 and np.isfinite(np.asarray(session.logits)).all()


def test_a_context_is_told_before_anything_is_read():
    """A store keeps nothing of a text beyond the context; `generate` counts what its state has read."""
    model, text, store = models.llama(key=jr.key(0), **SIZES), np.resize(TEXT, 65), PrefixStore(9**9, chunk=16)
    with pytest.raises(InputError, match="in a context of 64 tokens .* and 65 are to be read"):
        store.read(model, text)
    assert len(store) == 0
    _, state = model(jnp.asarray(text[:60]))
    assert len(generate(model, text[60:62], 3, state=state, **GREEDY)[0]) == 3
    with pytest.raises(InputError, match="and 65 are to be read"):
        generate(model, text[60:62], 4, state=state, **GREEDY)


SLIDING = SoftmaxAttention.make(4, key=jr.key(0), window=10**12)
TOO_LARGE = {
    "a window that slides": (SLIDING.init_state, "the state of a layer that sees 1,000,000,000,000 tokens takes 64"),
    "states": (lambda: Session(full(10**12)), "a layer with 1,000,000,000,000 states takes .* free. Keep fewer"),
    "a student": (lambda: GatedRNN.make(4, key=jr.key(0), n=10**9, m=10**9), "a gated RNN of n 1,000,000,000 and m"),
    "a teacher": (lambda: Teacher.gaussian(10**9, key=jr.key(0)), "a teacher of width 1,000,000,000 takes"),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_does_not_fit_into_memory_is_told(case):
    """Before it is made: the system may end a program that has taken all there is, and JAX one that asks for too much."""
    make, message = TOO_LARGE[case]
    with pytest.raises(InputError, match=message):
        make()
