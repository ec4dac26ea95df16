"""Softmax attention and Aaren: exact answers, windows, places, their maps, and what they say of weights that do not fit."""

import dataclasses
from itertools import product

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.dual.as_rnn import attention_as_rnn
from dualform.errors import InputError
from dualform.mixers import Aaren, SoftmaxAttention
from tests.laws import laws
from tests.tiers import tiers

D = 4


def attention(**options):
    return SoftmaxAttention.make(D, key=jr.key(0), **options)


def test_a_window_is_attention_up_to_its_length():
    """A window of 8 gives attention without one for 8 tokens, and forgets the first at the ninth."""
    mixer, x = attention(window=8), laws.sequence(0, 9)
    whole = dataclasses.replace(mixer, window=100)
    y, y_whole = mixer(x)[0], whole(x)[0]
    laws.check_close(y[:8], y_whole[:8], laws.EXACT, "up to the window")
    assert not np.allclose(y[8], y_whole[8])
    changed = mixer(x.at[0].set(100.0))[0]
    assert (changed[8] == y[8]).all() and not (changed[7] == y[7]).all()


def test_a_context_sees_all_that_a_call_is_given():
    """Longer than its context, packed and with absent tokens, a call is attention without a window; its gradient is finite."""
    mixer, x = attention(context=4), laws.sequence(0, 14)
    whole = dataclasses.replace(mixer, window=100, context=None)
    start, mask = jnp.arange(14) == 8, jnp.arange(14) % 5 != 3
    for flags in ({}, {"start": start, "mask": mask}):
        laws.check_close(mixer(x, **flags)[0], whole(x, **flags)[0], laws.EXACT, str(list(flags)))
    laws.check_close(attention_as_rnn(mixer, x), whole(x)[0], laws.EXACT, "row by row")
    form = dual_form(mixer, x)
    assert form.residual < 1e-12 and np.isfinite(form.weights).all()


def test_behind_a_context_nothing_is_said():
    """From a state of as many tokens as it holds a call goes on exactly; behind that it is NaN until a document begins."""
    mixer, x = attention(context=4), laws.sequence(0, 14)
    whole = dataclasses.replace(mixer, window=100, context=None)
    y, state = mixer(x[:3])
    after, behind = mixer(x[3:10], state)
    laws.check_close(jnp.concatenate([y, after]), whole(x[:10])[0], laws.EXACT, "from the last state that holds all")
    start = jnp.arange(4) == 2
    last, _ = mixer(x[10:], behind, start=start)
    assert np.isnan(last[:2]).all() and np.isnan(mixer.step(x[0], behind)[0]).all()
    laws.check_close(last[2:], mixer(x[12:])[0], laws.EXACT, "a document that begins")
    grad = jax.grad(lambda x: mixer(x, behind, start=start)[0][2:].sum())(x[10:])
    assert np.isfinite(grad).all()


def test_a_window_within_a_context():
    """Each token sees its window, and behind the context nothing is said."""
    mixer, x = attention(window=3, context=6), laws.sequence(0, 9)
    window = dataclasses.replace(mixer, context=None)
    y, state = mixer(x[:5])
    after, behind = mixer(x[5:6], state)
    assert mixer.bound == behind[0].places == 3
    laws.check_close(jnp.concatenate([y, after]), window(x[:6])[0], laws.EXACT, "within the context")
    assert np.isnan(mixer(x[6:], behind)[0]).all()


def test_one_token_is_its_value():
    """A window of 1 reads each token's own value, whatever the scores, and keeps no other."""
    mixer, x = attention(window=1), laws.sequence(0, 5)
    y, (cache, place) = mixer(x)
    o = jnp.einsum("hvd,td->thv", mixer.w_v, x).reshape(5, -1)
    laws.check_close(y, o @ mixer.w_o.T, laws.EXACT, "outputs")
    assert cache.places == 1 and place == 5


def test_places_do_not_matter_but_distances():
    """Rotary attention of a document that begins late is that of one that begins at once."""
    mixer, x = attention(), laws.sequence(0, 12)
    late = mixer(x, start=jnp.arange(12) == 5)[0][5:]
    laws.check_close(late, mixer(x[5:])[0], laws.EXACT, "outputs")
    laws.check_close(
        mixer(x[5:], mixer(x[:5])[1])[0],
        mixer(x[5:], after(mixer, x[:5], 10**6))[0],
        1e-9,
        "a million tokens later",
    )


def after(mixer, x, shift):
    """The state after these tokens, had they come `shift` tokens later."""
    return mixer(x, (mixer.init_state()[0], jnp.asarray(shift, jnp.int32)))[1]


def test_grouped_heads_share():
    """One key-value head for two heads is two equal ones."""
    shared = attention(kv_heads=1)
    twice = dataclasses.replace(shared, w_k=jnp.repeat(shared.w_k, 2, 0), w_v=jnp.repeat(shared.w_v, 2, 0))
    x = laws.sequence(1, 20)
    laws.check_close(shared(x)[0], twice(x)[0], laws.EXACT, "outputs")


