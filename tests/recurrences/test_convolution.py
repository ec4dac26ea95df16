"""The causal convolution against its specification and NumPy's, and the compaction that lets it pass over gaps."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences import convolution
from dualform.recurrences.compaction import compact
from dualform.recurrences.convolutions import naive
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.test_diagonal import FLAGS, MASK, TIME, flags_of


def arguments(width=4, time=TIME, d=3):
    keys = jr.split(jr.key(0), 3)
    return tuple(normal(k, s) for k, s in zip(keys, [(time, d), (width, d), (width - 1, d)], strict=True))


def slow(x, kernel, tail, start=None, mask=None):
    """The specification, flags being optional."""
    nothing = jnp.zeros(len(x), bool)
    return naive(x, kernel, tail, nothing if start is None else start, ~nothing if mask is None else mask)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_convolution_gives_naive(width):
    """Values and the gradients of tokens, kernel and tail are those of the specification, with flags and without."""
    fast = lambda *a: convolution(*a[:3], **flags_of(*a[3:]))
    fast_gives_naive(fast, slow, arguments(width), ((), *FLAGS))


def test_reversed_is_flipped():
    """From the last token to the first, flags included, is the convolution of the flipped sequence."""
    x, kernel, tail = arguments()
    for start, mask in FLAGS:
        y, final = convolution(x[::-1], kernel, tail, start=start[::-1], mask=mask[::-1], reverse=True)
        y_forward, final_forward = convolution(x, kernel, tail, start=start, mask=mask)
        check_close((y[::-1], final), (y_forward, final_forward), EXACT, "reversed")


def test_it_is_the_convolution_of_textbooks():
    """Channel by channel, it is np.convolve, whose kernel is flipped."""
    x, kernel, _ = (np.asarray(a) for a in arguments())
    expected = [np.convolve(x[:, i], kernel[::-1, i])[: len(x)] for i in range(x.shape[1])]
    check_close(convolution(jnp.asarray(x), jnp.asarray(kernel))[0], jnp.asarray(np.stack(expected, 1)), EXACT, "numpy")


def test_absent_tokens_leave_the_tail_to_the_bit():
    """Where no token is there the tail stays; NaN in absent tokens reaches neither outputs nor gradients."""
    x, kernel, tail = arguments()
    nothing = jnp.zeros(TIME, bool)
    y, after = convolution(jnp.full_like(x, jnp.nan), kernel, tail, start=~nothing, mask=nothing)
    check_same_bits(after, tail, "the tail")
    assert not np.asarray(y).any()
    total = jax.jit(jax.grad(lambda x: jnp.sum(convolution(x, kernel, tail, mask=MASK)[0] ** 2)))
    gradient = total(jnp.where(MASK[:, None], x, jnp.nan))
    check_close(gradient, total(x), EXACT, "gradients with NaN in absent tokens")
    assert not np.asarray(gradient)[~np.asarray(MASK)].any()


def test_compaction_moves_tokens_and_back():
    """Tokens that are there move to the front in order, and back to where they were; absent rows are zeros."""
    mask = np.array([False, True, False, True, True, False])
    moved = compact(jnp.asarray(mask))
    a = jnp.where(mask, jnp.arange(6.0), jnp.nan)
    assert moved.pack(a).tolist() == [1, 3, 4, 0, 0, 0] and int(moved.count) == 3
    assert moved.unpack(moved.pack(a)).tolist() == [0, 1, 0, 3, 4, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": jnp.zeros((0, 3))}, "the sequence has length 0"),
        ({"kernel": jnp.zeros((4, 2))}, r"x must be \(time, d\) and kernel \(width, d\).* kernel \(4, 2\)"),
        ({"tail": jnp.zeros((4, 3))}, r"tail has shape \(4, 3\); the inputs need \(3, 3\)"),
        ({"mask": jnp.zeros(4, bool)}, r"mask must be an array of one boolean .* got shape \(4,\)"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = {"x": jnp.zeros((5, 3)), "kernel": jnp.zeros((4, 3))} | changed
    with pytest.raises(InputError, match=message):
        convolution(given.pop("x"), given.pop("kernel"), given.pop("tail", None), **given)
