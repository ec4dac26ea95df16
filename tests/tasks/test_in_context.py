"""In-context regression: the task's moments, the exact theory, and the last output's own form."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import construct
from dualform.errors import InputError
from dualform.mixers import GatedRNN, LinearAttention
from dualform.tasks import (
    InContextRegression,
    gd_attention,
    gradient_descent,
    last_output,
    last_output_loss,
    steps_loss,
)
from tests.tiers import tiers


def every_case(task):
    """Tokens, targets and probabilities with the task's moments up to the degree that a step's loss has, none sampled.

    Each x takes the three Gauss-Legendre nodes of its uniform distribution (exact to degree 5, and 4 is needed); each entry
    of W* and of the noise takes plus and minus its deviation (exact to degree 3, and 2 is needed). One output, since all are
    alike.
    """
    nodes, weights = np.polynomial.legendre.leggauss(3)
    nodes, weights = nodes * 3**0.5, weights / 2
    x_count, w_count = (task.pairs + 1) * task.d_x, task.d_x
    index = np.array(list(itertools.product(range(3), repeat=x_count)))
    sign = np.array(list(itertools.product((-1.0, 1.0), repeat=w_count + (task.pairs if task.noise else 0))))
    x = np.repeat(nodes[index], len(sign), axis=0).reshape(-1, task.pairs + 1, task.d_x)
    p = np.repeat(np.prod(weights[index], axis=1), len(sign)) / len(sign)
    sign = np.tile(sign, (len(index), 1))
    w = sign[:, :w_count] * task.variance**0.5
    y = np.einsum("bti,bi->bt", x, w)[:, :, None]
    pairs = y[:, :-1] + (task.noise * sign[:, w_count:, None] if task.noise else 0)
    tokens = np.concatenate([x, np.concatenate([pairs, np.zeros_like(y[:, -1:])], 1)], 2)
    return jnp.asarray(tokens), jnp.asarray(y[:, -1]), p


@pytest.mark.parametrize("pairs, d_x, noise", [(2, 2, 0.0), (1, 3, 0.0), (3, 1, 0.7), (2, 2, 0.5)])
def test_the_closed_form_is_the_mean_over_every_case(pairs, d_x, noise):
    """The loss of one step, summed over all cases with their probabilities, is `one_step_loss`, at any rate."""
    task = InContextRegression(pairs, d_x, 1, noise, weight_variance=0.8)
    x, y, p = every_case(task)
    for eta in (task.optimal_rate(), 0.3):
        squared = np.asarray(gradient_descent(x, eta, d_x=d_x) - y)[:, 0] ** 2
        assert abs(0.5 * p @ squared - task.one_step_loss(eta)) <= 1e-12


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_the_best_rate_is_the_parabola_s_bottom(noise):
    """The loss is a parabola in eta, and eta* its minimum."""
    task = InContextRegression(noise=noise, weight_variance=0.5)
    at = [task.one_step_loss(task.optimal_rate() + shift) for shift in (-1e-2, 0.0, 1e-2)]
    assert abs(at[0] - at[2]) <= 1e-12 and at[1] < at[0]
    assert abs(at[1] - 0.5 * 3 * 0.5 * (1 - 12 * task.optimal_rate())) <= 1e-12


def test_the_paper_s_numbers():
    """eta* = 1 / 14.8 and the loss 0.09459 for T = 12 and d_x = 3; nothing predicted costs half the target's power, 0.5."""
    task = InContextRegression()
    assert abs(task.optimal_rate() - 1 / 14.8) <= 1e-15
    assert abs(task.one_step_loss() - 0.5 * 2.8 / 14.8) <= 1e-15
    assert task.one_step_loss(0.0) == 0.5 == task.target_power / 2


def test_the_task_s_moments(getkey):
    """x has variance 1 and fourth moment 9/5 within sqrt 3; W* has the variance asked for; the noise is on y_s alone."""
    task = InContextRegression(pairs=3, d_x=2, d_y=2, noise=0.5, batch=40_000)
    x, y = eqx.filter_jit(task.sample)(getkey())
    assert x.shape == (40_000, 4, 4) and y.shape == (40_000, 2)
    inputs, pairs = np.asarray(x[..., :2]), np.asarray(x[:, :-1, 2:])
    assert np.abs(inputs).max() <= 3**0.5 and not np.any(np.asarray(x[:, -1, 2:]))
    np.testing.assert_allclose([inputs.mean(), inputs.var(), (inputs**4).mean()], [0, 1, 1.8], atol=0.02)
    np.testing.assert_allclose(np.array([pairs.var(), np.var(np.asarray(y))]), [1 + 0.25, 1], rtol=0.03)
    clean = InContextRegression(pairs=3, d_x=2, d_y=2, batch=16)
    x, y = (np.asarray(a) for a in clean.sample(getkey()))
    w = np.linalg.lstsq(x[0, :-1, :2], x[0, :-1, 2:], rcond=None)[0]
    np.testing.assert_allclose(x[0, -1, :2] @ w, y[0], atol=1e-10)


