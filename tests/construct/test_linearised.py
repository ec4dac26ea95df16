"""Attention and gated RNNs in LRU and LSTM stacks: errors of the claimed order, floors, exact decays, messages."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special

from dualform import construct
from dualform.construct.gated_weights import gated_weights, state_power
from dualform.construct.into_lstm import forget_bias
from dualform.construct.layers_needed import BEYOND, CLAIMED, hidden_units
from dualform.construct.linearised import products
from dualform.construct.scale import stack_error
from dualform.errors import InputError
from dualform.mixers import DenseGatedRNN, GatedRNN, LinearAttention
from dualform.models import Stack

from .teachers import gaussian

CLAIM = 1e-6  # of every cell of Table 3 in float64; the floors are 5e-11 and, with two gates at once, 9e-9
SINGLE, DOUBLE = 2.0**-17, 2.0**-13  # near the best float64 scales: cbrt(eps) and eps^(1/4)


def written(target, architecture: str, layers: int | None, scale, dtype=None, order: int = 2) -> Stack:
    """The construction by its name in these tests."""
    if architecture == "lstm":
        return construct.lstm(target, layers, scale, dtype, order)
    return construct.lru(target, architecture, layers, scale, dtype, order)


def error(target, architecture: str, layers: int | None, scale, order: int = 2) -> float:
    """Its float64 error on tokens that chose nothing."""
    return stack_error(
        lambda dtype: written(target, architecture, layers, scale, dtype, order), target, "float64", key=jr.key(7)
    )


@pytest.fixture(scope="module")
def rows() -> list[construct.Row]:
    """Table 3 as measured, d = 4."""
    return construct.table3()


@pytest.mark.slow
def test_every_cell_of_table_3(rows):
    """Each of the paper's eight claims holds, with the number of layers it names, to 1e-6 in float64; float32 is coarser."""
    cells = [(row.architecture, row.target, row.layers) for row in rows]
    assert cells == [(*cell, layers) for cell, layers in CLAIMED.items()] + list(BEYOND)
    for row in rows:
        assert row.float64 <= CLAIM
        assert 100 * row.float64 < row.float32 < 1e-3
        assert row.curve.floor("float64") < row.curve.floor("float32")
        assert row.curve.best["float64"] < row.curve.best["float32"]


COUNTS = {
    ("LRU In-Out", "gated RNN", 1): 8,
    ("LRU", "gated RNN", 2): 8,
    ("LSTM", "gated RNN", 2): 2 * 8 + 2 * 8,
    ("LRU In-Skip", "linear attention", 1): 10,
    ("LSTM", "linear attention", 1): 4 * 16,
}
"""A gated RNN of n = 8 keeps 8 memories in an LRU and 2 cells a unit in LSTMs; attention in one LSTM layer takes 4 d^2."""


@pytest.mark.slow
def test_counts_of_table_3(rows):
    """Rows of the table have the counts."""
    hidden = {(row.architecture, row.target, row.layers): row.hidden for row in rows}
    assert {cell: hidden[cell] for cell in COUNTS} == COUNTS


@pytest.mark.parametrize("cell", COUNTS)
def test_counts(cell):
    """Units that remember, of all layers, are as many as are claimed."""
    architecture, name, layers = cell
    target = GatedRNN.make(4, key=jr.key(0)) if name == "gated RNN" else LinearAttention.make(4, heads=1, key=jr.key(1))
    kind = {"LRU": "out", "LRU In-Out": "in_out", "LRU In-Skip": "in_skip", "LSTM": "lstm"}[architecture]
    stack = written(target, kind, layers, DOUBLE)
    assert sum(hidden_units(layer) for layer in stack.layers) == COUNTS[cell]


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("architecture", ["in_out", "lstm"])
def test_order_of_the_error(architecture, order):
    """In float64 the error falls as scale^order: halving the scale divides it by 2^order, to 2%."""
    target = GatedRNN.make(4, key=jr.key(1))
    scales = (2.0**-5, 2.0**-6, 2.0**-7)
    curve = construct.linearisation_curve(
        lambda scale, dtype: written(target, architecture, None, scale, dtype, order), target, scales, ("float64",)
    )
    slopes = -np.diff(np.log2(curve.errors["float64"]))
    assert np.allclose(slopes, order, atol=0.03)
    assert curve.best == {"float64": scales[-1]}


