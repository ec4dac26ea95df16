"""The parallel gated network: exact answers, its fixed lags, and weights that do not fit."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.mixers import PGN
from tests.laws import laws


def gated(logit: float) -> PGN:
    """A sum of the two tokens before, a gate of sigma(logit), and a candidate of 0."""
    zeros = np.zeros((1, 2))
    return PGN(w_h=np.ones((1, 2, 1)), b_h=np.zeros(1), w_g=zeros, b_g=np.full(1, logit), w_t=zeros, b_t=np.zeros(1))


def test_exact_answers():
    """With an open gate y_t = x_{t-2} + x_{t-1}, with one half open half of it; the token itself is not in it."""
    x = jnp.array([[1.0], [2.0], [4.0], [8.0]])
    assert np.asarray(gated(1000.0)(x)[0])[:, 0].tolist() == [0, 1, 3, 6]
    assert np.asarray(gated(0.0)(x)[0])[:, 0].tolist() == [0, 0.5, 1.5, 3]
    closed = dataclasses.replace(gated(-1000.0), w_t=np.array([[1.0, 0.5]]), b_t=np.array([0.25]))
    expected = np.tanh([1.25, 2 + 0.5 + 0.25, 4 + 1.5 + 0.25, 8 + 3 + 0.25])
    np.testing.assert_allclose(np.asarray(closed(x)[0])[:, 0], expected, rtol=1e-14)


def test_nothing_older_than_the_window_is_remembered():
    """The state is the last tokens; a token farther back than the window has no part in an output."""
    mixer, x = PGN.make(4, key=jr.key(0), window=3), laws.sequence(0, 8)
    y, state = laws.call(mixer, x)
    assert np.array_equal(np.asarray(state), np.asarray(x[-3:]))
    forgotten, _ = laws.call(mixer, x.at[0].set(100.0))
    changed = np.any(np.asarray(forgotten != y), axis=1)
    assert changed.tolist() == [True] * 4 + [False] * 4
    # What lies beyond is the rounding of a difference to the bias.
    reached = (np.abs(np.asarray(dual_form(mixer, x).contributions)) > 1e-14).any(axis=2)
    assert np.array_equal(reached, np.tril(np.ones((8, 8), bool)) & ~np.tril(np.ones((8, 8), bool), -4))


def test_the_dual_form_by_hand():
    """From s to t: g W + (1 - g) slope (W_t's part of H) W, and at s = t what the candidate takes of the token."""
    mixer, x = PGN.make(3, key=jr.key(0), window=2), laws.sequence(0, 5, 3)
    w_h, w_t, w_g, b_g = (np.asarray(each) for each in (mixer.w_h, mixer.w_t, mixer.w_g, mixer.b_g))
    before = np.concatenate([np.zeros((2, 3)), x])
    history = np.stack([np.einsum("njd,jd->n", w_h, before[t : t + 2]) for t in range(5)]) + np.asarray(mixer.b_h)
    both = np.concatenate([x, history], axis=1)
    gate, c = 1 / (1 + np.exp(-(both @ w_g.T + b_g))), both @ w_t.T + np.asarray(mixer.b_t)
    slope = np.tanh(c) / c
    form = dual_form(mixer, x)
    for t, s in np.ndindex(5, 5):
        expected = np.zeros(3)
        if s == t:
            expected = (1 - gate[t]) * slope[t] * (w_t[:, :3] @ x[s])
        elif 0 < t - s <= 2:
            h = w_h[:, 2 - (t - s)] @ x[s]
            expected = gate[t] * h + (1 - gate[t]) * slope[t] * (w_t[:, 3:] @ h)
        np.testing.assert_allclose(np.asarray(form.contributions[t, s]), expected, atol=1e-14)


@pytest.mark.slow
def test_other_windows_keep_the_laws():
    """Windows of one token, and longer than the sequence; a readout of another width."""
    for width in (1, 9):
        mixer, x = PGN.make(3, key=jr.key(0), n=5, window=width), laws.sequence(0, 6, 3)
        assert mixer.d_out == 5 and mixer.init_state().shape == (width, 3)
        laws.steps_give_the_parallel_form(mixer, x, 4)
        laws.contributions_sum_to_the_output(mixer, x)


BAD = {
    "a flat map": (
        {"w_h": np.zeros((4, 12))},
        r"w_h has shape \(4, 12\); it must be \(4, window, 4\): \(n, window, d\)",
    ),
    "no window": (
        {"w_h": np.zeros((4, 0, 4))},
        r"w_h has shape \(4, 0, 4\); it must be \(n, window, d\), window at least 1",
    ),
    "a short bias": ({"b_h": np.zeros(3)}, r"b_h has shape \(3,\); it must be \(4,\): \(n,\), where n is 4 in w_h"),
    "a blind gate": ({"w_g": np.zeros((4, 4))}, r"w_g has shape \(4, 4\); it must be \(4, 8\)"),
    "a blind candidate": ({"w_t": np.zeros((4, 4))}, r"w_t has shape \(4, 4\); it must be \(4, 8\)"),
    "a short bias of the gate": ({"b_g": np.zeros(3)}, r"b_g has shape \(3,\); it must be \(4,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_fit(unchecked, case):
    """What is wrong with the weights is said, with its value, and what to do."""
    changed, message = BAD[case]
    with pytest.raises(InputError, match=message):
        dataclasses.replace(PGN.make(4, key=jr.key(0)), **changed)


def test_a_window_of_no_token_is_refused():
    """`make` says so."""
    with pytest.raises(InputError, match="window is 0; it must be at least 1 token"):
        PGN.make(4, key=jr.key(0), window=0)
