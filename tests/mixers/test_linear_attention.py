"""Linear attention against the explicit double sum over (t, s)."""

import jax.numpy as jnp
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.mixers import LinearAttention
from tests.laws import laws
from tests.tiers import tiers

TIME, D = 6, 4
START, MASK = np.array([0, 0, 1, 0, 1, 0], bool), np.array([1, 1, 0, 1, 1, 1], bool)


def weights(heads: int, d_v: int, d_k: int, d_out: int | None, seed: int = 0) -> list[np.ndarray | None]:
    random = np.random.default_rng(seed)
    shapes = [(heads, d_v, D), (heads, d_k, D), (heads, d_k, D)]
    w = [random.normal(size=shape) for shape in shapes]
    return [*w, None if d_out is None else random.normal(size=(d_out, heads * d_v))]


VARIANTS = {
    "square": (1, D, D, None),
    "wide heads": (2, 3, 5, None),
    "joined": (3, 2, 1, 5),
    "joined to one output": (2, 1, 2, 1),
}


def contributions(x, w_v, w_k, w_q, w_o, start=None, mask=None) -> np.ndarray:
    """W_O (v_s (k_s . q_t)) for each pair of tokens, written out: (time, source, d_out)."""
    joined = np.eye(len(w_v) * w_v.shape[1]) if w_o is None else w_o
    result = np.zeros((len(x), len(x), len(joined)))
    for t in range(len(x)):
        for s in range(t + 1):
            apart = start is not None and start[s + 1 : t + 1].any()
            absent = mask is not None and not (mask[s] and mask[t])
            if not apart and not absent:
                heads = [(k @ x[s]) @ (q @ x[t]) * (v @ x[s]) for v, k, q in zip(w_v, w_k, w_q, strict=True)]
                result[t, s] = joined @ np.concatenate(heads)
    return result


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_double_sum(variant):
    """Outputs and contributions are the double sum over (t, s), for one head and several, rectangular and joined."""
    w, x = weights(*VARIANTS[variant]), np.random.default_rng(1).normal(size=(TIME, D))
    expected = contributions(x, *w)
    attention = LinearAttention(*w)
    form = dual_form(attention, jnp.asarray(x))
    assert attention.d_in == D and attention.d_out == expected.shape[2]
    laws.check_close(np.asarray(form.y), expected.sum(1), laws.ROUNDING, "outputs")
    laws.check_close(np.asarray(form.contributions), expected, laws.ROUNDING, "contributions")
    assert form.kind == "linear given its gates" and not np.asarray(form.bias).any()


@pytest.mark.parametrize("flags", [(START, None), (None, MASK), (START, MASK)], ids=["packed", "gaps", "both"])
def test_the_double_sum_with_flags(flags):
    """The same with packed documents and absent tokens; none of START's documents begins at a token that MASK drops."""
    start, mask = (None if f is None else f for f in flags)
    present = START & MASK if start is not None and mask is not None else start
    w, x = weights(2, 3, 5, 2), np.random.default_rng(1).normal(size=(TIME, D))
    expected = contributions(x, *w, start=present, mask=mask)
    to_jax = lambda f: None if f is None else jnp.asarray(f)
    form = dual_form(LinearAttention(*w), jnp.asarray(x), start=to_jax(start), mask=to_jax(mask))
    laws.check_close(np.asarray(form.y), expected.sum(1), laws.ROUNDING, "outputs")
    laws.check_close(np.asarray(form.contributions), expected, laws.ROUNDING, "contributions")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_closed_form_weights_give_the_contributions(variant):
    """weights[h, t, s] times head h's value, joined by w_o, is what the general path finds."""
    w_v, w_k, w_q, w_o = weights(*VARIANTS[variant])
    x = laws.sequence(1, TIME)
    form = dual_form(LinearAttention(w_v, w_k, w_q, w_o), x, start=jnp.asarray(START), mask=jnp.asarray(MASK))
    assert w_v is not None
    heads = np.einsum("hts,hrd,sd->tshr", form.weights, w_v, np.asarray(x)).reshape(TIME, TIME, -1)
    joined = heads if w_o is None else heads @ w_o.T
    laws.check_close(np.asarray(form.contributions), joined, laws.ROUNDING, "contributions from weights")


