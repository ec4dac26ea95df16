"""A stack of mixers keeps the mixers' laws, and says which of its widths do not fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import GRU, LRUInOut
from dualform.models import Stack
from tests.laws import laws

TIME, D_IN, D_OUT = 6, 3, 2
START, MASK = jnp.array([0, 0, 1, 0, 1, 0], bool), jnp.array([1, 1, 0, 1, 0, 1], bool)
X = laws.sequence(0, TIME, D_IN)


def stack() -> Stack:
    """A GRU of 5 units above an LRU In-Out of width 4, with biases in embedding and readout."""
    keys = jr.split(jr.key(0), 4)
    first = LRUInOut.make(4, key=keys[0])
    second = GRU(*(jr.normal(k, s) / 2 for k, s in zip(keys[1:], [(3, 5, 4), (3, 5, 5), (3, 5)], strict=True)))
    made = Stack.make((first, second), D_IN, D_OUT, key=jr.key(1))
    return eqx.tree_at(lambda s: (s.embedding, s.readout), made, replace_fn=lambda w: w + 0.1)


def state(seed=0):
    return laws.some_state(stack(), seed)  # pyright: ignore[reportArgumentType] - a stack has init_state, too


def test_a_stack_is_its_layers_in_turn():
    """Embedding, layers and readout, each with its bias, one after the other; the states are the layers' own."""
    model = stack()
    y, after = laws.call(model, X)
    z = np.concatenate([X, np.ones((TIME, 1))], axis=1) @ np.asarray(model.embedding).T
    finals = []
    for layer in model.layers:
        z, final = laws.call(layer, jnp.asarray(z))
        finals.append(final)
    expected = np.concatenate([z, np.ones((TIME, 1))], axis=1) @ np.asarray(model.readout).T
    laws.check_close((np.asarray(y), after), (expected, tuple(finals)), laws.ROUNDING, "the stack")
    assert (model.d_in, model.d_out) == (D_IN, D_OUT)


@pytest.mark.parametrize(("start", "mask"), [(None, None), (START, MASK)], ids=["plain", "flags"])
def test_steps_give_the_parallel_form(start, mask):
    """The step loop gives the parallel form, from any state, and with packed documents and absent tokens."""
    found = laws.step_by_step(stack(), X, state(), start, mask)  # pyright: ignore[reportArgumentType] - as above
    y, final = laws.call(stack(), X, state(), start, mask)
    laws.check_close(found, (np.asarray(y), final), laws.EXACT, "steps")


def test_a_sequence_may_be_split():
    """Two calls, the second from the first's states, give what one call gives."""
    model = stack()
    y, final = laws.call(model, X)
    before, carried = laws.call(model, X[:2])
    after, last = laws.call(model, X[2:], carried)
    laws.check_close((jnp.concatenate([before, after]), last), (y, final), laws.EXACT, "two calls")


def test_packed_documents_stay_apart():
    """Documents packed by `start` give what each gives alone, and no gradient crosses their border."""
    model, start = stack(), jnp.arange(TIME) == 2
    y, final = laws.call(model, X, state(), start)
    laws.check_close((y[2:], final), laws.call(model, X[2:]), laws.EXACT, "the second document")
    gradient = eqx.filter_jit(jax.grad(lambda x: jnp.sum(model(x, state(), start=start)[0][2:])))(X)
    assert not np.asarray(gradient[:2]).any() and np.asarray(gradient[2:]).any(axis=1).all()


def test_absent_tokens_change_nothing():
    """Where no token is, NaN or not, the output is exactly 0 (the readout's bias included), and the rest is as without it."""
    model, holes = stack(), jnp.where(MASK[:, None], X, jnp.nan)
    y, final = laws.call(model, holes, state(), None, MASK)
    assert not np.asarray(y)[~MASK].any() and np.asarray(y)[MASK].all()
    kept, final_kept = laws.call(model, X[MASK], state())
    laws.check_close((y[MASK], final), (kept, final_kept), laws.EXACT, "the tokens that are there")
    laws.check_same_bits(laws.call(model, holes, state(), None, ~MASK & MASK)[1], state(), "the states of no token")
    gradients = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(m(holes, state(), mask=MASK)[0] ** 2)))(model)
    assert all(np.isfinite(leaf).all() and np.asarray(leaf).any() for leaf in laws.jtu.tree_leaves(gradients))


