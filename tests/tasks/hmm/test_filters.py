"""Exact filters: known answers, an independent implementation, and the tree of products against one token after the other."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hmmlearn.hmm import CategoricalHMM

from dualform.errors import InputError
from dualform.tasks.hmm import (
    HMM,
    LinearSystem,
    MatrixProduct,
    carried,
    cyclic_det,
    cyclic_hard,
    cyclic_rnd,
    linear_system,
    matrix_product,
    random_hmm,
)

EXACT = 1e-10
LONG, SHORT = 65_536, 128

CHAINS = {
    "random": lambda: random_hmm(4, 5, 0, jnp.float64),
    "cyclic-det": lambda: cyclic_det(4, 2, 0, jnp.float64),
    "cyclic-rnd": lambda: cyclic_rnd(4, 2, 0, jnp.float64),
    "cyclic-hard": lambda: cyclic_hard(2, 2, 0, jnp.float64, stage=2),
}


@functools.cache
def chain(name: str) -> HMM:
    return CHAINS[name]()


@functools.cache
def observed(name: str, time: int) -> jax.Array:
    return chain(name).observed(jr.key(1), time)


def by_hand(hmm: HMM, observations) -> tuple[np.ndarray, np.ndarray]:
    """Beliefs and likelihoods by Bayes' rule in plain probabilities."""
    belief, beliefs, likelihoods = np.asarray(hmm.initial), [], []
    for o in np.asarray(observations):
        joint = belief @ np.asarray(hmm.kernels[o])
        likelihoods.append(np.log(joint.sum()))
        belief = joint / joint.sum()
        beliefs.append(belief)
    return np.array(beliefs), np.array(likelihoods)


@pytest.mark.parametrize("name", CHAINS)
def test_both_forms_are_bayes_rule(name):
    """One token after the other, and as a tree of products, beliefs and likelihoods are those of plain probabilities."""
    beliefs, likelihoods = by_hand(chain(name), observed(name, SHORT))
    for form in ("naive", "associative"):
        found = chain(name).filtered(observed(name, SHORT), form=form)
        assert np.abs(jnp.exp(found.log_beliefs) - beliefs).max() < EXACT
        assert np.abs(found.log_likelihoods - likelihoods).max() < EXACT


def test_the_filter_is_hmmlearns():
    """The last posterior of every beginning of a sequence, and its likelihood, as hmmlearn 0.3 has them."""
    random = np.random.default_rng(3)
    initial, *rows = (random.dirichlet(np.ones(n), size) for n, size in ((3, None), (3, 3), (4, 3)))
    ours = HMM.of_matrices(jnp.asarray(initial), *(jnp.asarray(each) for each in rows))
    x = ours.observed(jr.key(0), SHORT)
    theirs = CategoricalHMM(n_components=3)
    theirs.n_features, theirs.startprob_ = (
        4,
        initial @ rows[0],
    )  # it observes the first state, ours is one transition on
    theirs.transmat_, theirs.emissionprob_ = rows
    found, columns = ours.filtered(x), np.asarray(x)[:, None]
    for t in (1, 2, 3, 17, SHORT):
        assert np.abs(theirs.predict_proba(columns[:t])[-1] - jnp.exp(found.log_beliefs[t - 1])).max() < EXACT
        assert abs(theirs.score(columns[:t]) - found.log_likelihoods[:t].sum()) < EXACT * t


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "cyclic-rnd"])
def test_the_tree_does_not_underflow(name):
    """65,536 tokens, whose probability no float64 holds: both forms are one, and all is finite where it should be."""
    one, tree = (chain(name).filtered(observed(name, LONG), form=form) for form in ("naive", "associative"))
    assert one.log_likelihoods.sum() < -4e4  # exp(-745) is 0
    assert not np.isnan(tree.log_beliefs).any() and np.isfinite(tree.log_likelihoods).all()
    assert np.abs(jnp.exp(one.log_beliefs) - jnp.exp(tree.log_beliefs)).max() < EXACT
    assert np.abs(one.log_likelihoods - tree.log_likelihoods).max() < EXACT


