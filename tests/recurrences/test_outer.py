"""The outer-product recurrence against its specification and the loop on paper."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences import outer
from dualform.recurrences.outer import naive
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.loops import outer_loop
from tests.recurrences.test_diagonal import FLAGS, MASK, TIME, flags_of


def arguments(time=TIME, d_k=3, d_v=2):
    keys = jr.split(jr.key(0), 4)
    return tuple(normal(k, shape) for k, shape in zip(keys, [(time, d_k)] * 2 + [(time, d_v), (d_k, d_v)], strict=True))


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_chunks_give_the_loop(chunk):
    """Values and the gradients of queries, keys, values and state are those of the loop, whatever the chunk."""
    fast = lambda *a: outer(*a[:4], **flags_of(*a[4:]), chunk=chunk)
    fast_gives_naive(fast, lambda *a: outer_loop(*a), arguments(), ((), *FLAGS))


def test_naive_is_the_loop():
    """The specification itself is the loop on paper, flags included."""
    fast_gives_naive(naive, outer_loop, arguments(), FLAGS)


@pytest.mark.parametrize("time", [64, 150])
def test_long_sequences_give_naive(time):
    """Lengths of a chunk and far past it give the specification, with documents that begin anywhere."""
    random = np.random.default_rng(time)
    flags = [(jnp.asarray(random.random(time) < 0.03), jnp.asarray(random.random(time) < 0.9)) for _ in range(3)]
    fast_gives_naive(lambda *a: outer(*a[:4], **flags_of(*a[4:])), naive, arguments(time), flags)


def test_absent_tokens_leave_the_state_to_the_bit():
    """Masked tokens move no bit of the state, and NaN in them, queries included, reaches no gradient."""
    *_, state = arguments()
    nothing = jnp.zeros(TIME, bool)
    q, k, v = (jnp.where(MASK[:, None], a, jnp.nan) for a in arguments()[:3])
    y, final = outer(q, k, v, state, start=~nothing, mask=nothing)
    check_same_bits(final, state, "the state")
    assert not np.asarray(y).any()
    whole = jax.jit(jax.grad(lambda *a: outer(*a, mask=MASK)[0].sum(), argnums=(0, 1, 2, 3)))
    check_close(whole(q, k, v, state), whole(*arguments()), EXACT, "gradients with NaN in absent tokens")


def test_low_precision_accumulates_in_float32():
    """bfloat16 inputs are summed in float32."""
    q, k, v = (a.astype(jnp.bfloat16) for a in arguments(time=1000)[:3])
    y, state = outer(q, k, v)
    assert y.dtype == state.dtype == jnp.float32
    exact = outer(*(a.astype(jnp.float64) for a in (q, k, v)))
    check_close((y.astype(jnp.float64), state.astype(jnp.float64)), exact, 1e-5, "bfloat16")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"queries": jnp.zeros((0, 3)), "keys": jnp.zeros((0, 3)), "values": jnp.zeros((0, 2))},
            "the sequence has length 0",
        ),
        (
            {"keys": jnp.zeros((5, 4))},
            r"queries and keys must be \(time, d_k\) and values \(time, d_v\); got queries \(5, 3\)",
        ),
        ({"values": jnp.zeros((4, 2))}, r"queries and keys must be .* values \(4, 2\)"),
        ({"state": jnp.zeros((2, 3))}, r"state has shape \(2, 3\); the inputs need \(3, 2\)"),
        ({"start": jnp.zeros(4, bool)}, r"start must be an array of one boolean .* got shape \(4,\)"),
        ({"mask": jnp.zeros(5, int)}, r"mask must be an array of one boolean .* of int64"),
        ({"chunk": 0}, "chunk is 0; it must be at least 1 token"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = {"queries": jnp.zeros((5, 3)), "keys": jnp.zeros((5, 3)), "values": jnp.zeros((5, 2))} | changed
    with pytest.raises(InputError, match=message):
        outer(given.pop("queries"), given.pop("keys"), given.pop("values"), given.pop("state", None), **given)
