"""RWKV's running average against its sums on paper, in all its forms."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences.wkv_average import empty_state, join, wkv
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.test_diagonal import FLAGS, MASK, TIME
from tests.tiers import tiers

FORMS = ("naive", "associative")
N = 3
run = functools.partial(jax.jit, static_argnames=("form", "reverse"))(wkv)


def arguments(time=TIME):
    """w, u, k, v, and a state (a, b, m) that something has left."""
    keys = jr.split(jr.key(0), 7)
    w = -jr.uniform(keys[0], (N,), jnp.float64, 0.01, 2)
    state = normal(keys[4], (N,)), 1 + jr.uniform(keys[5], (N,), jnp.float64), normal(keys[6], (N,))
    return w, normal(keys[1], (N,)), normal(keys[2], (time, N)), normal(keys[3], (time, N)), *state


def plain(form):
    """`wkv` with the sums themselves as the state, exp(m) a and exp(m) b."""

    def sums(w, u, k, v, a, b, m, start=None, mask=None):
        y, (a, b, m) = wkv(w, u, k, v, (a, b, m), start=start, mask=mask, form=form)
        return y, jnp.exp(m) * a, jnp.exp(m) * b

    return sums


def on_paper(w, u, k, v, a, b, m, start=None, mask=None):
    """Token by token, the two sums, without a running maximum."""
    a, b, rows = jnp.exp(m) * a, jnp.exp(m) * b, []
    for t in range(len(k)):
        there = True if mask is None else mask[t]
        begins = False if start is None else start[t] & there
        a, b = jnp.where(begins, jnp.zeros_like(a), a), jnp.where(begins, jnp.zeros_like(b), b)
        y = (a + jnp.exp(u + k[t]) * v[t]) / (b + jnp.exp(u + k[t]))
        rows.append(jnp.where(there, y, jnp.zeros_like(y)))
        a = jnp.where(there, jnp.exp(w) * a + jnp.exp(k[t]) * v[t], a)
        b = jnp.where(there, jnp.exp(w) * b + jnp.exp(k[t]), b)
    return jnp.stack(rows), a, b


@pytest.mark.parametrize("form", FORMS)
def test_forms_give_the_sums(form):
    """Outputs, the sums at the end, and the gradients of w, u, k, v and the state are those of the loop on paper."""
    fast_gives_naive(plain(form), on_paper, arguments(), ((), *FLAGS))


@pytest.mark.parametrize("time", tiers([1, 37], 37))
def test_long_sequences_give_naive(time):
    """Any length, with documents that begin anywhere, gives the specification, the state's own parts too."""
    random = np.random.default_rng(time)
    flags = [(jnp.asarray(random.random(time) < 0.03), jnp.asarray(random.random(time) < 0.9))]
    scan = lambda form: (
        lambda w, u, k, v, a, b, m, start, mask: wkv(w, u, k, v, (a, b, m), start=start, mask=mask, form=form)
    )
    fast_gives_naive(scan("associative"), scan("naive"), arguments(time), flags)


@pytest.mark.parametrize("form", FORMS)
def test_exact_answers(form):
    """The first token is read alone; without decay and bonus it is the mean; a bonus of log 3 counts the token thrice."""
    zero, v = jnp.zeros(1), jnp.array([[6.0], [12.0], [0.0]])
    y, _ = run(zero, zero, jnp.zeros((3, 1)), v, form=form)
    check_close(y, jnp.array([[6.0], [9.0], [6.0]]), EXACT, "means")
    y, _ = run(jnp.log(jnp.array([0.5])), jnp.log(jnp.array([3.0])), jnp.zeros((3, 1)), v, form=form)
    check_close(y, jnp.array([[6.0], [42 / 4], [(6 / 2 + 12) / 4.5]]), EXACT, "fading, with a bonus")


@pytest.mark.parametrize("form", FORMS)
def test_reversed_is_flipped(form):
    """From the last token to the first, flags included, is the recurrence of the flipped sequence."""
    w, u, k, v, *state = arguments()
    start, mask = FLAGS[0]
    y, final = run(w, u, k[::-1], v[::-1], tuple(state), start=start[::-1], mask=mask[::-1], reverse=True, form=form)
    forward = run(w, u, k, v, tuple(state), start=start, mask=mask, form=form)
    check_close((y[::-1], final), forward, EXACT, "reversed")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", tiers([jnp.float32, jnp.float64], jnp.float32), ids=["float32", "float64"])