@pytest.mark.parametrize("time", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_vectors_are_carried_by_a_tree_too(time):
    """Products of orthogonal matrices, and Kalman's means, one after the other and as a tree."""
    product, system = matrix_product(3, 2, 0, jnp.float64), linear_system(3, 2, 0, jnp.float64)
    x = product.drawn(jr.key(0), time).tokens
    one, tree = (product.beliefs(x, form=form) for form in ("naive", "associative"))
    assert np.abs(one - tree).max() < EXACT and np.abs(jnp.linalg.norm(tree, axis=1) - 1).max() < EXACT
    drawn = system.drawn(jr.key(0), time)
    assert np.abs(drawn.beliefs - system.beliefs(drawn.tokens, form="associative")).max() < EXACT


def test_kalman_is_the_gaussian_posterior():
    """The mean and the covariance of the last state given all observations, of the joint normal distribution of both."""
    random, time, n = np.random.default_rng(0), 6, 2
    a, c, p = 0.7 * random.normal(size=(n, n)), random.normal(size=(1, n)), np.eye(n)
    system = LinearSystem(jnp.asarray(a), jnp.asarray(c), jnp.asarray(p), 0.3, 0.4)
    y = random.normal(size=(time, 1))
    powers = [np.linalg.matrix_power(a, i) for i in range(time + 1)]
    blocks = lambda s: np.concatenate(
        [powers[s], *(powers[s - i] if i <= s else 0 * a for i in range(1, time + 1))], axis=1
    )
    noise = np.kron(np.diag([1.0] + [0.09] * time), np.eye(n))  # of s_0, then of each step
    states = np.concatenate([blocks(s) for s in range(1, time + 1)])
    joint, seen = states @ noise @ states.T, np.kron(np.eye(time), c)
    gain = joint[-n:] @ seen.T @ np.linalg.inv(seen @ joint @ seen.T + 0.16 * np.eye(time))
    assert np.abs(system.beliefs(jnp.asarray(y))[-1] - gain @ y[:, 0]).max() < EXACT
    left = joint[-n:, -n:] - gain @ seen @ joint[:, -n:]
    assert np.abs(system.kalman(time).covariance[-1] - left).max() < EXACT


def test_what_sequences_expect_of_the_next_token_is_exact():
    """The distribution of the next observation is its likelihood, whichever it is."""
    hmm, x = chain("random"), observed("random", 8)
    expected = hmm.expected(jnp.exp(hmm.filtered(x).log_beliefs))[-1]
    for o in range(hmm.d_in):
        longer = hmm.filtered(jnp.concatenate([x, jnp.asarray([o], x.dtype)]))
        assert abs(jnp.log(expected[o]) - longer.log_likelihoods[-1]) < EXACT


def test_observations_are_as_likely_as_the_model_says():
    """Of two tokens, every pair comes as often as its likelihood, within five standard deviations."""
    hmm = random_hmm(3, 2, 1, jnp.float64)
    drawn = np.asarray(jax.vmap(lambda key: hmm.observed(key, 2))(jr.split(jr.key(0), 20_000)))
    for pair in itertools.product(range(2), repeat=2):
        p = float(jnp.exp(hmm.filtered(jnp.array(pair)).log_likelihoods.sum()))
        assert abs((drawn == pair).all(axis=1).mean() - p) < 5 * np.sqrt(p / 20_000)


def test_cycles_are_what_they_say():
    """A cycle is sure of its state, the permutation of all that was read; slips make it less sure; a stage's end tells."""
    hmm, x = chain("cyclic-det"), observed("cyclic-det", SHORT)
    beliefs, state = jnp.exp(hmm.filtered(x).log_beliefs), 0
    table = np.asarray(hmm.kernels).argmax(axis=2)
    assert (table[0] == [1, 2, 3, 0]).all() and (table[1] != np.arange(4)).sum() == 2
    for t, o in enumerate(np.asarray(x)):
        state = table[o, state]
        assert beliefs[t, state] == 1
    unsure = jnp.exp(chain("cyclic-rnd").filtered(x).log_beliefs)
    assert unsure[0].max() == pytest.approx(0.95) and np.abs(unsure[-1] - 0.25).max() < 0.05
    hard, x = chain("cyclic-hard"), observed("cyclic-hard", SHORT)
    assert (np.asarray(x)[1::2] >= 2).all() and (np.asarray(x)[::2] < 2).all()
    known = jnp.exp(hard.filtered(x).log_beliefs).reshape(SHORT, 2, 2).sum(axis=2)[1::2]
    assert (np.asarray(known[:, 0]) == (np.asarray(x)[1::2] == 3)).all()
    assert [chain(name).informative for name in CHAINS] == [True, False, False, True]


def test_a_tree_of_one_token():
    """A sequence of one token is a tree of one leaf."""
    one, tree = (chain("random").filtered(jnp.array([2]), form=form).log_beliefs for form in ("naive", "associative"))
    assert np.abs(one - tree).max() < EXACT


FAST: Any = "fast"
GOOD = (jnp.array([0.5, 0.5]), jnp.eye(2), jnp.eye(2))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: HMM.of_matrices(jnp.array([0.5, 0.6]), *GOOD[1:]), "initial sums to 1.1; probabilities sum to 1"),
        (
            lambda: HMM.of_matrices(GOOD[0], 2 * GOOD[1], GOOD[2]),
            "transition of row 0 sums to 2; probabilities sum to 1",
        ),
        (
            lambda: HMM.of_matrices(*GOOD[:2], jnp.array([[1.0, 0], [1.5, -0.5]])),
            "emission of row 1 holds -0.5; probabilities are not negative",
        ),
        (
            lambda: HMM.of_matrices(GOOD[0], jnp.array([[1.0, 0], [jnp.nan, 1]]), GOOD[2]),
            "transition of row 1 holds nan; probabilities are finite",
        ),
        (lambda: HMM(GOOD[0], jnp.zeros((1, 2, 2))), "kernels of state 0 sums to 0"),
        (lambda: HMM(GOOD[0], jnp.zeros((2, 2))), r"initial has shape \(2,\) and kernels \(2, 2\)"),
        (lambda: HMM.of_matrices(jnp.ones(1), *GOOD[1:]), r"initial has shape \(1,\), transition \(2, 2\)"),
        (
            lambda: chain("random").filtered(jnp.array([0, 5])),
            "at token 1 is 5; this model has observations from 0 to 4",
        ),
        (lambda: chain("random").filtered(jnp.array([-1])), "at token 0 is -1"),
        (lambda: chain("random").filtered(jnp.array([0.5])), "observations are whole numbers"),
        (lambda: chain("random").filtered(jnp.zeros(0, int)), "at least one"),
        (
            lambda: HMM.of_matrices(*GOOD).filtered(jnp.array([0, 0, 1]), form="associative"),
            "at token 2, 1, has probability 0 after those before it",
        ),
        (lambda: HMM.of_matrices(*GOOD).filtered(jnp.array([1, 0])), "at token 1, 0, has probability 0"),
        (lambda: chain("random").filtered(jnp.array([0]), form=FAST), "no form 'fast' of the filter"),
        (lambda: carried(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1)), jnp.zeros(1), form=FAST), "no form 'fast'"),
        (lambda: MatrixProduct(jnp.ones((1, 2, 2)), jnp.ones(2)), "observation 0 is not orthogonal"),
        (lambda: MatrixProduct(jnp.ones((1, 2, 2)), jnp.ones(3)), r"matrices has shape \(1, 2, 2\)"),
        (lambda: LinearSystem(jnp.eye(2), jnp.eye(2), jnp.eye(2), 0.0), "q is 0.0; the standard deviation"),
        (lambda: LinearSystem(jnp.eye(2), jnp.eye(3), jnp.eye(2)), r"readout \(3, 3\)"),
        (lambda: cyclic_rnd(3, 2, 0, float, slip=1.5), "slip is 1.5; a probability"),
        (lambda: cyclic_hard(3, 2, 0, float, stage=1), "stage is 1; a stage has at least 2 tokens"),
        (lambda: cyclic_det(1, 2, 0, float), "states is 1; a cycle has at least 2"),
    ],
)
def test_bad_input(make, said):
    """Which number, where, and what is allowed."""
    with pytest.raises(InputError, match=said):
        make()


def test_under_jit_what_cannot_be_is_nan():
    """The beliefs of an observation of probability 0, and of all behind it; those before it stand."""
    found = jax.jit(lambda x: HMM.of_matrices(*GOOD).filtered(x))(jnp.array([0, 0, 1, 0]))
    assert jnp.isfinite(jnp.exp(found.log_beliefs[:2])).all() and jnp.isnan(found.log_beliefs[2:]).all()
