"""The running softmax average and the attention by blocks, against sums on paper."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences.attention import attend, attend_one
from dualform.recurrences.softmax import LOWEST, join, softmax_scan
from tests.laws.laws import EXACT, check_close, check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.test_diagonal import FLAGS, MASK, TIME, flags_of
from tests.tiers import tiers

HEADS, D_V = 2, 3
FAST: Any = "fast"  # no form


def arguments(time=TIME) -> Any:
    """Scores, values, and a state (m, u, w) that something has left."""
    keys = jr.split(jr.key(0), 5)
    state = normal(keys[2], (HEADS,)), 1 + jr.uniform(keys[3], (HEADS,)), normal(keys[4], (HEADS, D_V))
    return normal(keys[0], (time, HEADS)), normal(keys[1], (time, HEADS, D_V)), *state


def scan(form) -> Any:
    return lambda scores, values, m, u, w, *flags: softmax_scan(
        scores, values, (m, u, w), **flags_of(*flags), form=form
    )


def on_paper(scores, values, m, u, w, start=None, mask=None):
    """Token by token: the sum of exp(score - m_0) over what is visible, without a running maximum."""
    total, weighted, top, rows = u, w, m, []
    for t in range(len(scores)):
        begins = start is not None and start[t] and (mask is None or mask[t])
        there = mask is None or mask[t]
        if begins:
            total, weighted, top = jnp.zeros_like(u), jnp.zeros_like(w), jnp.full_like(m, LOWEST)
        if there:
            high = jnp.maximum(top, scores[t])
            total = total * jnp.exp(top - high) + jnp.exp(scores[t] - high)
            weighted = weighted * jnp.exp(top - high)[:, None] + jnp.exp(scores[t] - high)[:, None] * values[t]
            top = high
        rows.append(weighted / total[:, None] if there else jnp.zeros_like(w))
    return jnp.stack(rows), (top, total, weighted)


@pytest.mark.parametrize("form", tiers(["naive", "associative"], "associative"))
def test_forms_give_the_sums(form):
    """Outputs, the state, and the gradients of scores, values and state are those of the loop on paper."""
    cases = [(), *FLAGS]
    for flags in cases:
        fixed = tuple(None if f is None else np.asarray(f) for f in flags)
        fast_gives_naive(
            lambda *a, flags=flags: scan(form)(*a, *flags), lambda *a, fixed=fixed: on_paper(*a, *fixed), arguments()
        )


@pytest.mark.parametrize("time", tiers([1, 64, 150], 1, 150))
def test_long_sequences_give_naive(time):
    """Any length, with documents that begin anywhere, gives the specification."""
    random = np.random.default_rng(time)
    flags = [(jnp.asarray(random.random(time) < 0.03), jnp.asarray(random.random(time) < 0.9))]
    fast_gives_naive(scan("associative"), scan("naive"), arguments(time), flags)


def test_reverse():
    """From the last token to the first is the turned sequence."""
    scores, values, *state = arguments()
    y, final = softmax_scan(scores, values, tuple(state), reverse=True)
    y_turned, final_turned = softmax_scan(scores[::-1], values[::-1], tuple(state))
    check_close((y, final), (y_turned[::-1], final_turned), EXACT, "reverse")


@pytest.mark.parametrize("form", ["naive", "associative"])
def test_scores_of_any_size(form):
    """Scores of +-1e4 neither overflow nor divide by 0: the largest takes all."""
    scores, values, *_ = arguments(3)
    scores = jnp.array([[-1e4, 1e4], [1e4, -1e4], [0.0, 0.0]])
    y, _ = softmax_scan(scores, values, form=form)
    check_close(y[:, 0], jnp.stack([values[0, 0], values[1, 0], values[1, 0]]), EXACT, "head 0")
    check_close(y[:, 1], jnp.stack([values[0, 1]] * 3), EXACT, "head 1")


@pytest.mark.parametrize("form", ["naive", "associative"])
def test_absent_tokens(form):
    """All absent: the state to the bit, and zeros; NaN in absent tokens reaches neither outputs nor gradients."""
    scores, values, *state = arguments()
    nothing = jnp.zeros(TIME, bool)
    hole = lambda a: jnp.where(MASK.reshape(-1, *[1] * (a.ndim - 1)), a, jnp.nan)
    y, final = softmax_scan(hole(scores), hole(values), tuple(state), start=~nothing, mask=nothing, form=form)
    check_same_bits(final, tuple(state), "the state")
    assert not np.asarray(y).any()
    total = lambda *a: scan(form)(*a, nothing, MASK)[0].sum()
    gradients = jax.jit(jax.grad(total, argnums=range(5)))
    check_close(
        gradients(hole(scores), hole(values), *state), gradients(scores, values, *state), EXACT, "gradients with NaN"
    )


def test_join_is_associative():
    """(a b) c = a (b c), and nothing is neutral."""
    parts = [arguments(3 + i)[2:] for i in range(3)]
    left, right = join(join(parts[0], parts[1]), parts[2]), join(parts[0], join(parts[1], parts[2]))
    check_close(left, right, EXACT, "associative")
    nothing = jnp.full(HEADS, LOWEST), jnp.zeros(HEADS), jnp.zeros((HEADS, D_V))
    check_same_bits(join(nothing, parts[0]), parts[0], "neutral")


def dense(q, k, v, first, last, scale):
    """The whole map at once."""
    k, v = (jnp.repeat(a, q.shape[1] // a.shape[1], axis=1) for a in (k, v))
    place = jnp.arange(len(k), dtype=jnp.int32)
    seen = (place[None] >= first[:, None]) & (place[None] <= last[:, None])
    scores = jnp.where(seen[None], jnp.einsum("thk,shk->hts", q, k) * scale, -1e30)
    weights = jnp.where(seen[None], jax.nn.softmax(scores, axis=-1), 0.0)
    return jnp.einsum("hts,shv->thv", weights, v)


@pytest.mark.parametrize(("block", "span"), [(1, 4), (4, 4), (4, 9), (128, 20)])
def test_blocks_give_the_whole_map(block, span):
    """Any block and span, with grouped heads, sources before the first query, and rows that read nothing."""
    time, before = 11, 8
    keys = jr.split(jr.key(1), 3)
    q, k, v = (
        normal(keys[0], (time, 4, 2)),
        normal(keys[1], (time + before, 2, 2)),
        normal(keys[2], (time + before, 2, 3)),
    )
    last = before + jnp.arange(time, dtype=jnp.int32)
    first = (
        jnp.maximum(last - span + 1, jnp.where(jnp.arange(time) < 5, jnp.int32(3), jnp.int32(before + 5)))
        .at[7]
        .set(100)
    )
    fast_gives_naive(
        lambda q, k, v: attend(q, k, v, first, last, span=span, scale=0.5, block=block),
        lambda q, k, v: dense(q, k, v, first, last, 0.5),
        (q, k, v),
    )


@pytest.mark.parametrize("count", [0, 1, 6, 9])
def test_one_query_gives_its_row_of_the_whole_map(count):
    """Over the first sources alone, with grouped heads; over none it is 0."""
    keys = jr.split(jr.key(1), 3)
    q, k, v = normal(keys[0], (1, 4, 2)), normal(keys[1], (9, 2, 2)), normal(keys[2], (9, 2, 3))
    first, last = jnp.zeros(1, jnp.int32), jnp.full(1, count - 1, jnp.int32)
    first_heads = lambda a: jnp.moveaxis(a, 0, 1)
    fast_gives_naive(
        lambda q, k, v: attend_one(q[0], first_heads(k), first_heads(v), jnp.arange(9) < count, scale=0.5)[None],
        lambda q, k, v: dense(q, k, v, first, last, 0.5),
        (q, k, v),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax_scan(jnp.zeros((5, 2)), jnp.zeros((4, 2, 3))), r"scores must be \(time, head\).* \(4, 2, 3\)"),
        (lambda: softmax_scan(jnp.zeros((0, 2)), jnp.zeros((0, 2, 3))), "the sequence has length 0"),
        (
            lambda: softmax_scan(
                jnp.zeros((5, 2)), jnp.zeros((5, 2, 3)), (jnp.zeros(2), jnp.zeros(2), jnp.zeros((3, 2)))
            ),
            r"the state has shapes .*; the inputs need \(\(2,\), \(2,\), \(2, 3\)\)",
        ),
        (
            lambda: softmax_scan(jnp.zeros((5, 2)), jnp.zeros((5, 2, 3)), form=FAST),
            "softmax_scan has no form 'fast'; it has naive, associative",
        ),
        (
            lambda: attend(jnp.zeros((5, 3, 2)), jnp.zeros((5, 2, 2)), jnp.zeros((5, 2, 2)), ZERO, ZERO, span=5),
            "2 key-value heads do not divide 3 query heads",
        ),
        (
            lambda: attend(jnp.zeros((5, 2, 2)), jnp.zeros((4, 2, 2)), jnp.zeros((4, 2, 2)), ZERO, ZERO, span=5),
            "do not fit together",
        ),
        (
            lambda: attend_one(jnp.zeros((3, 2)), jnp.zeros((2, 5, 2)), jnp.zeros((2, 5, 2)), jnp.ones(5, bool)),
            "do not fit together",
        ),
    ],
)
def test_bad_input(unchecked, call, message):
    """Each input that does not fit is named."""
    with pytest.raises(InputError, match=message):
        call()


ZERO = jnp.zeros(5, jnp.int32)
