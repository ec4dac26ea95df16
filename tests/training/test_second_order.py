"""Levenberg-Marquardt: exact gradients, quadratic convergence, and decays that reach their ends."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.discover import keep_units
from dualform.errors import DivergedError
from dualform.mixers import GatedRNN
from dualform.training import second_order
from dualform.training.second_order import (
    SecondOrder,
    balance,
    forward,
    levenberg_marquardt,
    network,
    weights_of,
)
from tests.discover.students import constructed, noisy, sampler, sequences


def student() -> GatedRNN:
    return GatedRNN.make(3, key=jr.key(3), n=5, m=4, d_out=2)


def test_forward_is_the_mixer():
    """The NumPy forward pass gives the mixer's outputs."""
    rnn, x = student(), sequences(count=4)
    expected = jax.vmap(lambda x: rnn(x)[0])(jnp.asarray(x))
    np.testing.assert_allclose(
        forward(weights_of(rnn), x.swapaxes(0, 1)).swapaxes(0, 1), expected, rtol=1e-10, atol=1e-12
    )


def test_jacobian_is_jax_s():
    """The written Jacobian is JAX's own, for every weight and every free decay."""
    weights, x = weights_of(student()), sequences(count=2, time=5).swapaxes(0, 1)
    free, picked = np.array([0, 2, 3]), np.array([1, 4, 9])
    found, jacobian = second_order._jacobian(weights, x, free, picked)
    with np.errstate(divide="ignore"):
        nu_of = jnp.asarray(np.log(-np.log(weights.decay)))

    def outputs(vector):
        # By nu, since a decay that is given has no gradient.
        nu, place, arrays = nu_of.at[free].set(jnp.log(-jnp.log(vector[: len(free)]))), len(free), {}
        for name, a in [*weights._asdict().items()][1:]:
            arrays[name] = vector[place : place + a.size].reshape(a.shape)
            place += a.size
        run = lambda x: GatedRNN(**arrays, nu=nu)(x)[0]
        return jax.vmap(run, in_axes=1, out_axes=1)(jnp.asarray(x)).reshape(-1, 2)[picked]

    vector = jnp.asarray(second_order._packed(weights, free))
    np.testing.assert_allclose(found, outputs(vector), rtol=1e-10)
    np.testing.assert_allclose(jacobian, jax.jacrev(outputs)(vector), rtol=1e-8, atol=1e-10)


def test_balance_keeps_the_function():
    """Balancing changes scales, not outputs."""
    weights, x = weights_of(student()), sequences(count=4).swapaxes(0, 1)
    np.testing.assert_allclose(forward(balance(weights), x), forward(weights, x), rtol=1e-9)


def test_noise_is_polished_away_and_decays_reach_their_ends():
    """From a construction with noise, the loss falls to rounding and every decay ends at exactly 0 or 1."""
    attention, rnn = constructed()
    near = noisy(rnn, 1e-2)
    sample = sampler(attention, count=128)
    power = float(np.mean(sample(jr.key(9))[1] ** 2))
    losses = []
    found = levenberg_marquardt(
        near, sample, power, SecondOrder(tolerance=1e-20), seed=0, on_iteration=lambda i, loss: losses.append(loss)
    )
    assert losses[0] > 1e-5 and found.relative_loss < 1e-16
    decay = weights_of(found.rnn).decay
    assert np.all((decay < 1e-6) | (decay > 1 - 1e-6))


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_decay_leaves_the_end_that_it_does_not_belong_at(end):
    """A unit that starts at exactly 0 or 1, and whose decay is neither, finds it; those that belong there stay."""
    _, rnn = constructed()
    weights = weights_of(rnn)
    decay = weights.decay.copy()
    decay[[0, -1]] = 0.6, 0.3
    aim, x = weights._replace(decay=decay), sequences(count=128)
    y = forward(aim, x.swapaxes(0, 1)).swapaxes(0, 1)
    start = decay.copy()
    start[[0, -1]] = end
    found = levenberg_marquardt(
        network(weights._replace(decay=start)),
        lambda key: (x, y),
        float(np.mean(y**2)),
        SecondOrder(tolerance=1e-20),
        seed=0,
    )
    assert found.relative_loss < 1e-18
    np.testing.assert_allclose(weights_of(found.rnn).decay, decay, atol=1e-8)


def test_weight_decay_does_not_pull_decays():
    """With a ridge alone to follow, weights shrink and decays between 0 and 1 stay."""
    weights = weights_of(student())
    x = sequences(count=16)
    y = forward(weights, x.swapaxes(0, 1)).swapaxes(0, 1)
    free, parameters = np.arange(5), second_order._packed(weights, np.arange(5))
    rows = second_order._Rows(x.swapaxes(0, 1), 0.9 * y.swapaxes(0, 1).reshape(-1, 2), np.arange(16 * 12), 1.0)
    residual = rows.residual(weights)
    stepped = second_order._damped_step(
        weights, free, np.zeros((residual.size, parameters.size)), residual, rows, 1e-3, 1.0
    )
    assert stepped is not None
    np.testing.assert_array_equal(stepped[0].decay, weights.decay)
    assert np.linalg.norm(stepped[0].w_m_in) < np.linalg.norm(weights.w_m_in)


def test_the_same_seed_gives_the_same_bits():
    """Polishing is a function of its arguments and its seed."""
    attention, rnn = constructed()
    sample = sampler(attention)
    run = lambda seed: levenberg_marquardt(noisy(rnn, 1e-2), sample, 1.0, SecondOrder(iterations=4), seed=seed).rnn
    first, second, other = run(0), run(0), run(1)
    assert np.array_equal(np.asarray(first.w_m_in), np.asarray(second.w_m_in))
    assert not np.array_equal(np.asarray(first.w_m_in), np.asarray(other.w_m_in))


def test_fixed_decays_stay():
    """With train_decays off no decay moves, to the bit."""
    attention, rnn = constructed()
    near = noisy(rnn, 1e-3)
    config = SecondOrder(iterations=3, train_decays=False)
    found = levenberg_marquardt(near, sampler(attention), 1.0, config, seed=0)
    np.testing.assert_array_equal(weights_of(found.rnn).decay, weights_of(near).decay)


def test_a_student_that_cannot_represent_the_teacher_stops():
    """Too few units: the loss stays, the search ends, and the best network is returned."""
    attention, rnn = constructed()
    few = keep_units(rnn, hidden=np.arange(4))
    found = levenberg_marquardt(few, sampler(attention), 1.0, SecondOrder(iterations=20, patience=4), seed=0)
    assert found.relative_loss > 1e-6 and found.iterations <= 20


def test_nan_is_refused():
    """A student whose outputs are not finite is refused with a sentence."""
    attention, rnn = constructed()
    weights = weights_of(rnn)
    broken = network(weights._replace(readout=weights.readout * np.nan))
    with pytest.raises(DivergedError, match="not finite"):
        levenberg_marquardt(broken, sampler(attention), 1.0, SecondOrder(), seed=0)
