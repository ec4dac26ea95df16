"""The wave RNN: a wave that travels and is read, its start, and weights that do not fit."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.mixers import WaveRNN
from tests.laws import laws


def published(d=2, **options) -> WaveRNN:
    return WaveRNN.make(d, key=jr.key(0), noise=0.0, **options)


def test_a_wave_travels_around_the_ring():
    """What a token writes into unit 0 of each channel is at unit n - t after t steps, the same, and is added to after n."""
    mixer = published(n=5)
    mixer = dataclasses.replace(mixer, w_o=jnp.eye(10), b_o=jnp.zeros(10))
    x = jnp.zeros((7, 2)).at[0].set(jnp.array([2.0, 1.0])).at[5].set(0.5)
    h = np.asarray(mixer(x)[0]).reshape(7, 2, 5)
    expected = np.zeros((7, 2, 5))
    for t, unit in enumerate((0, 4, 3, 2, 1, 0, 4)):
        expected[t, :, unit] = 3.0 if t < 5 else 4.0
    assert np.array_equal(h, expected)


def test_the_convolution_is_written_out():
    """u * h is the sum over channels and taps of the kernel times the unit j - width // 2 further on the ring."""
    mixer = WaveRNN.make(2, key=jr.key(0), n=5, channels=3, width=5)
    mixer = dataclasses.replace(mixer, u=jr.normal(jr.key(1), (3, 3, 5)))
    u, h = np.asarray(mixer.u), np.asarray(jr.normal(jr.key(2), (3, 5)))
    expected = np.zeros((3, 5))
    for o, i, c, j in np.ndindex(3, 5, 3, 5):
        expected[o, i] += u[o, c, j] * h[c, (i + j - 2) % 5]
    laws.check_close(np.asarray(mixer.convolve(jnp.asarray(h.T))).T, expected, laws.EXACT, "the convolution")


def test_the_start_is_as_published():
    """Kernels shift one unit, channels apart; V is 1 into unit 0 of each channel and 0 elsewhere; b is 0."""
    mixer = published(n=4, channels=2)
    assert np.array_equal(np.asarray(mixer.u), np.eye(2)[:, :, None] * np.array([0.0, 0.0, 1.0]))
    assert np.array_equal(np.asarray(mixer.v), np.eye(4)[0][None, :, None] * np.ones((2, 4, 2)))
    assert not np.asarray(mixer.b).any()
    noisy = WaveRNN.make(2, key=jr.key(0), n=1000, channels=2)
    difference = np.asarray(noisy.v) - np.asarray(published(n=1000, channels=2).v)
    # 4,000 normal numbers: their standard deviation is known to 1.1%.
    assert 0.95e-3 < difference.std() < 1.05e-3


def test_the_dual_form_is_the_wave():
    """Where units stay open, a token's contribution is its own, read where its wave is: the linear map by hand."""
    mixer = dataclasses.replace(published(n=4), b=jnp.full((2, 4), 0.25))
    x = jnp.abs(laws.sequence(0, 3, 2))
    form = dual_form(mixer, x)
    w = np.asarray(mixer.w_o).reshape(2, 2, 4)
    for t, s in np.ndindex(3, 3):
        expected = w[:, :, (s - t) % 4].sum(1) * float(x[s].sum()) if s <= t else np.zeros(2)
        np.testing.assert_allclose(np.asarray(form.contributions[t, s]), expected, atol=1e-14)
    expected = [np.asarray(mixer.w_o).sum(1) * 0.25 * (t + 1) + np.asarray(mixer.b_o) for t in range(3)]
    np.testing.assert_allclose(np.asarray(form.bias), np.stack(expected), atol=1e-14)


def test_other_kernels_keep_the_laws():
    """A kernel of one tap, and one as wide as the ring."""
    for width in (1, 5):
        mixer, x = WaveRNN.make(3, key=jr.key(0), n=5, channels=3, width=width), laws.sequence(0, 6, 3)
        laws.steps_give_the_parallel_form(mixer, x, 4)
        laws.contributions_sum_to_the_output(mixer, x)


BAD = {
    "a flat v": (
        {"v": np.zeros((2, 6))},
        r"v has shape \(2, 6\); it must be \(2, 6, d\): \(c, n, d\), where c is 2 in u, n is 6 in b",
    ),
    "a flat bias": (
        {"b": np.zeros(12)},
        r"b has shape \(12,\); it must be \(2, 6\): \(c, n\), where c is 2 in u, n is 6 in v",
    ),
    "other channels": (
        {"u": np.zeros((3, 3, 3))},
        r"u has shape \(3, 3, 3\); it must be \(2, 2, width\): \(c, c, width\), where c is 2 in v",
    ),
    "a flat kernel": ({"u": np.zeros(3)}, r"u has shape \(3,\); it must be \(2, 2, width\)"),
    "an even kernel": ({"u": np.zeros((2, 2, 2))}, "u is 2 units wide; its width must be odd, and no more than the 6"),
    "a wide kernel": ({"u": np.zeros((2, 2, 7))}, "u is 7 units wide; .* no more than the 6 units of the ring"),
    "a narrow readout": ({"w_o": np.zeros((4, 6))}, r"w_o has shape \(4, 6\); it must be \(4, 12\)"),
    "a short bias of the readout": ({"b_o": np.zeros(3)}, r"b_o has shape \(3,\); it must be \(4,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_fit(unchecked, case):
    """What is wrong with the weights is said, with its value, and what to do."""
    changed, message = BAD[case]
    with pytest.raises(InputError, match=message):
        dataclasses.replace(WaveRNN.make(4, key=jr.key(0)), **changed)


def test_bad_kernels_are_refused_by_make():
    """`make` says the same of a width that does not fit."""
    for width, message in ((4, "u is 4 units wide; its width must be odd"), (7, "no more than the 6 units")):
        with pytest.raises(InputError, match=message):
            WaveRNN.make(4, key=jr.key(0), width=width)