def test_validation_doubles_the_variance():
    """Tasks of another distribution: twice the variance of W*, and all else alike."""
    task = InContextRegression(noise=0.2, batch=8)
    assert task.validation() == InContextRegression(noise=0.2, batch=8, weight_variance=2 / 3)
    assert task.validation(99).batch == 99


def test_a_sample_of_the_loss_is_the_closed_form(getkey):
    """The mean loss of 40,000 tasks lies within four standard errors of the closed form, noise included."""
    task = InContextRegression(noise=0.5, batch=40_000)
    x, y = eqx.filter_jit(task.sample)(getkey())
    losses = 0.5 * np.mean(np.asarray(gradient_descent(x, task.optimal_rate(), d_x=3) - y) ** 2, axis=1)
    assert abs(losses.mean() - task.one_step_loss()) <= 4 * losses.std() / 200


def test_more_steps(getkey):
    """k steps are the loop on one task; the loss over many is `steps_loss`, which for one step is the closed form."""
    task = InContextRegression(pairs=5, d_x=2, d_y=3, noise=0.3, batch=20_000)
    x, y = eqx.filter_jit(task.sample)(getkey())
    w = np.zeros((3, 2))
    for _ in range(3):
        inputs, outputs = np.asarray(x[0, :-1, :2]), np.asarray(x[0, :-1, 2:])
        w = w + 0.08 * (outputs - inputs @ w.T).T @ inputs
    found = gradient_descent(x, 0.08, d_x=2, steps=3)
    np.testing.assert_allclose(found[0], w @ np.asarray(x[0, -1, :2]), atol=1e-12)
    losses = 0.5 * np.mean(np.asarray(found - y) ** 2, axis=1)
    expected = steps_loss(task, 3, np.array([0.08]))[0]
    assert abs(losses.mean() - expected) <= 4 * losses.std() / 20_000**0.5 + 1e-3
    etas = np.array([0.05, task.optimal_rate()])
    one = steps_loss(task, 1, etas)
    np.testing.assert_allclose(one, [task.one_step_loss(float(eta)) for eta in etas], rtol=1e-2)


@pytest.mark.parametrize("d_x, d_y", [(3, 3), (2, 1)])
def test_the_attention_layer_and_its_rnn_are_one_step(d_x, d_y, getkey):
    """The layer, and the gated RNN of d_x d_y units at 1, d_x at 0 and d_x d_y pre-readout units, give the step to 1e-12."""
    task = InContextRegression(d_x=d_x, d_y=d_y, batch=50)
    x, _ = task.sample(getkey())
    eta = task.optimal_rate()
    expected = gradient_descent(x, eta, d_x=d_x)
    attention = gd_attention(eta, d_x, d_y)
    np.testing.assert_allclose(last_output(attention, x), expected, rtol=0, atol=1e-12)
    rnn = construct.gated_rnn(attention, "low_rank")
    np.testing.assert_allclose(last_output(rnn, x), expected, rtol=0, atol=1e-12)
    decay = np.asarray(rnn.decay)
    counts = (np.sum(decay == 1), np.sum(decay == 0), len(decay), rnn.readout.shape[1])
    assert counts == (d_x * d_y, d_x, d_x * d_y + d_x, d_x * d_y)


class Doubled(GatedRNN):
    """A subclass with another forward pass, which the written form must not be used for."""

    def at(self, x, state, segments):
        frozen = super().at(x, state, segments)
        return frozen._replace(y=2 * frozen.y)