@pytest.mark.parametrize("variant", tiers(["wide heads", "joined"], "joined"))
def test_the_laws_hold_for_rectangular_heads(variant):
    """What holds for the registered attention holds for rectangular heads and joined outputs."""
    attention, x = LinearAttention(*weights(*VARIANTS[variant])), laws.sequence(1, TIME)
    state = laws.some_state(attention, 0)
    start, mask = jnp.asarray(START), jnp.asarray(MASK)
    laws.steps_give_the_parallel_form(attention, x, 2)
    laws.nothing_comes_from_the_future(attention, x, 3, seed=0)
    laws.contributions_sum_to_the_output(attention, x, state, start, mask)
    laws.absent_tokens_change_nothing(attention, x, state, mask)
    laws.absent_tokens_leave_no_gradient(attention, x, state, mask)
    laws.packed_documents_stay_apart(attention, x, state, start)


def test_one_head_without_its_axis():
    """Matrices are one head: the same attention as with a leading axis of 1."""
    w_v, w_k, w_q, _ = weights(1, 3, 2, None)
    assert w_v is not None and w_k is not None and w_q is not None
    x = laws.sequence(0, TIME)
    laws.check_same_bits(LinearAttention(w_v[0], w_k[0], w_q[0])(x), LinearAttention(w_v, w_k, w_q)(x), "one head")


@pytest.mark.parametrize(
    ("w_v", "w_k", "w_q", "w_o", "message"),
    [
        (
            (3,),
            (2, 4),
            (2, 4),
            None,
            r"w_v has shape \(3,\); it must be \(1, d_v, 4\): \(head, d_v, d\)",
        ),
        ((3, 4), (0, 4), (0, 4), None, r"w_k has shape \(1, 0, 4\); it must be \(head, d_k, d\), d_k at least 1"),
        ((3, 4), (2, 4), (1, 1, 2, 4), None, r"w_q has shape \(1, 1, 2, 4\)"),
        (
            (3, 4),
            (2, 4),
            (3, 4),
            None,
            r"w_q has shape \(1, 3, 4\); it must be \(1, 2, 4\): \(head, d_k, d\), where .* d_k is 2 in w_k",
        ),
        ((3, 5), (2, 4), (2, 4), None, r"w_v has shape \(1, 3, 5\); it must be \(1, d_v, 4\): .* d is 4 in w_k"),
        ((2, 3, 4), (2, 4), (2, 4), None, r"w_v has shape \(2, 3, 4\); it must be \(1, d_v, 4\): .* head is 1 in w_k"),
        (
            (3, 4),
            (2, 4),
            (2, 4),
            (5, 4),
            r"w_o has shape \(5, 4\); it must be \(d_out, 3\), or None: \(d_out, head\*d_v\)",
        ),
        ((2, 3, 4), (2, 2, 4), (2, 2, 4), (6,), r"w_o has shape \(6,\); it must be \(d_out, 6\)"),
    ],
)
def test_weights_that_do_not_fit(unchecked, w_v, w_k, w_q, w_o, message):
    """Each weight that does not fit is named, with the shapes."""
    with pytest.raises(InputError, match=message):
        LinearAttention(*(None if shape is None else jnp.zeros(shape) for shape in (w_v, w_k, w_q, w_o)))


def test_heads_that_do_not_divide_the_width():
    """`make` says which numbers do not fit."""
    with pytest.raises(InputError, match="3 heads do not divide a width of 4"):
        laws.registry()["linear_attention"](4, key=laws.jr.key(0), heads=3)
