"""The diagonal recurrence against the loop on paper, in all its forms."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences import diagonal
from dualform.recurrences.diagonal_scan import naive
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.loops import diagonal_loop
from tests.tiers import tiers

FORMS = ("scan", "associative", "naive")
TIME = 4
START, MASK = jnp.array([False, False, True, True]), jnp.array([True, False, True, False])
NO_START, ALL_THERE = jnp.zeros(TIME, bool), jnp.ones(TIME, bool)
FLAGS = ((START, ALL_THERE), (NO_START, MASK), (START, MASK), (~START, ~MASK))


def arguments(seed, units, varies, dtype):
    """Decays inside the unit disk, drives and an initial state, for TIME steps."""
    keys = jr.split(jr.key(seed), 4)
    decay = jr.uniform(keys[0], (TIME, *units) if varies else units, jnp.float64)
    if dtype == jnp.complex128:
        angle = jr.uniform(keys[3], decay.shape, jnp.float64, 0, 6)
        decay = jax.lax.complex(decay * jnp.cos(angle), decay * jnp.sin(angle))
    return decay.astype(dtype), normal(keys[1], (TIME, *units), dtype), normal(keys[2], units, dtype)


def flags_of(start=None, mask=None) -> dict[str, Any]:
    """The flags by name."""
    return {"start": start, "mask": mask}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("direction", "decay", "numbers"),
    tiers(
        product(["forward", "reverse"], ["constant", "varying"], ["real", "complex"]),
        ("forward", "constant", "real"),
        ("reverse", "varying", "complex"),
    ),
)
def test_fast_gives_naive(form, direction, decay, numbers):
    """Every form gives the loop, in values and in the gradients of decay, drive and state, with flags and without."""
    reverse, dtype = direction == "reverse", jnp.complex128 if numbers == "complex" else jnp.float64
    fast = lambda *a: diagonal(*a[:3], **flags_of(*a[3:]), reverse=reverse, form=form)
    loop = lambda *a: diagonal_loop(*a, reverse=reverse)
    fast_gives_naive(fast, loop, arguments(0, (3,), decay == "varying", dtype), ((), *FLAGS))


@pytest.mark.parametrize("form", ["scan", "associative"])
@pytest.mark.parametrize("units", [(), pytest.param((2, 3), marks=pytest.mark.slow), (TIME,)], ids=str)
def test_fast_gives_naive_for_any_trailing_shape(form, units):
    """Scalar states, matrices of units, and as many units as steps: the decay is read as documented in each."""
    for varies in (False, True):
        fast = lambda *a: diagonal(*a[:3], **flags_of(*a[3:]), form=form)
        fast_gives_naive(fast, diagonal_loop, arguments(1, units, varies, jnp.float64), FLAGS)


@pytest.mark.parametrize("form", ["scan", "associative"])
@pytest.mark.parametrize("shape", [(), (2, 1), (1, 2, 3), (TIME, 1, 3)], ids=str)
def test_decay_broadcasts(form, shape):
    """A decay of any shape that broadcasts serves a drive of (TIME, 2, 3), with gradients summed back to its shape."""
    _, drive, h0 = arguments(2, (2, 3), False, jnp.float64)
    decay = jr.uniform(jr.key(7), shape, jnp.float64)
    widen = lambda decay: decay.reshape((1,) * (3 - decay.ndim) + decay.shape)
    loop = lambda decay, *a: diagonal_loop(widen(decay), *a)
    fast_gives_naive(lambda *a: diagonal(*a, form=form), loop, (decay, drive, h0))


@pytest.mark.parametrize("form", FORMS)
def test_a_real_decay_serves_a_complex_drive(form):
    """Real decays with complex drives give the complex loop, and the decay's gradient stays real."""
    decay, (_, drive, h0) = arguments(3, (3,), True, jnp.float64)[0], arguments(3, (3,), True, jnp.complex128)
    fast_gives_naive(lambda *a: diagonal(*a, form=form), lambda *a: diagonal_loop(*a), (decay, drive, h0))


@pytest.mark.parametrize("form", FORMS)
def test_exact_answers(form):
    """Decay 1/2 and drives of 1 give 2 - 2^-t; a lone step gives its drive; a decay of 0 forgets."""
    h, final = diagonal(jnp.asarray(0.5), jnp.ones(4), form=form)
    assert h.tolist() == [1.0, 1.5, 1.75, 1.875] and float(final) == 1.875
    h, final = diagonal(jnp.full((1, 2), 0.5), jnp.ones((1, 2)), jnp.array([2.0, 4.0]), form=form)
    assert h.tolist() == [[2.0, 3.0]] and final.tolist() == [2.0, 3.0]
    assert diagonal(jnp.zeros(()), jnp.arange(3.0), jnp.asarray(1e300), form=form)[0].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("form", FORMS)
def test_the_state_is_zero_unless_given(form):
    """Leaving h0 out is a state of zeros."""
    decay, drive, h0 = arguments(4, (3,), True, jnp.float64)
    check_close(
        diagonal(decay, drive, form=form), diagonal(decay, drive, jnp.zeros_like(h0), form=form), 0.0, "no state"
    )


@pytest.mark.parametrize("form", ["scan", "associative"])
@pytest.mark.parametrize("reverse", tiers([False, True], True), ids=["forward", "reverse"])
def test_second_derivatives(form, reverse):
    """The written gradient can itself be differentiated: the curvature is that of the loop."""
    args = arguments(5, (2,), False, jnp.float64)
    power = lambda run: lambda a: sum(jnp.sum(jnp.sin(v)) for v in run(*a))
    slope = lambda run: lambda a: sum(jnp.sum(g**2) for g in jax.grad(power(run))(a))
    fast = jax.jit(jax.grad(slope(lambda *a: diagonal(*a, form=form, reverse=reverse))))(args)
    loop = jax.jit(jax.grad(slope(lambda *a: diagonal_loop(*a, reverse=reverse))))(args)
    check_close(fast, loop, EXACT, "second derivatives")


