"""The outer-product recurrence, with and without decay, against its specification and the loop on paper."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences import outer
from dualform.recurrences.chunks import moderate, products
from dualform.recurrences.outer_product import naive
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.loops import outer_loop
from tests.recurrences.test_diagonal import FLAGS, MASK, TIME, flags_of
from tests.tiers import tiers

DECAYS = {"none": None, "head": (), "rows": (3,), "columns": (2,)}


def arguments(kind="none", time=TIME, d_k=3, d_v=2):
    keys = jr.split(jr.key(0), 5)
    shapes = [(time, d_k), (time, d_k), (time, d_v), (d_k, d_v)]
    given = tuple(normal(k, shape) for k, shape in zip(keys, shapes, strict=False))
    return given if kind == "none" else (*given, jr.uniform(keys[4], (time, *DECAYS[kind]), jnp.float64))


def named(kind, *a, **options) -> Any:
    """`outer` of positional arguments, the decay, where there is one, the fifth, then the flags."""
    given, flags = (a[:4], a[4:]) if kind == "none" else (a[:4], a[5:])
    decay = {} if kind == "none" else {"value_decay" if kind == "columns" else "decay": a[4]}
    return outer(*given, **decay, **flags_of(*flags), **options)


def loop(kind, *a) -> Any:
    """The loop on paper, the decay in the shape of one that broadcasts to the state."""
    q, k, v, state, *rest = a
    if kind == "none":
        return outer_loop(q, k, v, state, None, *rest)
    decay = {"head": lambda d: d, "rows": lambda d: d[:, :, None], "columns": lambda d: d[:, None]}[kind](rest[0])
    return outer_loop(q, k, v, state, decay, *rest[1:])


LOOPED = [("none", "parallel"), ("head", "naive"), ("head", "chunked"), ("rows", "chunked")]


@pytest.mark.parametrize(("kind", "form"), tiers(product(DECAYS, ["naive", "chunked", "parallel"]), *LOOPED))
def test_forms_give_the_loop(kind, form):
    """Values and the gradients of queries, keys, values, state and decay are those of the loop, with flags and without."""
    fast_gives_naive(lambda *a: named(kind, *a, form=form), lambda *a: loop(kind, *a), arguments(kind), ((), *FLAGS))


@pytest.mark.parametrize(("kind", "chunk"), tiers(product(["none", "rows"], [1, 2]), ("none", 1), ("rows", 2)))
def test_any_chunk_gives_the_loop(kind, chunk):
    """The same whatever the chunk."""
    fast_gives_naive(lambda *a: named(kind, *a, chunk=chunk), lambda *a: loop(kind, *a), arguments(kind), FLAGS[:1])


@pytest.mark.parametrize(("kind", "time"), tiers(product(DECAYS, [64, 150]), ("rows", 64), ("none", 150)))
def test_long_sequences_give_naive(kind, time):
    """Lengths of a chunk and far past it give the specification, with documents that begin anywhere."""
    random = np.random.default_rng(time)
    flags = [(jnp.asarray(random.random(time) < 0.03), jnp.asarray(random.random(time) < 0.9))]
    slow = lambda *a: named(kind, *a, form="naive")
    fast_gives_naive(lambda *a: named(kind, *a), slow, arguments(kind, time), flags)


@pytest.mark.parametrize("kind", tiers(["head", "rows", "columns"], "rows"))
def test_extreme_decays(kind):
    """Decays of exactly 0, of 1e-30, of 1e-320 and of exactly 1 give the specification, gradients too, and no NaN."""
    *given, decay = arguments(kind, 150)
    extremes = jnp.array([0.0, 1e-30, 1e-320, 1.0, 1.0])
    decay = extremes[jr.randint(jr.key(5), decay.shape, 0, 5)]
    slow = lambda *a: named(kind, *a, form="naive")
    fast_gives_naive(lambda *a: named(kind, *a), slow, (*given, decay))


def test_decays_multiply():
    """`products` is the product of the decays behind s up to t, zeros and all."""
    decay = np.array([0.5, 0.0, 0.25, 1.0, 1e-200, 1e-200, 0.5, 3.0])
    expected = [[np.prod(decay[s + 1 : t + 1]) if s <= t else 0.0 for s in range(8)] for t in range(8)]
    np.testing.assert_array_equal(products(jnp.asarray(decay)), expected)


@pytest.mark.parametrize("kind", tiers(["none", "rows"], "rows"))
def test_reversed_is_flipped(kind):
    """From the last token to the first, flags included, is the recurrence of the flipped sequence."""
    start, mask = FLAGS[0]
    q, k, v, state, *decay = arguments(kind)
    turned = tuple(a[::-1] for a in (q, k, v))
    y, final = named(kind, *turned, state, *(a[::-1] for a in decay), start[::-1], mask[::-1], reverse=True)
    forward = named(kind, q, k, v, state, *decay, start, mask)
    check_close((y[::-1], final), forward, EXACT, "reversed")


@pytest.mark.parametrize("kind", tiers(DECAYS, "head", "columns"))
def test_absent_tokens_leave_the_state_to_the_bit(kind):
    """Masked tokens move no bit of the state, and NaN in them, queries and decays included, reaches no gradient."""
    q, k, v, state, *decay = arguments(kind)
    nothing = jnp.zeros(TIME, bool)
    holes = lambda a: jnp.where(MASK.reshape(-1, *[1] * (a.ndim - 1)), a, jnp.nan)
    q_nan, k_nan, v_nan, *decay_nan = (holes(a) for a in (q, k, v, *decay))
    y, final = named(kind, q_nan, k_nan, v_nan, -state, *decay_nan, ~nothing, nothing)
    check_same_bits(final, -state, "the state")
    assert not np.asarray(y).any()
    total = lambda *a: named(kind, *a, jnp.zeros(TIME, bool), MASK)[0].sum()
    whole = jax.jit(jax.grad(total, argnums=tuple(range(4 + len(decay)))))
    found = whole(q_nan, k_nan, v_nan, state, *decay_nan)
    check_close(found, whole(q, k, v, state, *decay), EXACT, "gradients with NaN in absent tokens")


@pytest.mark.parametrize("kind", tiers(DECAYS, "none", "rows"))
def test_low_precision_accumulates_in_float32(kind):
    """bfloat16 inputs are summed in float32."""
    q, k, v, _, *decay = arguments(kind, time=1000)
    q, k, v, *decay = (a.astype(jnp.bfloat16) for a in (q, k, v, *decay))
    y, state = named(kind, q, k, v, None, *decay)
    assert y.dtype == state.dtype == jnp.float32
    exact = named(kind, *(a.astype(jnp.float64) for a in (q, k, v)), None, *(a.astype(jnp.float64) for a in decay))
    check_close((y.astype(jnp.float64), state.astype(jnp.float64)), exact, 1e-5, "bfloat16")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decay": jnp.full(5, 1.5)}, r"decay has an entry of 1.5; it is what a step leaves of the past, in \[0, 1\]"),
        ({"value_decay": jnp.full((5, 2), -0.5)}, r"value_decay has an entry of -0.5; .* if these are logarithms"),
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
        ({"chunk": 0}, "chunk is 0; it must be at least 1 token, and a power of two"),
        ({"chunk": 48}, "chunk is 48; it must be at least 1 token, and a power of two"),
        ({"decay": jnp.zeros((5, 2))}, r"decay has shape \(5, 2\); it must be \(5,\) or \(5, 3\)"),
        ({"value_decay": jnp.zeros((5, 3))}, r"value_decay has shape \(5, 3\); it must be \(5, 2\)"),
        ({"decay": jnp.zeros(5), "value_decay": jnp.zeros((5, 2))}, "decay and value_decay are both given"),
        ({"form": "fast"}, "outer has no form 'fast'; it has chunked, parallel, naive"),
    ],
)
def test_bad_input(unchecked, changed, message):
    """Each input that does not fit is named, with its shape and what is needed."""
    given = {"queries": jnp.zeros((5, 3)), "keys": jnp.zeros((5, 3)), "values": jnp.zeros((5, 2))} | changed
    with pytest.raises(InputError, match=message):
        outer(given.pop("queries"), given.pop("keys"), given.pop("values"), given.pop("state", None), **given)


def test_naive_is_the_loop():
    """The specification itself is the loop on paper, flags included."""
    q, k, v, state = arguments()
    ones = jnp.ones((TIME, 1, 1))
    specification = lambda q, k, v, state, *flags: naive(q, k, v, state, ones, *flags)
    fast_gives_naive(specification, outer_loop_of_flags, (q, k, v, state), FLAGS)


def outer_loop_of_flags(q, k, v, state, start, mask):
    return outer_loop(q, k, v, state, None, start, mask)


@pytest.mark.parametrize("kind", tiers(["head", "rows", "columns"], "columns"))
def test_moderate_decays_are_divided_by(kind):
    """Decays that allow quotients give the specification, gradients too; one that does not turns all to halving."""
    *given, decay = arguments(kind, 70)
    flags = [(jnp.zeros(70, bool), jnp.ones(70, bool)), (jnp.arange(70) == 5, jnp.arange(70) != 40)]
    slow = lambda *a: named(kind, *a, form="naive")
    assert bool(moderate(0.5 + 0.5 * decay[:64].reshape(64, 1, -1)))
    fast_gives_naive(lambda *a: named(kind, *a), slow, (*given, 0.5 + 0.5 * decay), flags)


@pytest.mark.parametrize(("kind", "low"), tiers([("head", 0.42), ("rows", 0.42), ("columns", 0.62)], ("rows", 0.42)))
def test_thresholds_follow_the_dtype(kind, low):
    """In float32, too, decays at and beside what is divided by give naive's gradients, in one chunk and in several."""
    given = tuple(a.astype(jnp.float32) for a in arguments(kind, 129)[:-1])
    decay = jr.uniform(jr.key(6), (129, *DECAYS[kind]), jnp.float32, low, low + 0.08)
    slow = lambda *a: named(kind, *a, form="naive")
    fast_gives_naive(lambda *a: named(kind, *a, form="chunked"), slow, (*given, decay), tolerance=1e-5)


