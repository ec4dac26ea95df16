"""Sequences with a map of their own: how they are drawn, and the law of what follows, against all maps one by one."""

import itertools

import jax.random as jr
import numpy as np

from dualform.experiments.lsrl.hidden_map import (
    FOLLOWS,
    OTHERWISE,
    SYMBOLS,
    drawn,
    entropy,
    excess,
    predictive,
    without_context,
)

Q = np.asarray(OTHERWISE)


def by_all_maps(tokens: np.ndarray) -> np.ndarray:
    """p(next | so far) of one sequence as a sum over every map there is, each as likely at first."""
    maps = np.array(list(itertools.product(range(SYMBOLS), repeat=SYMBOLS)))
    likely, found = np.ones(len(maps)), []
    for t, x in enumerate(tokens):
        if t:
            likely = likely * (FOLLOWS * (maps[:, tokens[t - 1]] == x) + (1 - FOLLOWS) * Q[x])
        says = np.eye(SYMBOLS)[maps[:, x]]
        found.append((likely / likely.sum()) @ (FOLLOWS * says + (1 - FOLLOWS) * Q))
    return np.array(found)


def test_the_law_is_that_of_all_maps():
    """The closed form is the sum over all 27 maps, at every token."""
    tokens = np.asarray(drawn(jr.key(0), 20, 24))
    assert np.allclose(predictive(tokens), [by_all_maps(row) for row in tokens], atol=1e-12)


def test_what_is_drawn_follows_the_law():
    """Symbols come as often as the law says, within five standard errors, and so does the loss."""
    tokens = np.asarray(drawn(jr.key(1), 2000, 25))
    law, following = predictive(tokens[:, :-1]), tokens[:, 1:]
    taken = np.take_along_axis(law, following[..., None], axis=-1)[..., 0]
    for symbol in range(SYMBOLS):
        p = law[..., symbol]
        error = np.sum((following == symbol) - p) / np.sqrt(np.sum(p * (1 - p)))
        assert abs(error) < 5
    losses = -np.log(taken)
    assert abs(losses.mean() - entropy(law)) < 5 * losses.std() / np.sqrt(losses.size)
    known = (FOLLOWS + (1 - FOLLOWS) * Q).max()
    assert 1 / SYMBOLS < taken.max() <= known


def test_excess_is_that_of_the_law():
    """0 of the law itself, whatever is added to its logits; above 0 of all else; infinite of what is not finite."""
    law = predictive(np.asarray(drawn(jr.key(2), 50, 24)))
    assert abs(excess(law, np.log(law) + 3)) < 1e-12
    context = excess(law, np.broadcast_to(without_context(), law.shape))
    assert context > 0.1
    assert excess(law, np.full(law.shape, 2.0)) > context
    assert excess(law, np.full(law.shape, np.nan)) == float("inf")
