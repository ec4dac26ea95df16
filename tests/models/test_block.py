"""Norms, MLPs and residual blocks give their equations, and a block keeps the mixers' laws."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import GRU, registry
from dualform.models import MLP, Block, GatedMLP, LayerNorm, RMSNorm
from tests.laws import laws
from tests.models.families import FAMILIES, TIME, D, block, shaken

START, MASK = np.array([0, 0, 1, 0, 1, 0], bool), np.array([1, 1, 0, 1, 0, 1], bool)
X = laws.sequence(0, TIME)


def test_norms_give_their_equations(getkey):
    """RMS norm, with weight and with 1 + weight, and layer norm, with and without bias."""
    x, w, b = np.asarray(X), *(np.asarray(jr.normal(getkey(), (D,))) for _ in range(2))
    unit = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(RMSNorm(w)(X)[0], unit * w, rtol=laws.ROUNDING)
    np.testing.assert_allclose(RMSNorm(w, plus_one=True)(X)[0], unit * (1 + w), rtol=laws.ROUNDING)
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * w
    np.testing.assert_allclose(LayerNorm(w)(X)[0], scaled, rtol=laws.ROUNDING)
    np.testing.assert_allclose(LayerNorm(w, b)(X)[0], scaled + b, rtol=laws.EXACT)


def test_fresh_norms_scale_by_one():
    """`make` gives norms that neither scale nor move; with `plus_one` the weight is then 0."""
    expected = RMSNorm(jnp.ones(D))(X)[0]
    np.testing.assert_array_equal(RMSNorm.make(D)(X)[0], expected)
    np.testing.assert_array_equal(RMSNorm.make(D, plus_one=True)(X)[0], expected)
    assert not np.asarray(RMSNorm.make(D, plus_one=True).weight).any()
    np.testing.assert_array_equal(LayerNorm.make(D)(X)[0], LayerNorm(jnp.ones(D))(X)[0])


def test_a_small_weight_is_not_lost_in_bfloat16():
    """1 + weight is taken in float32: a bfloat16 weight of 2^-9 still scales."""
    norm, x = RMSNorm(jnp.full(D, 2.0**-9, jnp.bfloat16), plus_one=True), jnp.ones((1, D), jnp.float32)
    np.testing.assert_allclose(norm(x)[0], np.full((1, D), 1 + 2.0**-9), rtol=1e-6)


ACTS = {
    "silu": lambda a: a / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "gelu_tanh": lambda a: 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))),
    "gelu": lambda a: 0.5 * a * (1 + np.asarray(jax.scipy.special.erf(jnp.asarray(a) / np.sqrt(2.0)))),
}


@pytest.mark.parametrize("activation", ACTS)
@pytest.mark.parametrize("bias", [True, False])
def test_mlps_give_their_equations(getkey, activation, bias):
    """Plain and gated, with and without biases, for every activation."""
    plain = shaken(MLP.make(D, key=getkey(), hidden=5, activation=activation, bias=bias))
    gated = shaken(GatedMLP.make(D, key=getkey(), hidden=5, activation=activation, bias=bias))
    b = lambda a: 0.0 if a is None else np.asarray(a)
    x, f = np.asarray(X), ACTS[activation]
    hidden = f(x @ np.asarray(plain.w_up).T + b(plain.b_up))
    np.testing.assert_allclose(plain(X)[0], hidden @ np.asarray(plain.w_down).T + b(plain.b_down), rtol=laws.EXACT)
    up = x @ np.asarray(gated.w_up).T + b(gated.b_up)
    hidden = f(x @ np.asarray(gated.w_gate).T + b(gated.b_gate)) * up
    np.testing.assert_allclose(gated(X)[0], hidden @ np.asarray(gated.w_down).T + b(gated.b_down), rtol=laws.EXACT)


def test_default_widths(getkey):
    """An MLP has 4 d hidden units, a gated one 8 d / 3: as many weights."""
    assert MLP.make(12, key=getkey()).w_up.shape == (48, 12)
    assert GatedMLP.make(12, key=getkey()).w_up.shape == (32, 12)


def test_a_block_is_its_equation():
    """h = x + mixer(norm(x)), y = h + mlp(mlp_norm(h)); without norms or MLP the terms are gone, and nothing else."""
    made = shaken(block("hgrn"))
    assert made.norm is not None and made.mlp is not None and made.mlp_norm is not None
    h = X + laws.call(made.mixer, made.norm(X)[0])[0]
    laws.check_close(laws.call(made, X)[0], h + made.mlp(made.mlp_norm(h)[0])[0], laws.ROUNDING, "the block")
    plain: Any = Block(made.norm, made.mixer)
    laws.check_close(laws.call(plain, X)[0], h, laws.ROUNDING, "without an MLP")
    h, bare = X + laws.call(made.mixer, X)[0], Block(None, made.mixer, None, made.mlp)
    laws.check_close(laws.call(cast(Any, bare), X)[0], h + made.mlp(h)[0], laws.ROUNDING, "without norms")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_keeps_the_mixers_laws(name, tmp_path):
    """Steps, causality, padding, packing, batching, gradients through the state and a state on disk, as for a mixer."""
    made, x, state = shaken(block(name, norm="layer", mlp="geglu")), X, laws.some_state(block(name), 0)
    laws.steps_give_the_parallel_form(made, x, 4)
    laws.nothing_comes_from_the_future(made, x, 3, 0)
    laws.absent_tokens_change_nothing(made, x, state, MASK)
    laws.absent_tokens_leave_no_gradient(made, x, state, MASK)
    laws.packed_documents_stay_apart(made, x, state, START)
    laws.a_start_at_an_absent_token_is_ignored(made, x, state, START, MASK)
    laws.gradients_pass_through_the_state(made, x, state, 4)
    laws.a_state_survives_the_disk(made, x, 2, tmp_path)


def test_batching_is_a_loop():
    """vmap over sequences with flags of their own, and over blocks of several seeds."""
    x = jnp.stack([laws.sequence(i, TIME) for i in range(3)])
    roll = lambda values: jnp.stack([jnp.roll(jnp.asarray(values), i) for i in range(3)])
    laws.batching_is_a_loop(block("hgrn"), x, roll(START), roll(MASK))
    laws.an_ensemble_is_a_loop([block("hgrn", seed=seed) for seed in range(3)], X)


@pytest.mark.parametrize("dtype", laws.BOUNDS)
def test_low_precision(dtype):
    """Outputs keep the dtype of x, states are float32; the residual sum is rounded twice more than a mixer's output."""
    rounded = laws.cast((shaken(block("griffin_recurrent")), laws.sequence(0, 512)), jnp.dtype(dtype))
    y, state = laws.call(*rounded)
    assert y.dtype == jnp.dtype(dtype)
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree_util.tree_leaves(state))
    exact = laws.call(*laws.cast(rounded, jnp.float64))[0]
    laws.check_close(y.astype(jnp.float64), exact, 4 * laws.BOUNDS[dtype], dtype)


