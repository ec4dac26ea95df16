"""Softmax attention is a recurrence for each query: every way to read a row gives the row of the attention matrix."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.dual import attention_as_rnn
from dualform.errors import InputError
from dualform.mixers import LinearAttention, SoftmaxAttention
from dualform.mixers.softmax_attention import Attend
from dualform.recurrences import many_to_one, softmax_scan
from tests.laws import laws
from tests.laws.laws import ROUNDING, check_close

FAST: Any = "fast"  # no form
FORMS: tuple[Any, ...] = ("naive", "blocks", "associative")
TIME, HEADS, D_V = 21, 2, 3
VALUES = jr.normal(jr.key(1), (TIME, HEADS, D_V))
SCORES = {
    "ordinary": jr.normal(jr.key(0), (TIME, HEADS)),
    "extreme": jr.uniform(jr.key(2), (TIME, HEADS), minval=-1e4, maxval=1e4),
    "all high": 1e4 + jr.normal(jr.key(3), (TIME, HEADS)),
    "all low": -1e4 + jr.normal(jr.key(4), (TIME, HEADS)),
    "rising": jnp.broadcast_to(jnp.linspace(-1e4, 1e4, TIME)[:, None], (TIME, HEADS)),
    "falling": jnp.broadcast_to(jnp.linspace(1e4, -1e4, TIME)[:, None], (TIME, HEADS)),
}


@functools.partial(jax.jit, static_argnames=("form", "block"))
def read(scores, values, state=None, mask=None, *, form, block=4):
    return many_to_one(scores, values, state, mask=mask, form=form, block=block)


def row(scores, values) -> np.ndarray:
    """softmax(scores) times values, in NumPy."""
    weights = np.exp(scores - np.max(scores, axis=0))
    return np.einsum("sh,shv->hv", weights / weights.sum(0), values)


@pytest.mark.parametrize("form", FORMS)
def test_each_way_gives_the_row(form):
    """Token by token, by blocks (the last one not full) and as a tree: the row of the softmax, logits of +-10,000 included."""
    for name, scores in SCORES.items():
        o, (m, u, w) = read(scores, VALUES, form=form)
        check_close(o, row(np.asarray(scores), np.asarray(VALUES)), ROUNDING, name)
        check_close(w / u[:, None], o, ROUNDING, "the state")
        assert (np.asarray(m) == np.asarray(scores).max(0)).all()


@pytest.mark.parametrize("form", FORMS)
def test_parts_join_to_the_whole(form):
    """What was read before goes on; tokens that are not there change nothing; where none is, the output is 0."""
    scores, there = SCORES["extreme"], jnp.arange(TIME) % 3 != 1
    whole, state = read(scores, VALUES, form=form)
    _, first = read(scores[:8], VALUES[:8], form=form)
    found, after = read(scores[8:], VALUES[8:], first, form=form)
    check_close((found, after), (whole, state), ROUNDING, "in two parts")
    some, _ = read(scores, VALUES, None, there, form=form)
    check_close(some, read(scores[there], VALUES[there], form=form)[0], ROUNDING, "tokens that are there")
    empty, state = read(scores, VALUES, None, jnp.zeros(TIME, bool), form=form)
    assert not np.asarray(empty).any() and not np.asarray(state[1]).any()


def test_it_is_the_last_output_of_the_scan():
    """The many-to-many scan ends with it, and gradients are the same."""
    scores = SCORES["ordinary"]
    for form in FORMS:
        loss = lambda s, v, form=form: jnp.sum(many_to_one(s, v, form=form, block=4)[0] ** 2)
        scanned = lambda s, v: jnp.sum(softmax_scan(s, v)[0][-1] ** 2)
        found, expected = (jax.jit(jax.grad(f, (0, 1)))(scores, VALUES) for f in (loss, scanned))
        check_close(found, expected, ROUNDING, form)


ATTENTION = SoftmaxAttention.make(8, key=jr.key(5), heads=4, kv_heads=2, window=64)
X = jr.normal(jr.key(6), (TIME, 8))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sharp", [1.0, 4e3])
def test_attention_is_a_recurrence_for_each_query(form, sharp):
    """Every row of causal attention, grouped and rotary, is the end of a scan with that row's query, however sharp."""
    mixer = dataclasses.replace(ATTENTION, w_q=sharp * ATTENTION.w_q)
    own = laws.attention(mixer, X)
    assert isinstance(own.memory, Attend)
    q, k = own.memory.q, own.memory.k
    largest = float(jnp.abs(jnp.einsum("thk,shk->ths", q, jnp.repeat(k, 2, axis=1))).max())
    assert sharp == 1 or largest > 1e4
    o = np.einsum("hts,shv->thv", np.asarray(own.weights()), np.asarray(own.carried(X))).reshape(TIME, -1)
    found = jax.jit(lambda x: attention_as_rnn(mixer, x, form=form, block=4))(X)
    check_close(found, o @ np.asarray(mixer.w_o).T, ROUNDING, "the attention matrix")
    check_close(found, mixer(X)[0], ROUNDING, "the mixer")


def test_a_window_is_kept():
    """Local attention reads its window alone."""
    local = dataclasses.replace(ATTENTION, window=5)
    check_close(attention_as_rnn(local, X), local(X)[0], ROUNDING, "outputs")


BAD = {
    "shapes": (lambda: many_to_one(jnp.zeros((3, 2)), jnp.zeros((3, 1, 4))), r"got \(3, 2\) and \(3, 1, 4\)"),
    "empty": (
        lambda: many_to_one(jnp.zeros((0, 2)), jnp.zeros((0, 2, 4))),
        "length 0; a recurrence needs at least one time step",
    ),
    "form": (lambda: many_to_one(SCORES["ordinary"], VALUES, form=FAST), "many_to_one has no form 'fast'"),
    "block": (lambda: many_to_one(SCORES["ordinary"], VALUES, block=0), "block is 0; join at least 1 token at once"),
    "state": (
        lambda: many_to_one(SCORES["ordinary"], VALUES, (jnp.zeros(1), jnp.zeros(1), jnp.zeros((1, 3)))),
        r"the state has shapes \(\(1,\), \(1,\), \(1, 3\)\); the inputs need",
    ),
    "mixer": (
        lambda: attention_as_rnn(LinearAttention.make(8, heads=1, key=jr.key(0)), X),  # pyright: ignore - refused
        "a LinearAttention has no queries of its own; give softmax attention",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_get_a_sentence(unchecked, case):
    """What cannot be read is told in a sentence."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()
