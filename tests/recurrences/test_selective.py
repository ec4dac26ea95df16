"""The selective state space against its specification and the loop on paper."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences.selective_scan import selective
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.test_diagonal import FLAGS, MASK, TIME, flags_of
from tests.tiers import tiers

D, N = 3, 2


def arguments(time=TIME):
    """x, delta, a, b, c and a state."""
    keys = jr.split(jr.key(0), 6)
    delta, a = jr.uniform(keys[1], (time, D), jnp.float64), -3 * jr.uniform(keys[2], (D, N), jnp.float64)
    rest = (normal(key, shape) for key, shape in zip(keys[3:], ((time, N), (time, N), (D, N)), strict=True))
    return normal(keys[0], (time, D)), delta, a, *rest


def named(form, **options):
    return lambda *a: selective(*a[:6], **flags_of(*a[6:]), form=form, **options)


def loop(x, delta, a, b, c, h, start=None, mask=None, negative=False):
    """The loop on paper."""
    rows = []
    for t in range(len(x)):
        there = True if mask is None else mask[t]
        begins = False if start is None else start[t]
        decay = jnp.exp(delta[t][:, None] * a)
        past = jnp.where(begins, 0.0, (2 * decay - 1 if negative else decay) * h)
        h = jnp.where(there, past + (delta[t] * x[t])[:, None] * b[t][None], h)
        rows.append(jnp.where(there, h @ c[t], 0.0))
    return jnp.stack(rows), h


@pytest.mark.parametrize(
    ("form", "negative"), tiers(product(["naive", "fused"], [False, True]), ("naive", False), ("fused", True))
)
def test_forms_give_the_loop(form, negative):
    """Outputs, the state and the gradients of all six arguments are those of the loop, with flags and without."""
    fast_gives_naive(named(form, negative=negative), partial(loop, negative=negative), arguments(), ((), *FLAGS))


@pytest.mark.parametrize(("time", "negative"), tiers(product([1, 16, 17, 75], [False, True]), (1, False), (75, False)))
def test_long_sequences_give_naive(time, negative):
    """Lengths below, at and past a chunk give the specification, with documents that begin anywhere."""
    random = np.random.default_rng(time)
    flags = [(jnp.asarray(random.random(time) < 0.1), jnp.asarray(random.random(time) < 0.9))]
    fast_gives_naive(named("fused", negative=negative), named("naive", negative=negative), arguments(time), flags)


@pytest.mark.parametrize("negative", tiers([False, True], False))
def test_extreme_steps(negative):
    """Steps of 0, and so large that everything is forgotten at once, or turned, give the specification and no NaN."""
    x, delta, a, *rest = arguments(40)
    delta = jnp.where(jr.bernoulli(jr.key(3), 0.3, delta.shape), 1e6, jnp.where(delta < 0.5, 0.0, delta))
    fast_gives_naive(named("fused", negative=negative), named("naive", negative=negative), (x, delta, a, *rest))


@pytest.mark.parametrize("form", ["naive", "fused"])
def test_reverse(form):
    """From the last token to the first is the turned sequence, flags turned with it."""
    x, delta, a, b, c, state = arguments()
    turn = lambda *values: tuple(v[::-1] for v in values)
    (x_r, delta_r, b_r, c_r), flags = turn(x, delta, b, c), FLAGS[0]
    y, final = named(form, reverse=True)(x, delta, a, b, c, state, *turn(*flags))
    y_turned, final_turned = named(form)(x_r, delta_r, a, b_r, c_r, state, *flags)
    check_close((y, final), (y_turned[::-1], final_turned), EXACT, "reverse")


@pytest.mark.parametrize("form", ["naive", "fused"])
def test_absent_tokens(form):
    """All absent: the state to the bit, and zeros; NaN in absent tokens reaches neither outputs nor gradients."""
    x, delta, a, b, c, state = arguments()
    nothing = jnp.zeros(TIME, bool)
    hole = lambda v: jnp.where(MASK[:, None], v, jnp.nan)
    holed = hole(x), hole(delta), a, hole(b), hole(c), state
    y, final = named(form)(*holed, ~nothing, nothing)
    check_same_bits(final, state, "the state")
    assert not np.asarray(y).any()
    total = lambda *given: named(form)(*given, nothing, MASK)[0].sum()
    gradients = jax.jit(jax.grad(total, argnums=range(6)))
    check_close(gradients(*holed), gradients(x, delta, a, b, c, state), EXACT, "gradients with NaN")


def test_low_precision_accumulates_in_float32():
    """bfloat16 inputs are summed in float32."""
    given = [v.astype(jnp.bfloat16) for v in arguments(300)[:5]]
    y, state = selective(*given)
    assert y.dtype == state.dtype == jnp.float32
    exact = selective(*(v.astype(jnp.float64) for v in given))
    check_close((y.astype(jnp.float64), state.astype(jnp.float64)), exact, 1e-5, "bfloat16")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: jnp.zeros((0, D)), 1: jnp.zeros((0, D)), 3: jnp.zeros((0, N)), 4: jnp.zeros((0, N))}, "has length 0"),
        ({1: jnp.zeros((5, 4))}, r"x and delta must be \(time, d\), a \(d, n\), b and c \(time, n\); got x \(5, 3\)"),
        ({2: jnp.zeros((N, D))}, r"a \(2, 3\)"),
        ({4: jnp.zeros((4, N))}, r"c \(4, 2\)"),
        ({5: jnp.zeros((N, D))}, r"state has shape \(2, 3\); the inputs need \(3, 2\)"),
        ({"mask": jnp.zeros(4, bool)}, r"mask must be an array of one boolean .* got shape \(4,\)"),
        ({"form": "fast"}, "selective has no form 'fast'; it has fused, naive"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = [jnp.zeros((5, D)), jnp.zeros((5, D)), jnp.zeros((D, N)), jnp.zeros((5, N)), jnp.zeros((5, N)), None]
    given = [changed.get(i, value) for i, value in enumerate(given)]
    with pytest.raises(InputError, match=message):
        selective(*given, **{name: value for name, value in changed.items() if isinstance(name, str)})
