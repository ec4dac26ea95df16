"""The dense recurrence against the loop on paper."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences import dense, diagonal
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.loops import dense_loop
from tests.recurrences.test_diagonal import FLAGS, TIME, flags_of


def arguments(n=3):
    keys = jr.split(jr.key(0), 3)
    return normal(keys[0], (n, n)), normal(keys[1], (TIME, n)), normal(keys[2], (n,))


def test_dense_gives_the_loop():
    """Values and the gradients of transition, drive and state are those of the loop, with flags and without."""
    fast = lambda *a: dense(*a[:3], **flags_of(*a[3:]))
    fast_gives_naive(fast, lambda *a: dense_loop(*a), arguments(), ((), *FLAGS))


def test_a_diagonal_transition_is_the_diagonal_recurrence():
    """With A diagonal, dense and diagonal are one."""
    _, drive, h0 = arguments()
    decay = jnp.array([0.0, 0.5, 1.0])
    for start, mask in ((None, None), *FLAGS):
        found = dense(jnp.diag(decay), drive, h0, start=start, mask=mask)
        check_close(found, diagonal(decay, drive, h0, start=start, mask=mask), EXACT, "dense against diagonal")


def test_absent_tokens_leave_the_state_to_the_bit():
    """Masked steps move no bit of the state, and what they hold, NaN included, reaches no gradient."""
    transition, h0, nothing = arguments()[0], jnp.array([-0.0, 1e-320, 1 / 3]), jnp.zeros(TIME, bool)
    holes = jnp.full((TIME, 3), jnp.nan)
    h, final = dense(transition, holes, h0, start=~nothing, mask=nothing)
    check_same_bits((h[0], h[-1], final), (h0,) * 3, "the state")
    for g in jax.grad(lambda *a: dense(*a, mask=nothing)[0].sum(), argnums=(0, 1, 2))(transition, holes, h0):
        assert np.isfinite(np.asarray(g)).all()


def test_low_precision_accumulates_in_float32():
    """bfloat16 inputs are summed in float32."""
    transition = (0.9 * jnp.eye(3)).astype(jnp.bfloat16)
    drive = normal(jr.key(1), (1000, 3)).astype(jnp.bfloat16)
    h, final = dense(transition, drive)
    assert h.dtype == final.dtype == jnp.float32
    exact = dense(transition.astype(jnp.float64), drive.astype(jnp.float64))
    check_close((h.astype(jnp.float64), final.astype(jnp.float64)), exact, 1e-5, "bfloat16")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"drive": jnp.zeros((0, 3))}, "the sequence has length 0"),
        ({"drive": jnp.zeros(3)}, r"drive has shape \(3,\); it must be \(time, n\)"),
        ({"transition": jnp.eye(4)}, r"transition has shape \(4, 4\); drive \(5, 3\) needs \(3, 3\)"),
        ({"h0": jnp.zeros(4)}, r"h0 has shape \(4,\); the inputs need \(3,\)"),
        ({"start": jnp.zeros(5)}, r"start must be an array of one boolean .* got shape \(5,\) of float64"),
        ({"mask": jnp.zeros(6, bool)}, r"mask must be an array of one boolean .* got shape \(6,\) of bool"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = {"transition": jnp.eye(3), "drive": jnp.ones((5, 3))} | changed
    with pytest.raises(InputError, match=message):
        dense(given.pop("transition"), given.pop("drive"), given.pop("h0", None), **given)
