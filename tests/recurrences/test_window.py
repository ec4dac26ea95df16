"""The window of the last tokens against its specification, and against NumPy's slices."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences.windows import naive, window
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.test_diagonal import FLAGS, MASK, TIME, flags_of


def arguments(width=3, d=2):
    keys = jr.split(jr.key(0))
    return normal(keys[0], (TIME, d)), normal(keys[1], (width, d))


def slow(x, tail, start=None, mask=None):
    """The specification, flags being optional."""
    nothing = jnp.zeros(len(x), bool)
    return naive(x, tail, nothing if start is None else start, ~nothing if mask is None else mask)


@pytest.mark.parametrize("width", [1, 3, TIME + 2])
def test_the_window_gives_naive(width):
    """Values and the gradients of tokens and tail are those of the specification, also where it is longer than time."""
    fast = lambda x, tail, *flags: window(x, width, tail, **flags_of(*flags))
    fast_gives_naive(fast, slow, arguments(width), ((), *FLAGS))


def test_it_is_slices():
    """Without flags, token t sees rows t ... t + width - 1 of the tail and the tokens."""
    x, tail = arguments()
    both = np.concatenate([tail, x])
    before, after = window(x, 3, tail)
    assert np.array_equal(np.asarray(before), np.stack([both[t : t + 3] for t in range(TIME)]))
    assert np.array_equal(np.asarray(after), both[-3:])
    assert not np.asarray(window(x, 3)[0][0]).any()


def test_absent_tokens_leave_the_tail_to_the_bit():
    """Where no token is there the tail stays; NaN in absent tokens reaches neither windows nor gradients."""
    x, tail = arguments()
    nothing = jnp.zeros(TIME, bool)
    before, after = window(jnp.full_like(x, jnp.nan), 3, tail, start=~nothing, mask=nothing)
    check_same_bits(after, tail, "the tail")
    assert not np.asarray(before).any()
    total = jax.jit(jax.grad(lambda x: jnp.sum(window(x, 3, tail, mask=MASK)[0] ** 2)))
    gradient = total(jnp.where(MASK[:, None], x, jnp.nan))
    check_close(gradient, total(x), EXACT, "gradients with NaN in absent tokens")
    assert not np.asarray(gradient)[~np.asarray(MASK)].any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": jnp.zeros((0, 3))}, "the sequence has length 0"),
        ({"x": jnp.zeros(3)}, r"x must be \(time, d\) and width at least 1; got x \(3,\) and 2"),
        ({"width": 0}, r"width at least 1; got x \(5, 3\) and 0"),
        ({"tail": jnp.zeros((4, 3))}, r"tail has shape \(4, 3\); the inputs need \(2, 3\)"),
        ({"mask": jnp.zeros(4, bool)}, r"mask must be an array of one boolean .* got shape \(4,\)"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = {"x": jnp.zeros((5, 3)), "width": 2} | changed
    with pytest.raises(InputError, match=message):
        window(**given)
