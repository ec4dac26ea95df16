"""RG-LRU and Griffin's block: where documents begin, the bounded gradient, and weights that do not fit."""

import dataclasses
from itertools import product

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import RGLRU, GriffinRecurrent
from dualform.mixers.rg_lru import bounded_sqrt
from tests.laws import laws
from tests.tiers import tiers


def even(n: int) -> RGLRU:
    """Gates of 1/2 and a decay of exactly 1/16 at every token: 8 softplus(lam) / 2 = log 16."""
    zeros = np.zeros((1, n, n))
    return RGLRU(
        w_a=zeros, w_x=zeros, b_a=zeros[:, 0], b_x=zeros[:, 0], lam=np.full(n, np.log(np.expm1(np.log(16.0) / 4)))
    )


def test_exact_answers():
    """The first token is not scaled down, later ones by sqrt(1 - a^2); the state says which one is the first."""
    mixer, x = even(2), jnp.ones((3, 2))
    scale = np.sqrt(1 - 1 / 256)
    h = [0.5, 0.5 / 16 + 0.5 * scale, (0.5 / 16 + 0.5 * scale) / 16 + 0.5 * scale]
    y, (final, seen) = mixer(x)
    np.testing.assert_allclose(np.asarray(y), np.array(h)[:, None] * np.ones(2), rtol=1e-14)
    assert int(seen) == 1 and seen.dtype == jnp.int32
    again = mixer(x[:1], (final, seen))[0]
    np.testing.assert_allclose(np.asarray(again), h[2] / 16 + 0.5 * scale, rtol=1e-14)


@pytest.mark.parametrize("make", [RGLRU.make, GriffinRecurrent.make], ids=["rg_lru", "griffin_recurrent"])
def test_the_first_token_that_is_there_begins_the_document(make):
    """Absent tokens before the first leave the state fresh; a start gives what a fresh state gives."""
    mixer, x = make(4, key=jr.key(0)), laws.sequence(0, 6)
    mask = jnp.array([False, False, True, True, False, True])
    y, _ = laws.call(mixer, x, None, None, mask)
    laws.check_close(y[jnp.flatnonzero(mask)], laws.call(mixer, x[jnp.flatnonzero(mask)])[0], laws.EXACT, "gaps")
    fresh = mixer.init_state()
    _, state = laws.call(mixer, x, fresh, None, jnp.zeros(6, bool))
    laws.check_same_bits(state, fresh, "the state after absent tokens only")
    seen = laws.some_state(mixer, 0)
    started, whole = laws.call(mixer, x, seen, jnp.arange(6) == 0), laws.call(mixer, x)
    laws.check_close(started, whole, laws.EXACT, "a start and a fresh state")
    assert bool(jnp.any(laws.call(mixer, x, seen)[0][0] != whole[0][0]))


