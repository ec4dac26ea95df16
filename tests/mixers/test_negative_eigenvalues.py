"""A delta rule whose eigenvalues reach -1: what one key holds changes its sign, and parity is exact at any length."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.mixers import DeltaRule
from dualform.recurrences import delta
from dualform.recurrences.delta_rule import naive


def parity(negative: bool = True) -> DeltaRule:
    """Of tokens (begin, zero, one), one-hot: the begin writes 1, a one reflects it, a zero leaves it. The output's sign tells."""
    now = jnp.zeros((2, 1)).at[-1].set(1.0)  # each token alone: no convolution
    row = lambda *numbers: jnp.array([[list(numbers)]])
    return DeltaRule(
        w_q=row(9e3, 9e3, 9e3),
        w_k=row(9e3, 9e3, 9e3),
        w_v=row(1.0, 0.0, 0.0),
        c_q=now,
        c_k=now,
        c_v=now,
        w_b=jnp.array([[0.0, -800.0, 800.0]]),
        norm=jnp.ones(1),
        w_o=jnp.ones((1, 1)),
        negative=negative,
    )


def test_parity_is_exact_at_any_length():
    """The sign of every output is the parity of the ones so far, over 5,000 tokens, and its size never changes."""
    bits = np.asarray(jr.bernoulli(jr.key(0), shape=(5000,))).astype(int)
    x = jnp.eye(3)[jnp.concatenate([jnp.zeros(1, int), jnp.asarray(bits) + 1])]
    y = np.asarray(parity()(x)[0][1:, 0])
    np.testing.assert_array_equal(np.sign(y), 1 - 2 * (np.cumsum(bits) % 2))
    np.testing.assert_allclose(np.abs(y), np.abs(y[0]), rtol=1e-9)


def test_its_attention_is_the_parity():
    """What an output takes from the first token is plus or minus one and the same number, and the certificate holds."""
    x = jnp.eye(3)[jnp.array([0, 2, 1, 2, 2, 1, 1, 2])]
    form = dual_form(parity(), x)
    assert form.residual < 1e-12
    taken = np.asarray(form.contributions)[:, 0, 0]
    np.testing.assert_allclose(taken / taken[0], [1, -1, -1, 1, -1, -1, -1, 1], rtol=1e-9)


def test_without_negative_eigenvalues_a_one_erases():
    """The twin with eigenvalues from 0 to 1 forgets at the first one."""
    x = jnp.eye(3)[jnp.array([0, 1, 2, 1])]
    y = np.asarray(parity(negative=False)(x)[0][:, 0])
    assert abs(y[1]) > 0.5 and np.abs(y[2:]).max() < 1e-5


@pytest.mark.parametrize("gated", [False, True])
def test_the_twin_is_the_same_but_for_the_reach_of_its_gate(gated):
    """Half the gate's reach, and the same fresh weights; steps, dual form and call agree where it is doubled."""
    make = lambda negative: DeltaRule.make(8, key=jr.key(1), gated=gated, negative=negative)
    one, two = make(False), make(True)
    x = 3 * jr.normal(jr.key(2), (70, 8))
    y, _ = two(x)
    assert np.abs(np.asarray(y - one(x)[0])).max() > 1e-2
    state, outputs = two.init_state(), []
    for token in x[:20]:
        y_t, state = two.step(token, state)
        outputs.append(y_t)
    np.testing.assert_allclose(jnp.stack(outputs), y[:20], rtol=1e-9, atol=1e-11)
    assert dual_form(two, x).residual < 1e-11


def test_the_chunked_form_holds_for_gates_up_to_two():
    """Against the specification, with gates drawn from 0 to 2 and among them 2 itself."""
    keys = jr.split(jr.key(3), 4)
    q, k, v = (jr.normal(key, (150, 4)) for key in keys[:3])
    k = k / jnp.linalg.norm(k, axis=1, keepdims=True)
    b = jnp.where(jnp.arange(150) % 3 == 0, 2.0, 2 * jr.uniform(keys[3], (150,)))
    y, state = delta(q, k, v, b, form="chunked")
    expected, last = naive(q, k, v, b, jnp.zeros((4, 4)), jnp.ones(150), jnp.ones(150, bool))
    np.testing.assert_allclose(y, expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(state, last, rtol=1e-8, atol=1e-9)