def test_parameters_are_counted():
    """`parameters` is the size of all that it learns; `make` begins with biases of 0."""
    model = stack()
    assert model.parameters() == sum(leaf.size for leaf in laws.jtu.tree_leaves(model))
    made = Stack.make(model.layers, D_IN, D_OUT, key=jr.key(0))
    assert made.embedding.shape == (4, D_IN + 1) and made.readout.shape == (D_OUT, 6)
    assert not np.asarray(made.embedding[:, -1]).any() and not np.asarray(made.readout[:, -1]).any()


def test_low_precision_keeps_the_dtype():
    """In bfloat16 the output is bfloat16, the states are float32, and both stay near float64."""
    half = laws.cast((stack(), X), jnp.bfloat16)
    y, final = laws.call(*half)
    assert y.dtype == jnp.bfloat16 and all(leaf.dtype == jnp.float32 for leaf in laws.jtu.tree_leaves(final))
    exact, _ = laws.call(*laws.cast(half, jnp.float64))
    # Rounded to 8 bits at the input of each of four parts.
    laws.check_close(y.astype(jnp.float64), exact, 4 * laws.BOUNDS["bfloat16"], "bfloat16")


GRU5 = GRU.make(5, key=jr.key(0))
MISFITS = {
    "no layer": ((5, 4), (), (2, 6), "a stack needs at least one layer"),
    "a vector to embed": ((5,), (GRU5,), (2, 6), r"embedding has shape \(5,\); it must be \(d_1, d_in \+ 1\)"),
    "embedding": ((4, 4), (GRU5,), (2, 6), "layer 1 takes tokens of width 5; what is below it gives 4"),
    "layers": (
        (5, 4),
        (GRU5, GRU.make(3, key=jr.key(0))),
        (2, 4),
        "layer 2 takes tokens of width 3; what is below it gives 5",
    ),
    "readout": ((5, 4), (GRU5,), (2, 5), r"readout has shape \(2, 5\); it must be \(d_out, 6\): a 1 is appended"),
    "a vector to read": ((5, 4), (GRU5,), (6,), r"readout has shape \(6,\); it must be \(d_out, 6\)"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_widths_that_do_not_fit(unchecked, case):
    """The layer, embedding or readout that does not fit is named, with both widths."""
    embedding, layers, readout, message = MISFITS[case]
    with pytest.raises(InputError, match=message):
        Stack(np.zeros(embedding), layers, np.zeros(readout))


BAD = {
    "wrong width": ({"x": X.T}, "Stack takes tokens of width 3; got 6"),
    "a batch": ({"x": X[None]}, r"got shape \(1, 6, 3\). For a batch use jax.vmap"),
    "a list": ({"x": [[1.0] * 3]}, "Stack takes an array; got list"),
    "no token": ({"x": X[:0]}, "Stack got a sequence of length 0"),
    "token ids": ({"x": X.astype(int)}, "takes real floating-point activations; got int64. Embed token ids first"),
    "short mask": ({"mask": MASK[1:]}, r"mask must be .* each of the 6 tokens; got shape \(5,\) of bool"),
    "0/1 start": ({"start": jnp.ones(6)}, r"start must be .* got shape \(6,\) of float64"),
    "one state": (
        {"state": jnp.zeros(5)},
        r"does not belong to this Stack: shapes \(5,\), expected .* Start from init",
    ),
    "too few states": ({"state": (jnp.zeros((2, 4)),)}, "does not belong to this Stack"),
    "swapped states": ({"state": (jnp.zeros(5), jnp.zeros((2, 4)))}, "the state does not belong to this Stack"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls(unchecked, case):
    """The call says what is wrong, with which value, and what to do."""
    changed, message = BAD[case]
    with pytest.raises(InputError, match=message):
        stack()(**{"x": X} | changed)