def test_every_weight_learns():
    """Each weight of a block has a gradient that is not 0."""
    made = shaken(block("hgrn", mlp="gelu"))
    gradients = eqx.filter_jit(eqx.filter_grad(lambda made: jnp.sum(made(X)[0] ** 2)))(made)
    learned = jax.tree_util.tree_leaves(gradients)
    assert all(np.asarray(leaf).any() for leaf in learned)
    assert made.parameters() == sum(leaf.size for leaf in learned)


GLA4, NORM3, KEY = registry()["gla"](4, key=jr.key(0)), RMSNorm(jnp.ones(3)), jr.key(0)
BAD = {
    "width of the mixer": (lambda: Block(None, GRU.make(3, n=5, key=KEY)), "takes tokens of width 3 and gives 5"),
    "norm": (lambda: Block(NORM3, GLA4), "norm is 3 wide; the mixer, 4"),
    "mlp": (lambda: Block(None, GLA4, None, MLP.make(3, key=KEY)), "mlp is 3 wide; the mixer, 4"),
    "norm of no mlp": (lambda: Block(None, GLA4, NORM3), "mlp_norm is given without an mlp; give both, or neither"),
    "no such norm": (lambda: Block.make(GLA4, key=KEY, norm="batch"), "there is no norm 'batch'; there are rms, layer"),
    "no such mlp": (lambda: Block.make(GLA4, key=KEY, mlp="glu"), "there is no MLP 'glu'; there are swiglu, geglu,"),
    "no such activation": (
        lambda: MLP.make(4, key=KEY, activation="mish"),
        "there is no activation 'mish'; there are gelu,",
    ),
    "a norm of a matrix": (lambda: RMSNorm(np.ones((2, 2))), r"weight has shape \(2, 2\); it must be \(d,\)"),
    "a norm's bias": (lambda: LayerNorm(np.ones(2), np.ones(3)), r"bias has shape \(3,\); weight has \(2,\)"),
    "w_up": (lambda: MLP(np.ones(3), np.ones((2, 3))), r"w_up has shape \(3,\); it must be \(n, d\)"),
    "w_down": (lambda: MLP(np.ones((3, 2)), np.ones((3, 2))), r"w_down has shape \(3, 2\); it must be \(2, 3\)"),
    "w_gate": (lambda: GatedMLP(np.ones((3, 1)), np.ones((3, 2)), np.ones((2, 3))), r"w_gate has shape \(3, 1\)"),
    "b_up": (lambda: MLP(np.ones((3, 2)), np.ones((2, 3)), np.ones(2)), r"b_up has shape \(2,\); it must be \(3,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit(unchecked, case):
    """The part that does not fit is named, with both widths."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()