def test_keys_of_any_size(form, dtype):
    """Keys of +-1e4 and decays of any speed neither overflow nor divide by 0, gradients included; the largest takes all."""
    k = jnp.array([[-1e4, 1e4, 0.0], [1e4, -1e4, 0.0], [1e4, 3.0, 0.0]], dtype)
    w, u = jnp.array([-1e-30, -1.0, -1e30], dtype), jnp.zeros(3, dtype)
    v = jnp.arange(1.0, 10.0, dtype=dtype).reshape(3, 3)
    y, _ = run(w, u, k, v, form=form)
    expected = jnp.array([[1.0, 2.0, 3.0], [4.0, 2.0, 4.5], [5.5, 2.0, 7.5]], dtype)
    check_close(y, expected, 1e-6 if dtype == jnp.float32 else EXACT, "the largest")
    gradients = jax.jit(jax.grad(lambda *a: wkv(*a, form=form)[0].sum(), argnums=(0, 1, 2, 3)))(w, u, k, v)
    assert all(np.isfinite(np.asarray(g)).all() for g in gradients)


@pytest.mark.parametrize("form", FORMS)
def test_absent_tokens(form):
    """All absent: the state to the bit, and zeros; NaN in absent tokens reaches neither outputs nor gradients."""
    w, u, k, v, a, b, m = arguments()
    nothing, state = jnp.zeros(TIME, bool), (-0.0 * a, b, m)
    hole = lambda a: jnp.where(MASK[:, None], a, jnp.nan)
    y, final = run(w, u, hole(k), hole(v), state, start=~nothing, mask=nothing, form=form)
    check_same_bits(final, state, "the state")
    assert not np.asarray(y).any()
    total = lambda *a: sum(part.sum() for part in plain(form)(*a, start=nothing, mask=MASK))
    gradients = jax.jit(jax.grad(total, argnums=tuple(range(7))))
    found, whole = gradients(w, u, hole(k), hole(v), a, b, m), gradients(w, u, k, v, a, b, m)
    check_close(found, whole, EXACT, "gradients with NaN")
    assert not np.asarray(found[2])[~MASK].any() and not np.asarray(found[3])[~MASK].any()


@pytest.mark.parametrize("form", FORMS)
def test_low_precision_accumulates_in_float32(form):
    """bfloat16 inputs are summed in float32, over 500 tokens within 1e-5."""
    w, u, k, v = (a.astype(jnp.bfloat16) for a in arguments(500)[:4])
    y, state = run(w, u, k, v, form=form)
    assert y.dtype == jnp.float32 and all(part.dtype == jnp.float32 for part in state)
    w, u, k, v = (a.astype(jnp.float64) for a in (w, u, k, v))
    y_exact, exact = run(w, u, k, v, form="naive")
    wide = lambda parts: tuple(part.astype(jnp.float64) for part in parts)
    check_close((y.astype(jnp.float64), wide(state)), (y_exact, exact), 1e-5, "bfloat16")


def test_join_is_associative():
    """(l c) r = l (c r), whatever their lengths; nothing, of no length, is neutral on either side."""
    w, parts = arguments()[0], [arguments(3 + i)[4:] for i in range(3)]
    left = join(join(parts[0], parts[1], 2 * w), parts[2], 3 * w)
    right = join(parts[0], join(parts[1], parts[2], 3 * w), 5 * w)
    check_close(left, right, EXACT, "associative")
    nothing = empty_state(N, jnp.float64)
    check_same_bits(join(nothing, parts[0], w), parts[0], "neutral on the left")
    check_same_bits(join(parts[0], nothing, 0 * w), parts[0], "neutral on the right")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": jnp.zeros((0, 3)), "v": jnp.zeros((0, 3))}, "the sequence has length 0"),
        ({"v": jnp.zeros((5, 2))}, r"k and v must be \(time, n\), w and u \(n,\); got k \(5, 3\), v \(5, 2\)"),
        ({"w": jnp.zeros(2)}, r"w and u \(n,\); .* w \(2,\), u \(3,\)"),
        ({"state": (jnp.zeros(3), jnp.zeros(3), jnp.zeros(2))}, r"the state has shapes .*; the inputs need \(\(3,\),"),
        ({"start": jnp.zeros(4, bool)}, r"start must be an array of one boolean .* got shape \(4,\)"),
        ({"mask": jnp.zeros(5, int)}, r"mask must be an array of one boolean .* of int64"),
        ({"form": "chunked"}, "wkv has no form 'chunked'; it has naive, associative"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = {"w": jnp.zeros(3), "u": jnp.zeros(3), "k": jnp.zeros((5, 3)), "v": jnp.zeros((5, 3))} | changed
    with pytest.raises(InputError, match=message):
        wkv(given.pop("w"), given.pop("u"), given.pop("k"), given.pop("v"), given.pop("state", None), **given)