def test_the_square_root_is_exact_and_its_gradient_bounded():
    """sqrt itself; its slope is 1 / (2 sqrt(x)) down to x = 2.5e-7, and 1,000 below, in both modes."""
    x = jnp.array([0.0, 1e-12, 2.5e-7, 1e-4, 1.0])
    assert np.array_equal(np.asarray(bounded_sqrt(x)), np.sqrt(np.asarray(x)))
    expected = [1000.0, 1000.0, 1000.0, 50.0, 0.5]
    for derivative in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(np.asarray(jax.vmap(derivative(bounded_sqrt))(x)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("lam", "dtype"),
    tiers(product([-1e4, -50.0, 6.0, 1e4], [jnp.float32, jnp.bfloat16]), (-1e4, jnp.float32), (1e4, jnp.bfloat16)),
)
def test_extreme_decays_stay_finite(lam, dtype):
    """Decays of 1, of 1 less a rounding error, of 1e-10 and of 0 give no NaN, neither forward nor in gradients."""
    mixer = RGLRU.make(4, key=jr.key(0), dtype=dtype)
    block = GriffinRecurrent.make(4, key=jr.key(0), dtype=dtype)
    x = laws.sequence(0, 6).astype(dtype)
    extreme = dataclasses.replace(mixer, lam=jnp.full(4, lam, dtype))
    laws.extremes_stay_finite(extreme, x)
    laws.extremes_stay_finite(dataclasses.replace(block, core=extreme), x)


def test_initial_decays():
    """sigma(-lam)^2 starts uniform between 0.9^2 and 0.999^2."""
    lam = np.asarray(RGLRU.make(4000, key=jr.key(0), heads=1000).lam)
    square = (1 / (1 + np.exp(lam))) ** 2
    assert square.min() > 0.9**2 and square.max() < 0.999**2
    share = (square - 0.9**2) / (0.999**2 - 0.9**2)
    assert abs(share.mean() - 0.5) < 0.02  # the standard error of the mean of 4,000 uniform numbers is 0.0046


@pytest.mark.slow
def test_a_longer_kernel_and_none():
    """Kernels of other widths keep the laws: 1 remembers no token, 6 is as long as the sequence."""
    for width in (1, 6):
        mixer, x = GriffinRecurrent.make(4, key=jr.key(0), n=6, heads=3, width=width), laws.sequence(0, 6)
        assert mixer.init_state()[0].shape == (width - 1, 6)
        laws.steps_give_the_parallel_form(mixer, x, 4)
        laws.contributions_sum_to_the_output(mixer, x)


ZEROS, BIAS = np.zeros((2, 3, 3)), np.zeros((2, 3))
BAD = {
    "flat blocks": (
        lambda: RGLRU(w_a=ZEROS[0], w_x=ZEROS, b_a=BIAS, b_x=BIAS, lam=np.zeros(6)),
        r"w_a has shape \(3, 3\); it must be \(2, 3, 3\): \(head, block, block\), where head is 2 in w_x",
    ),
    "oblong blocks": (
        lambda: RGLRU(w_a=ZEROS[:, 1:], w_x=ZEROS, b_a=BIAS, b_x=BIAS, lam=np.zeros(6)),
        r"w_a has shape \(2, 2, 3\); it must be \(2, 3, 3\): \(head, block, block\)",
    ),
    "other blocks": (
        lambda: RGLRU(w_a=ZEROS, w_x=ZEROS[:1], b_a=BIAS, b_x=BIAS, lam=np.zeros(6)),
        r"w_x has shape \(1, 3, 3\); it must be \(2, 3, 3\): .* where head is 2 in w_a, block is 3 in w_a",
    ),
    "a flat bias": (
        lambda: RGLRU(w_a=ZEROS, w_x=ZEROS, b_a=np.zeros(6), b_x=BIAS, lam=np.zeros(6)),
        r"b_a has shape \(6,\); it must be \(2, 3\)",
    ),
    "a short lam": (
        lambda: RGLRU(w_a=ZEROS, w_x=ZEROS, b_a=BIAS, b_x=BIAS, lam=np.zeros(3)),
        r"lam has shape \(3,\); it must be \(6,\)",
    ),
    "heads": (lambda: RGLRU.make(4, key=jr.key(0), heads=3), "3 heads do not divide a width of 4"),
    "no heads": (lambda: RGLRU.make(4, key=jr.key(0), heads=0), "0 heads do not divide a width of 4"),
    "a flat kernel": (
        lambda: block(kernel=np.zeros(4)),
        r"kernel has shape \(4,\); it must be \(width, 4\): \(width, n\), where n is 4 in w_y",
    ),
    "a wide branch": (
        lambda: block(w_y=np.zeros((5, 4))),
        r"w_y has shape \(5, 4\); it must be \(4, 4\): \(n, d\), where n is 4 in b_y",
    ),
    "a flat readout": (lambda: block(w_o=np.zeros(4)), r"w_o has shape \(4,\); it must be \(4, 4\)"),
    "a short bias of the readout": (lambda: block(b_o=np.zeros(3)), r"b_o has shape \(3,\); it must be \(4,\)"),
}


def block(**changed):
    return dataclasses.replace(GriffinRecurrent.make(4, key=jr.key(0)), **changed)


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_fit(unchecked, case):
    """What is wrong with the weights is said, with its value, and what to do."""
    build, message = BAD[case]
    with pytest.raises(InputError, match=message):
        build()