@pytest.mark.parametrize("shared", tiers([False, True], False), ids=["own decays", "shared decays"])
def test_a_sequence_does_not_depend_on_its_neighbours(shared):
    """Beside decays that cannot be divided by, huge values or NaN, a sequence has the same bits, its gradients too."""
    q, k, v, state, decay = arguments("rows", 65)
    decay = 0.5 + 0.5 * decay

    @jax.jit
    def run(q, k, v, decay):
        total = lambda q, k, v, decay: (lambda y: (jnp.sum(y**2), y))(
            named("rows", q, k, v, state, decay, form="chunked")[0]
        )
        each = jax.value_and_grad(total, argnums=(0, 1, 2, 3), has_aux=True)
        return jax.vmap(each, in_axes=(0, 0, 0, None if shared else 0))(q, k, v, decay)

    beside, first = lambda a, b: jnp.stack([a, b]), lambda tree: jax.tree_util.tree_map(lambda leaf: leaf[0], tree)
    alone = run(*(beside(a, a) for a in (q, k, v)), decay if shared else beside(decay, decay))
    for factor in (0.0, 1e200, jnp.nan):
        other = decay if shared else beside(decay, jnp.clip(factor * decay, 0, 1))
        found = run(*(beside(a, factor * a) for a in (q, k, v)), other)
        check_same_bits(first(found), first(alone), f"beside numbers times {factor}")
    check_close(first(alone)[0][1], named("rows", q, k, v, state, decay, form="naive")[0], EXACT, "naive")