def test_order_of_two_gates_at_once():
    """The one-layer LSTM, whose products need two linearised gates at the same time, also has an error of O(scale^2)."""
    target = LinearAttention.make(4, heads=1, key=jr.key(2))
    curve = construct.linearisation_curve(
        lambda scale, dtype: construct.lstm(target, 1, scale, dtype), target, (2.0**-6, 2.0**-7), ("float64",)
    )
    coarse, fine = curve.errors["float64"]
    assert 3.95 < coarse / fine < 4.05


def test_the_fourth_order_has_a_lower_floor():
    """Where sigma''' = 0 the sigmoid's linearisation is at least 50 times better at its best than about 0."""
    target = LinearAttention.make(4, heads=1, key=jr.key(2))
    assert 50 * error(target, "lstm", 1, 2.0**-9, order=4) < error(target, "lstm", 1, DOUBLE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_automatic_scale(dtype):
    """The scale found by itself is at most 3 times worse, in error, than the best of a grid 16 times as fine."""
    target = LinearAttention.make(4, heads=1, key=jr.key(2))
    found = written(target, "in_skip", 1, None, dtype)
    layer: Any = found.layers[0]
    middle = 2.0**-7 if dtype == "float32" else SINGLE
    curve = construct.linearisation_curve(
        lambda scale, dtype: written(target, "in_skip", 1, scale, dtype),
        target,
        [middle * 2.0 ** (k / 16) for k in range(-40, 41, 2)],
        (dtype,),
        key=jr.key(7),
    )
    assert layer.w_m_in.dtype == dtype
    assert stack_error(lambda _: found, target, dtype, key=jr.key(7)) <= 3 * curve.floor(dtype)
    assert curve.best[dtype] not in (curve.scales[0], curve.scales[-1])  # the fine grid holds the valley


@pytest.mark.parametrize(
    ("architecture", "layers", "scale"),
    [("out", 2, SINGLE), ("in_out", 1, SINGLE), ("in_skip", 1, SINGLE), ("lstm", 1, DOUBLE), ("lstm", 2, SINGLE)],
)
def test_rectangular_heads(architecture, layers, scale):
    """Two heads with values and keys of other widths than the tokens, joined by w_o, are written as well as a square one."""
    assert error(gaussian(jr.key(3), 3, 2, 4, heads=2, d_out=5), architecture, layers, scale) <= CLAIM


@pytest.mark.parametrize(("architecture", "layers"), [("in_out", 1), ("lstm", 2)])
def test_given_decays_are_exact(architecture, layers):
    """Decays of 0 and 1 are exactly that, the others to rounding, whether given or trained; the outputs follow."""
    decay = jnp.array([0.0, 1.0, 0.5, 1e-3, 1 - 1e-12, 1.0])
    made = GatedRNN.make(2, key=jr.key(4), n=6)
    nu = jnp.log(-jnp.log(decay))
    given = GatedRNN(
        w_m_in=made.w_m_in,
        w_x_in=made.w_x_in,
        w_m_out=made.w_m_out,
        w_x_out=made.w_x_out,
        readout=made.readout,
        decay=decay,
    )
    trained = GatedRNN(
        w_m_in=made.w_m_in, w_x_in=made.w_x_in, w_m_out=made.w_m_out, w_x_out=made.w_x_out, readout=made.readout, nu=nu
    )
    for target in (given, trained):
        assert error(target, architecture, layers, SINGLE) <= CLAIM
        layer: Any = written(target, architecture, layers, SINGLE).layers[0]
        if architecture == "lstm":
            found = jax.nn.sigmoid(layer.b[1])[: len(decay)]
        else:
            assert not jnp.any(layer.core.decay().imag)
            found = layer.core.decay().real
        assert found[0] == 0 and found[1] == found[5] == 1
        assert np.allclose(found, decay, rtol=1e-12, atol=1e-16)


def test_forget_bias_saturates():
    """sigma(forget_bias) is exactly 1 for lam = 1 and exactly 0 for lam = 0, in float32 and float64."""
    bias = forget_bias(np.array([-np.inf, np.inf]))
    for dtype in (jnp.float32, jnp.float64):
        assert jax.nn.sigmoid(jnp.asarray(bias, dtype)).tolist() == [1, 0]


@pytest.mark.parametrize(("architecture", "layers"), [("out", 2), ("in_skip", 1), ("lstm", 1)])
def test_documents_gaps_and_steps(architecture, layers):
    """The stack forgets at a start, leaves gaps alone and steps, as the attention that it is."""
    target = LinearAttention.make(4, heads=1, key=jr.key(5))
    stack = written(target, architecture, layers, DOUBLE)
    x = jr.normal(jr.key(6), (9, 4))
    flags = {"start": jnp.arange(9) == 4, "mask": (jnp.arange(9) != 2) & (jnp.arange(9) != 6)}
    run = eqx.filter_jit(lambda module: module(x, **flags)[0])
    assert np.allclose(run(stack), run(target), atol=CLAIM)
    step, state = eqx.filter_jit(lambda x_t, state: stack.step(x_t, state)), stack.init_state()
    expected = eqx.filter_jit(lambda: target(x)[0])()
    for t in range(3):
        y_t, state = step(x[t], state)
        assert np.allclose(y_t, expected[t], atol=CLAIM)


def test_products_with_a_constant_are_exact():
    """A product with a bias alone takes one unit with a gate of exactly 1, in either branch; others take two."""
    w_m = np.array([[0.0, 0.0, 3.0], [1.0, -2.0, 0.5], [1.0, 1.0, 1.0]])
    w_x = np.array([[1.0, 2.0, 1.0], [0.0, 0.0, -2.0], [2.0, 1.0, 0.0]])
    found = products(w_m, w_x, np.eye(3), 2.0**-10, 2)
    assert found.product.tolist() == [2, 2, 0, 1]
    z = np.array([0.3, -1.1, 1.0])
    units = scipy.special.expit(found.w_m @ z) * (found.w_x @ z)
    exact = (w_m @ z) * (w_x @ z)
    assert np.allclose((found.collect @ units)[:2], exact[:2], rtol=1e-15)
    assert 1e-11 < abs((found.collect @ units)[2] / exact[2] - 1) < 1e-6


def test_state_power_in_closed_form():
    """For a drive of x^2, E[h_t^2] is 3 without memory and t^2 + 2 t with all of it."""
    one = np.array([[1.0, 0.0], [1.0, 0.0]])
    t = np.arange(1, 65)
    assert np.allclose(np.diag(state_power(one, one, np.array([0.0, 1.0]))), [3.0, float(np.mean(t**2 + 2 * t))])


def test_gated_weights_are_the_target():
    """The plain arrays of an attention and of a gated RNN compute the target's own outputs."""
    x = np.asarray(jr.normal(jr.key(8), (1, 16, 4)))
    for target in (LinearAttention.make(4, key=jr.key(9)), GatedRNN.make(4, key=jr.key(9))):
        expected = eqx.filter_jit(lambda target: target(jnp.asarray(x[0]))[0])(target)
        assert np.allclose(gated_weights(target).outputs(x)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("half", ["linear attention", "gated RNN"])
def test_table_4(half):
    """With ideal activations the printed left half is the attention; the right is infinite until its output gates are 1."""
    attention = gaussian(jr.key(10), 3, 2, 4, heads=2, d_out=5)
    target, scale = (attention, DOUBLE) if half == "linear attention" else (GatedRNN.make(4, key=jr.key(11)), SINGLE)
    found = construct.table4(target, scale)
    assert found.target == half
    assert found.error < 1e-14
    assert found.error_as_printed == (found.error if half == "linear attention" else np.inf)
    assert found.used_error < CLAIM
    assert len(found.printed) == len(found.used) == (1 if half == "linear attention" else 2)
    for cell in (*found.printed, *found.used):
        assert not any(np.any(gate.v) for gate in cell)
    printed, used = found.printed[0], found.used[0]
    assert np.array_equal(printed.f.b, np.full(16, np.inf)) == (half == "linear attention")
    count = len(printed.c.u)
    ratio = used.g.u[:count] / printed.c.u[:, : target.d_in] if half == "linear attention" else None
    if ratio is not None:  # the used keys are the printed ones, each unit's by one factor, and mirrored
        assert np.allclose(ratio, ratio[:, :1]) and np.array_equal(used.g.u[:count], -used.g.u[count : 2 * count])
    assert all(remark.endswith(".") for remark in found.remarks)


def test_an_attention_of_zeros():
    """Zero weights give outputs of zero, not NaN."""
    zero = LinearAttention(jnp.zeros((2, 2)), jnp.zeros((2, 2)), jnp.zeros((2, 2)))
    for architecture in (*construct.VARIANTS, "lstm"):
        stack = written(zero, architecture, None, 0.1)
        assert not jnp.any(eqx.filter_jit(lambda stack: stack(jnp.ones((3, 2)))[0])(stack))


@pytest.mark.parametrize(
    ("target", "architecture", "layers", "message"),
    [
        (
            "rnn",
            "out",
            1,
            r"LRU out writes a gated RNN into 2 layer\(s\), not into 1: its recurrence reads the tokens linear",
        ),
        ("attention", "out", 1, r"LRU out writes linear attention into 2 layer\(s\), not into 1"),
        (
            "rnn",
            "in_out",
            2,
            r"LRU in_out writes a gated RNN into 1 layer\(s\), not into 2: its input gate, memory and",
        ),
        (
            "rnn",
            "in_skip",
            1,
            r"LRU in_skip writes a gated RNN into 2 layer\(s\), not into 1: its output gate reads the t",
        ),
        ("attention", "in_skip", 3, r"LRU in_skip writes linear attention into 1 or 2 layer\(s\), not into 3"),
        ("rnn", "lstm", 1, "an LSTM writes a gated RNN into 2 layers, not into 1: its output gate reads the token and"),
        ("attention", "lstm", 3, "an LSTM writes linear attention into 1 or 2 layers, not into 3"),
        ("attention", "skip", 1, "there is no LRU variant 'skip'; the variants are out, in_out, in_skip"),
    ],
)
def test_impossible_layers(target, architecture, layers, message):
    """A number of layers that cannot be says why, and which number works; an unknown variant lists the known."""
    made = GatedRNN.make(2, key=jr.key(0)) if target == "rnn" else LinearAttention.make(2, key=jr.key(0))
    with pytest.raises(InputError, match=message):
        written(made, architecture, layers, 0.1)


@pytest.mark.parametrize("write", [construct.lru, construct.lstm])
def test_bad_arguments(write, unchecked):
    """Targets, scales, orders and dtypes that cannot be used say so."""
    attention = LinearAttention.make(2, key=jr.key(0))
    with pytest.raises(InputError, match="starts from a LinearAttention or a GatedRNN; got DenseGatedRNN"):
        write(DenseGatedRNN.make(2, key=jr.key(0)))
    for scale in (0, -1.0, np.inf, np.nan, "small"):
        with pytest.raises(InputError, match="the linearisation scale is .*; it must be a positive number, or None"):
            write(attention, scale=scale)
    with pytest.raises(InputError, match="the linearisation has order 3; it can be 2"):
        write(attention, order=3)
    with pytest.raises(InputError, match="the weights are asked for in bfloat16; a linearised sigmoid needs float32"):
        write(attention, dtype=jnp.bfloat16)
    with jax.enable_x64(False), pytest.raises(InputError, match="in float64 and JAX is set to float32; enable it"):
        write(attention, dtype="float64")
    broken = LinearAttention(jnp.full((2, 2), jnp.nan), jnp.eye(2), jnp.eye(2))
    with pytest.raises(InputError, match="w_v holds a NaN or an infinity"):
        write(broken)
    rnn = GatedRNN.make(2, key=jr.key(0))
    lost = GatedRNN(
        w_m_in=rnn.w_m_in,
        w_x_in=rnn.w_x_in,
        w_m_out=rnn.w_m_out,
        w_x_out=rnn.w_x_out,
        readout=rnn.readout,
        nu=jnp.full(4, jnp.nan),
    )
    with pytest.raises(InputError, match="the decays hold a NaN"):
        write(lost)


def test_bad_curves_and_tables(unchecked):
    """A curve without scales, or with a scale or width that cannot be, says so."""
    attention = LinearAttention.make(2, key=jr.key(0))
    make = lambda scale, dtype: construct.lru(attention, scale=scale, dtype=dtype)
    with pytest.raises(InputError, match="there is no scale to measure"):
        construct.linearisation_curve(make, attention, ())
    with pytest.raises(InputError, match="the linearisation scale is 0.0; it must be a positive number"):
        construct.linearisation_curve(make, attention, (0.0,))
    with pytest.raises(InputError, match="asked for in float16"):
        construct.linearisation_curve(make, attention, (0.1,), ("float16",))
    with pytest.raises(InputError, match="d is 0; the tokens need a width of at least 1"):
        construct.table3(0)
    with pytest.raises(InputError, match="the linearisation has order 1"):
        construct.table3(2, order=1)
    with pytest.raises(InputError, match="starts from a LinearAttention or a GatedRNN; got str"):
        construct.table4("attention")