@pytest.mark.parametrize("make", [attention, lambda: Aaren.make(D, key=jr.key(0))])
def test_rows_of_the_map_are_averages(make):
    """Without a past, each row of the map is a distribution over what it may see, absent tokens aside."""
    x, mask = laws.sequence(0, 10), jnp.arange(10) != 4
    weights = np.asarray(dual_form(make(), x, start=jnp.arange(10) == 6, mask=mask).weights)
    assert (weights >= 0).all() and np.allclose(weights.sum(-1)[:, np.asarray(mask)], 1)
    assert not weights[:, 4].any() and not weights[:, :, 4].any() and not weights[:, 6:, :6].any()


def test_equal_scores_are_a_mean():
    """With a query of 0 Aaren gives the mean of the values so far."""
    mixer = Aaren(query=np.zeros((1, 1)), w_k=np.ones((1, 1, 1)), w_v=np.ones((1, 1, 1)), w_o=np.ones((1, 1)))
    y, (m, u, w) = mixer(jnp.array([[1.0], [3.0], [8.0]]))
    assert y[:, 0].tolist() == [1.0, 2.0, 4.0] and (m[0], u[0], w[0, 0]) == (0.0, 3.0, 12.0)


@pytest.mark.parametrize(
    ("scale", "dtype"), tiers(product([1e2, 1e4], [jnp.float32, jnp.bfloat16]), (1e4, jnp.bfloat16))
)
def test_huge_scores_stay_finite(scale, dtype):
    """Scores of thousands and millions give no NaN, neither forward nor in gradients."""
    for mixer in (attention(dtype=dtype), Aaren.make(D, key=jr.key(0), dtype=dtype)):
        laws.extremes_stay_finite(mixer, (scale * laws.sequence(0, 6)).astype(dtype))


HEAD = np.zeros((2, 4, D))
BAD = {
    "heads that do not divide the width": (lambda: attention(heads=3), "3 heads do not divide a width of 4"),
    "no key-value head": (lambda: attention(kv_heads=0), "0 key-value heads are none; give at least 1"),
    "key-value heads that do not divide": (
        lambda: SoftmaxAttention(w_q=np.zeros((3, 4, D)), w_k=HEAD, w_v=HEAD, w_o=np.zeros((D, 12))),
        "2 key-value heads do not divide 3 heads",
    ),
    "no window": (lambda: attention(window=0), "window is 0; a token sees at least itself"),
    "no context": (lambda: attention(context=0), "context is 0; a token sees at least itself"),
    "no end": (
        lambda: dataclasses.replace(attention(), window=None),
        "without a window and without a context has a state without an end; give it one: context=4096",
    ),
    "odd channels": (
        lambda: attention(rotary=1),
        "rotary is 1; channels are turned in pairs, so give an even number up",
    ),
    "too many channels": (lambda: attention(rotary=4), "rotary is 4; channels are turned in pairs.* up to d_k = 2"),
    "flat queries": (
        lambda: SoftmaxAttention(w_q=HEAD[0], w_k=HEAD, w_v=HEAD, w_o=np.zeros((D, 8))),
        r"w_q has shape \(4, 4\); it must be \(2, 4, 4\): \(head, d_k, d\), where head is 2 in w_o, d_k is 4 in w_k",
    ),
    "a short readout": (
        lambda: SoftmaxAttention(w_q=HEAD, w_k=HEAD, w_v=HEAD, w_o=np.zeros((D, 7))),
        r"w_o has shape .* \(d_out, 8\)",
    ),
    "a short bias": (
        lambda: SoftmaxAttention(w_q=HEAD, w_k=HEAD, w_v=HEAD, w_o=np.zeros((D, 8)), b_o=np.zeros(3)),
        r"b_o has shape \(3,\); it must be \(4,\), or None",
    ),
    "another query": (
        lambda: Aaren(query=np.zeros((2, 3)), w_k=HEAD, w_v=HEAD, w_o=np.zeros((D, 8))),
        r"w_k has shape \(2, 4, 4\); it must be \(2, 3, 4\): \(head, d_k, d\), where .* d_k is 3 in query",
    ),
    "other heads": (
        lambda: Aaren(query=np.zeros((2, 4)), w_k=HEAD, w_v=HEAD[:1], w_o=np.zeros((D, 8))),
        r"w_v has shape \(1, 4, 4\); it must be \(2, 4, 4\): \(head, d_v, d\), where head is 2 in query, d_v is 4 in w_o, d is 4",
    ),
    "Aaren's readout": (
        lambda: Aaren(query=np.zeros((2, 4)), w_k=HEAD, w_v=HEAD, w_o=np.zeros((D, 7))),
        r"w_o has shape .* \(d_out, 8\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_weights(case):
    """A sentence each."""
    build, message = BAD[case]
    with pytest.raises(InputError, match=message):
        build()