@pytest.mark.parametrize("kind", tiers([GatedRNN, Doubled, LinearAttention], Doubled, LinearAttention))
def test_the_last_output_is_the_plain_one(kind, getkey):
    """The written form, its loss and every gradient are those of the plain vmap, decays of 0 and 1 included."""
    x, y = InContextRegression(pairs=4, batch=7, d_x=2, d_y=2).sample(getkey())
    model = kind.make(4, key=getkey())
    if kind is GatedRNN:
        ends = jnp.array([0.0, 1.0, 0.3, 0.9, 0.0, 1.0, 0.5, 1.0])
        model = GatedRNN(**{name: getattr(model, name) for name in WEIGHTS}, decay=ends)
    plain = lambda model, x: jax.vmap(lambda x: model(x)[0][-1])(x)
    y = jnp.pad(y, ((0, 0), (0, 2)))
    np.testing.assert_allclose(last_output(model, x), plain(model, x), rtol=1e-12, atol=1e-12)
    ours, slope = eqx.filter_value_and_grad(last_output_loss)(model, x, y)
    loss = lambda model: 0.5 * jnp.mean(jnp.square(plain(model, x) - y))
    expected, plain_slope = eqx.filter_value_and_grad(loss)(model)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    for a, b in zip(jax.tree_util.tree_leaves(slope), jax.tree_util.tree_leaves(plain_slope), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


WEIGHTS = ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout")


@pytest.mark.slow
def test_the_gradient_of_a_trained_decay(getkey):
    """Through nu, too, the written form has the plain gradient."""
    x, _ = InContextRegression(pairs=4, batch=3).sample(getkey())
    rnn = GatedRNN.make(6, key=getkey(), n=5, m=4)
    ours = eqx.filter_grad(lambda rnn: jnp.sum(jnp.sin(last_output(rnn, x))))(rnn)
    plain = eqx.filter_grad(lambda rnn: jnp.sum(jnp.sin(jax.vmap(lambda x: rnn(x)[0][-1])(x))))(rnn)
    np.testing.assert_allclose(ours.nu, plain.nu, rtol=1e-9, atol=1e-12)


def test_half_precision_keeps_its_dtype(getkey):
    """bfloat16 in, bfloat16 out, sums kept wide."""
    rnn = GatedRNN.make(6, key=getkey(), dtype=jnp.float32)
    x = jr.normal(getkey(), (2, 5, 6), jnp.bfloat16)
    assert last_output(rnn, x).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: InContextRegression(pairs=0), "pairs is 0; it must be at least 1"),
        (lambda: InContextRegression(batch=0), "batch is 0; it must be at least 1"),
        (lambda: InContextRegression(noise=-0.1), "noise is -0.1; a standard deviation cannot be negative"),
        (lambda: InContextRegression(weight_variance=0.0), "weight_variance is 0.0; it must be above 0"),
        (lambda: gd_attention(0.1, 0, 3), "d_x is 0 and d_y 3; both must be at least 1"),
        (lambda: gradient_descent(jnp.ones((2, 3, 4)), 0.1, d_x=4), "d_x is 4, and tokens have width 4"),
        (
            lambda: gradient_descent(jnp.ones((2, 1, 4)), 0.1, d_x=2),
            "x has 1 tokens; there must be a pair and the query",
        ),
        (lambda: gradient_descent(jnp.ones((2, 3, 4)), 0.1, d_x=2, steps=0), "steps is 0; it must be at least 1"),
        (lambda: steps_loss(InContextRegression(), 0, np.ones(1)), "steps is 0 and samples 200000"),
        (lambda: last_output(LinearAttention.make(4, key=jr.key(0)), jnp.ones((2, 3, 5))), "tokens of width 4; got 5"),
        (lambda: last_output(GatedRNN.make(4, key=jr.key(0)), jnp.ones((2, 3, 5))), "tokens of width 4; got 5"),
        (lambda: last_output(GatedRNN.make(4, key=jr.key(0)), jnp.ones((2, 0, 4))), "a sequence of length 0"),
    ],
)
def test_bad_input(make, message):
    """What is out of range is named, with its value."""
    with pytest.raises(InputError, match=message):
        make()


def test_antithetic_sequences_come_in_pairs():
    """The second half of a batch is the first with every y negated; an odd batch is refused."""
    x, y = InContextRegression(batch=6, noise=0.5, antithetic=True).sample(jr.key(0))
    assert x.shape == (6, 13, 6) and y.shape == (6, 3)
    np.testing.assert_array_equal(x[3:, :, :3], x[:3, :, :3])
    np.testing.assert_array_equal(x[3:, :, 3:], -x[:3, :, 3:])
    np.testing.assert_array_equal(y[3:], -y[:3])
    with pytest.raises(InputError, match="batch is 5; antithetic sequences come in pairs"):
        InContextRegression(batch=5, antithetic=True)
