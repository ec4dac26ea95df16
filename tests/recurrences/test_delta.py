"""The delta rule against its specification, the loop on paper, and the matrix that it is."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences import delta
from dualform.recurrences.delta_rule import inverted
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.test_diagonal import FLAGS, MASK, TIME, flags_of
from tests.tiers import tiers


def arguments(time=TIME, d_k=3, d_v=2):
    keys = jr.split(jr.key(0), 6)
    q, k, v = (normal(keys[i], (time, d)) for i, d in enumerate((d_k, d_k, d_v)))
    k = k / jnp.linalg.norm(k, axis=1, keepdims=True)
    beta, decay = jr.uniform(keys[3], (time,), jnp.float64, 0, 2), jr.uniform(keys[4], (time,), jnp.float64)
    return q, k, v, beta, normal(keys[5], (d_k, d_v)), decay


def loop(q, k, v, beta, state, decay, start=None, mask=None):
    """S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T, y_t = S_t^T q_t."""
    time, met = len(q), []
    start = jnp.zeros(time, bool) if start is None else start
    mask = jnp.ones(time, bool) if mask is None else mask
    for t in range(time):
        past = jnp.where(start[t], jnp.zeros_like(state), decay[t] * state)
        erased = past - beta[t] * k[t][:, None] * (k[t][None] @ past)
        state = jnp.where(mask[t], erased + beta[t] * k[t][:, None] * v[t][None], state)
        met.append(jnp.where(mask[t], state.T @ q[t], jnp.zeros_like(v[t])))
    return jnp.stack(met), state


def called(*a, **options):
    return delta(*a[:5], decay=a[5], **flags_of(*a[6:]), **options)


@pytest.mark.parametrize("form", ["naive", "chunked", "parallel"])
def test_forms_give_the_loop(form):
    """Values and the gradients of all arguments are those of the loop, with flags and without."""
    fast_gives_naive(lambda *a: called(*a, form=form), loop, arguments(), ((), *FLAGS))


@pytest.mark.parametrize("time", tiers([64, 150], 150))
def test_long_sequences_give_naive(time):
    """Lengths of a chunk and far past it give the specification, with documents that begin anywhere."""
    random = np.random.default_rng(time)
    flags = [(jnp.asarray(random.random(time) < 0.03), jnp.asarray(random.random(time) < 0.9))]
    fast_gives_naive(called, lambda *a: called(*a, form="naive"), arguments(time), flags)


@pytest.mark.parametrize("form", tiers(["chunked", "parallel"], "chunked"))
def test_several_heads_are_each_alone(form):
    """Heads at once, in groups of chunks, give the specification of each, with decays and without."""
    keys, time = jr.split(jr.key(1), 6), 70
    q, k, v = (normal(keys[i], (time, 2, d)) for i, d in enumerate((3, 3, 2)))
    k = k / jnp.linalg.norm(k, axis=-1, keepdims=True)
    beta, decay = (jr.uniform(key, (time, 2), jnp.float64, 0, 1) for key in keys[3:5])
    alone = lambda *a: jax.vmap(partial(called, form="naive"), in_axes=(1, 1, 1, 1, 0, 1), out_axes=(1, 0))(*a)
    given = q, k, v, beta, normal(keys[5], (2, 3, 2)), decay
    fast_gives_naive(lambda *a: called(*a, chunk=4, form=form), alone, given)
    plain = lambda *a: delta(*a, chunk=4, form=form)
    fast_gives_naive(plain, lambda *a: alone(*a, jnp.ones_like(beta)), given[:5])


def test_extremes():
    """Rates of 0, 1 and 2 and decays of 0, 1e-30 and 1 give the specification, gradients too."""
    q, k, v, beta, state, decay = arguments(150)
    beta = jnp.array([0.0, 1.0, 2.0])[jr.randint(jr.key(5), beta.shape, 0, 3)]
    decay = jnp.array([0.0, 1e-30, 1.0, 1.0])[jr.randint(jr.key(6), decay.shape, 0, 4)]
    fast_gives_naive(called, lambda *a: called(*a, form="naive"), (q, k, v, beta, state, decay))


def test_the_inverse():
    """`inverted` is NumPy's inverse of I and the strictly lower part."""
    a = np.asarray(normal(jr.key(0), (3, 16, 16)))
    expected = np.linalg.inv(np.eye(16) + np.tril(a, -1))
    check_close(inverted(jnp.asarray(a)), jnp.asarray(expected), EXACT, "the inverse")


def test_a_rate_of_one_replaces():
    """With a rate of 1 and no decay, reading with the key just written gives the value just written."""
    _, k, v, _, state, _ = arguments()
    y, _ = delta(k, k, v, jnp.ones(TIME), state)
    check_close(y, v, EXACT, "what was just written")


def test_reversed_is_flipped():
    """From the last token to the first, flags included, is the recurrence of the flipped sequence."""
    (start, mask), (q, k, v, beta, state, decay) = FLAGS[0], arguments()
    back = lambda a: a[::-1]
    y, final = delta(
        back(q),
        back(k),
        back(v),
        back(beta),
        state,
        decay=back(decay),
        start=back(start),
        mask=back(mask),
        reverse=True,
    )
    expected = called(q, k, v, beta, state, decay, start, mask)
    check_close((y[::-1], final), expected, EXACT, "reversed")


def test_absent_tokens_leave_the_state_to_the_bit():
    """Masked tokens move no bit of the state, and NaN in them reaches no gradient."""
    q, k, v, beta, state, decay = arguments()
    nothing = jnp.zeros(TIME, bool)
    holes = lambda a: jnp.where(MASK.reshape(-1, *[1] * (a.ndim - 1)), a, jnp.nan)
    y, final = called(holes(q), holes(k), holes(v), holes(beta), -state, holes(decay), ~nothing, nothing)
    check_same_bits(final, -state, "the state")
    assert not np.asarray(y).any()
    total = lambda *a: called(*a, nothing, MASK)[0].sum()
    whole = jax.jit(jax.grad(total, argnums=tuple(range(6))))
    found = whole(holes(q), holes(k), holes(v), holes(beta), state, holes(decay))
    check_close(found, whole(q, k, v, beta, state, decay), EXACT, "gradients with NaN in absent tokens")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"keys": jnp.zeros((5, 4))}, r"queries and keys must be \(time, d_k\) and values \(time, d_v\)"),
        ({"beta": jnp.zeros(4)}, r"beta has shape \(4,\); it must be \(5,\), one for each token"),
        ({"decay": jnp.zeros((5, 3))}, r"decay has shape \(5, 3\); it must be \(5,\)"),
        ({"state": jnp.zeros((2, 3))}, r"state has shape \(2, 3\); the inputs need \(3, 2\)"),
        ({"mask": jnp.zeros(5, int)}, r"mask must be an array of one boolean .* of int64"),
        ({"chunk": 3}, "chunk is 3; it must be at least 1 token, and a power of two"),
        ({"form": "fast"}, "delta has no form 'fast'; it has chunked, parallel, naive"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = {"queries": jnp.zeros((5, 3)), "keys": jnp.zeros((5, 3)), "values": jnp.zeros((5, 2)), "beta": jnp.zeros(5)}
    given |= changed
    with pytest.raises(InputError, match=message):
        delta(**given)