@pytest.mark.parametrize("form", FORMS)
def test_absent_tokens_leave_the_state_to_the_bit(form):
    """Masked steps move no bit of the state, and what they hold, NaN included, is not read."""
    # JAX's associative scan adds zeros to interleave, so there -0 becomes 0; every other number stays.
    h0 = jnp.array([0.0 if form == "associative" else -0.0, 0.0, 1e-300, 1 / 3, -1e300])
    nothing = jnp.zeros(3, bool)
    run = jax.jit(lambda *a: diagonal(*a, start=~nothing, mask=nothing, form=form))
    h, final = run(jnp.full((3, 5), jnp.nan), jnp.full((3, 5), jnp.nan), h0)
    check_same_bits((h[0], h[1], h[2], final), (h0,) * 4, "the state")
    gradient = jax.jit(jax.grad(lambda *a: diagonal(*a, mask=MASK, form=form)[0].sum(), argnums=(0, 1, 2)))
    holes = jnp.where(MASK[:, None], jnp.full((TIME, 5), 0.5), jnp.nan)
    for g in gradient(holes, holes, jnp.ones(5)):
        assert np.isfinite(np.asarray(g)).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32], ids=str)
def test_low_precision_accumulates_in_float32(form, dtype):
    """Outputs keep the inputs' dtype, the state is float32, and 4,096 steps lose no more than one rounding of the output."""
    drive = jr.normal(jr.key(0), (4096, 4), jnp.float32).astype(dtype)
    decay = jnp.array([0.0, 0.5, 0.98, 1.0], dtype)
    h, final = jax.jit(lambda *a: diagonal(*a, form=form))(decay, drive)
    exact, exact_final = diagonal(decay.astype(jnp.float64), drive.astype(jnp.float64), form="naive")
    assert h.dtype == dtype and final.dtype == jnp.float32
    check_close(final.astype(jnp.float64), exact_final, 1e-5, "the state")
    check_close(h.astype(jnp.float64), exact, max(1e-5, float(jnp.finfo(dtype).eps)), "every step")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2,), (4096, 2)], ids=["constant", "varying"])
def test_extreme_decays(form, shape):
    """Decays of 0, 1e-30 and 1 stay finite in float32 over 4,096 steps, gradients included."""
    drive = jr.normal(jr.key(0), (4096, 2), jnp.float32)
    score = lambda decay, drive: sum(v.astype(float).sum() for v in diagonal(decay, drive, form=form))
    slope = jax.jit(jax.value_and_grad(score, argnums=(0, 1)))
    for decay in (0.0, 1e-30, 1.0):
        for g in jax.tree_util.tree_leaves(slope(jnp.full(shape, decay, jnp.float32), drive)):
            assert np.isfinite(np.asarray(g)).all(), decay


def test_forward_mode_takes_the_naive_form():
    """Forward-mode derivatives of the naive form are the reverse-mode ones of the fast form."""
    decay, drive, h0 = arguments(6, (2,), False, jnp.float64)
    forward = jax.jacfwd(lambda decay: diagonal(decay, drive, h0, form="naive")[0])(decay)
    reverse = jax.jacrev(lambda decay: diagonal(decay, drive, h0, form="scan")[0])(decay)
    check_close(forward, reverse, EXACT, "Jacobians")


def test_naive_is_the_loop():
    """`naive` itself is the loop on paper."""
    args = arguments(6, (3,), True, jnp.float64)
    check_close(naive(*args), diagonal_loop(*args), EXACT, "naive")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"drive": jnp.zeros((0, 3))}, "the sequence has length 0; a recurrence needs at least one time step"),
        ({"drive": jnp.asarray(1.0)}, "drive is a single number; it needs a leading axis of time steps"),
        ({"decay": jnp.zeros(4)}, r"decay \(4,\) does not broadcast to drive \(5, 3\); give \(time, ...\) or one step"),
        ({"decay": jnp.zeros((2, 3))}, r"decay \(2, 3\) does not broadcast to drive \(5, 3\)"),
        ({"decay": jnp.zeros((1, 5, 3))}, r"decay \(1, 5, 3\) does not broadcast"),
        ({"decay": jnp.zeros(3, int)}, "decay must be real or complex floating-point; got int64"),
        ({"decay": jnp.array([0.5, 1.2, 1.0])}, r"decay has an entry of 1.2; .* of size 1 at most. Clip it"),
        ({"drive": jnp.zeros((5, 3), int)}, "drive must be real or complex floating-point; got int64"),
        ({"h0": jnp.zeros(4)}, r"h0 has shape \(4,\); the inputs need \(3,\)"),
        (
            {"h0": jnp.zeros(3, complex)},
            "h0 is complex where decay and drive are real; its imaginary part would be lost",
        ),
        (
            {"start": jnp.zeros(4, bool)},
            r"start must be an array of one boolean for each of the 5 time steps; got shape \(4,\)",
        ),
        ({"mask": jnp.ones(5)}, r"mask must be an array of one boolean .* got shape \(5,\) of float64"),
        ({"mask": [True] * 5}, "mask must be an array of one boolean .* got shape None of list"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = {"decay": jnp.ones(3), "drive": jnp.ones((5, 3))} | changed
    with pytest.raises(InputError, match=message):
        diagonal(given.pop("decay"), given.pop("drive"), given.pop("h0", None), **given)
