"""A delta rule and a Mamba whose eigenvalues reach -1: what is held changes its sign, and parity is exact at any length."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import checkpoints, dual_form
from dualform.mixers import DeltaRule, Mamba
from dualform.recurrences import delta
from dualform.recurrences.delta_rule import naive
from tests.laws import laws


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


def parity_by_mamba(negative: bool = True) -> Mamba:
    """The same tokens, a channel each; a step of 0 leaves the first channel's state, a large one turns it, the begin fills it."""
    alone = jnp.array([[1.0, 0.0, 0.0]])
    return Mamba(
        w_u=10 * jnp.eye(3),
        w_z=10 * jnp.ones((3, 3)),
        kernel=jnp.ones((1, 3)),
        bias=jnp.zeros(3),
        w_b=alone,
        w_c=jnp.ones((1, 3)),
        w_1=jnp.array([[0.0, -800.0, 800.0]]),
        w_2=alone.T,
        b_delta=jnp.zeros(3),
        a_log=jnp.zeros((3, 1)),
        skip=jnp.zeros(3),
        w_o=alone,
        negative=negative,
    )


MAKES = (parity, parity_by_mamba)


@pytest.mark.parametrize("parity", MAKES)
def test_parity_is_exact_at_any_length(parity):
    """The sign of every output is the parity of the ones so far, over 5,000 tokens, and its size never changes."""
    bits = np.asarray(jr.bernoulli(jr.key(0), shape=(5000,))).astype(int)
    x = jnp.eye(3)[jnp.concatenate([jnp.zeros(1, int), jnp.asarray(bits) + 1])]
    y = np.asarray(parity()(x)[0][1:, 0])
    np.testing.assert_array_equal(np.sign(y), 1 - 2 * (np.cumsum(bits) % 2))
    np.testing.assert_allclose(np.abs(y), np.abs(y[0]), rtol=1e-9)


@pytest.mark.parametrize("parity", MAKES)
def test_its_attention_is_the_parity(parity):
    """What an output takes from the first token is plus or minus one and the same number, and the certificate holds."""
    x = jnp.eye(3)[jnp.array([0, 2, 1, 2, 2, 1, 1, 2])]
    form = dual_form(parity(), x)
    assert form.residual < 1e-12
    taken = np.asarray(form.contributions)[:, 0, 0]
    np.testing.assert_allclose(taken / taken[0], [1, -1, -1, 1, -1, -1, -1, 1], rtol=1e-9)


@pytest.mark.parametrize("parity", MAKES)
def test_without_negative_eigenvalues_a_one_erases(parity):
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


def fresh(seed: int, negative: bool = True, dtype=None) -> Mamba:
    """A Mamba whose steps are of all sizes, so that what its states are multiplied by is from -1 to 1."""
    mixer = Mamba.make(laws.D, key=jr.key(seed), n=3, negative=negative, dtype=dtype)
    return dataclasses.replace(mixer, b_delta=jnp.linspace(-4, 4, len(mixer.b_delta)).astype(mixer.b_delta.dtype))


@pytest.mark.slow
def test_a_mamba_with_negative_eigenvalues_is_another(tmp_path):
    """Its file says so; its steps and its dual form, by the short way to the shares too, are its call's."""
    mixer, x = fresh(0), 9 * laws.sequence(0, laws.TIME)
    y = mixer(x)[0]
    assert np.abs(np.asarray(y - fresh(0, negative=False)(x)[0])).max() > 0.1 * np.abs(np.asarray(y)).max()
    checkpoints.save_weights(tmp_path / "mamba.safetensors", mixer)
    again = checkpoints.load_weights(tmp_path / "mamba.safetensors", Mamba)
    assert again.negative
    laws.check_close(again(x)[0], y, laws.ROUNDING, "the file's")
    laws.check_close(laws.step_by_step(mixer, x)[0], y, laws.EXACT, "steps")
    form, own, r = dual_form(mixer, x), laws.attention(mixer, x), jr.normal(jr.key(1), (2, *y.shape))
    assert form.residual < 1e-12 and own.direct
    expected = jnp.einsum("hto,tso->hts", r, form.contributions)
    laws.check_close(own.project(x, r), expected, laws.EXACT, "what is projected without a pass for each token")


@pytest.mark.slow
def test_a_mamba_with_negative_eigenvalues_keeps_the_laws():
    """Those that are asked of every registered mixer: of steps, gradients, contributions, flags, and of both low precisions."""
    asked = laws.table_of([fresh(seed) for seed in range(3)])
    split = 1 + np.arange(len(asked.x)) % (laws.TIME - 1)
    for each in (asked, laws.alone(asked)):
        laws.steps_give_the_parallel_form(each, None, split)
        laws.gradients_pass_through_the_state(each, split=split)
        laws.contributions_sum_to_the_output(each)
    laws.absent_tokens_change_nothing(asked._replace(start=np.zeros_like(asked.start)))
    laws.absent_tokens_leave_no_gradient(asked)
    laws.packed_documents_stay_apart(asked._replace(mask=np.ones_like(asked.mask)))
    laws.a_start_at_an_absent_token_is_ignored(asked)
    laws.long_steps_give_the_parallel_form(fresh(0), laws.sequence(0, laws.LONG), calls=2)
    for dtype in laws.BOUNDS:
        laws.low_precision_stays_close(fresh(0), laws.sequence(0, 28 * laws.LONG), dtype)
    for dtype in (jnp.float32, jnp.bfloat16):
        extreme = fresh(0, dtype=dtype)
        extreme = dataclasses.replace(
            extreme, b_delta=jnp.resize(jnp.asarray([-200, 1e4], dtype), extreme.b_delta.shape)
        )
        laws.extremes_stay_finite(extreme, laws.sequence(0, 6).astype(dtype))
