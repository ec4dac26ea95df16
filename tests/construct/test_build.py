"""Constructions: exact to 1e-12, with the counts that the paper states or that `low_rank` proves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from safetensors.numpy import load_file

from dualform import construct
from dualform.construct.certificate import certify, double_sum
from dualform.construct.wiring import symmetric_product
from dualform.errors import InputError
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN
from tests.tiers import tiers

from .teachers import gaussian, of_rank, same_outputs

EXACT = 1e-12  # float64 on 64 tokens (767 for real heads): the algebra loses two or three digits of its sixteen


@pytest.mark.parametrize("form", construct.FORMS)
@pytest.mark.parametrize("d", tiers(range(1, 9), 1, 2, 4, 7))
def test_every_form_is_the_attention(d, form, getkey):
    """Each form gives the attention's double sum, for square heads of width 1 to 8, with the unit counts it states."""
    built = construct.build(gaussian(getkey(), d), form, key=getkey())
    found = built.certificate
    assert found.error <= EXACT
    assert built.used == form and built.reason is None
    symmetric = d * (d + 1) // 2
    hidden = {"full": (d * d, d), "side_gated": (d * d, 0)}.get(form, (symmetric, d))
    assert (found.memory_units, found.forget_units) == hidden
    assert found.readout_units == hidden[0]
    assert (found.least_memory, found.least_forget) == (symmetric, d)


@pytest.mark.parametrize("given", [None, np.ones((2, 3, 4))], ids=["random inputs", "inputs of its own"])
def test_a_certificate_finds_what_is_wrong(given, getkey):
    """Of a network whose outputs are half as large again, the error is a half: it is held to the attention, not to itself."""
    attention = gaussian(getkey(), 4)
    right = construct.gated_rnn(attention)

    def wrong(dtype):
        louder = eqx.tree_at(lambda rnn: rnn.readout, right, 1.5 * right.readout)
        return jax.tree_util.tree_map(lambda a: a.astype(dtype or a.dtype) if eqx.is_inexact_array(a) else a, louder)

    found = certify(wrong, attention, (10, 4), given, key=getkey())
    assert found.random_error == pytest.approx(0.5, abs=EXACT)
    assert found.input_error is None if given is None else found.input_error == pytest.approx(0.5, abs=EXACT)


def test_the_papers_counts(getkey):
    """At d = 4: attention 48 parameters, full 924, compact 474 with 14 hidden and 10 pre-readout units, side gated 256."""
    attention = gaussian(getkey(), 4)
    found = {form: construct.build(attention, form).certificate for form in construct.FORMS}
    assert {c.attention_parameters for c in found.values()} == {48}
    assert {form: c.parameters for form, c in found.items()} == {
        "full": 924,
        "compact": 474,
        "low_rank": 474,
        "side_gated": 256,
    }
    compact = construct.gated_rnn(attention)
    assert compact.w_m_in.shape == (14, 5) and compact.w_m_out.shape == (10, 14)
    assert sorted(np.asarray(compact.decay).tolist()) == [0.0] * 4 + [1.0] * 10


@pytest.mark.parametrize(
    ("d", "d_v", "d_k"),
    tiers(
        [(4, 2, 3), (4, 6, 2), (3, 5, 4), (5, 1, 1), (2, 1, 5), (1, 3, 2), (6, 6, 2)],
        (4, 2, 3),
        (3, 5, 4),
        (2, 1, 5),
        (1, 3, 2),
    ),
)
def test_rectangular_heads(d, d_v, d_k, getkey):
    """Values, keys and tokens may have any widths."""
    attention = gaussian(getkey(), d, d_v, d_k)
    full, compact, low_rank, side = (construct.build(attention, form) for form in construct.FORMS)
    for built in (full, compact, low_rank, side):
        assert built.certificate.error <= EXACT
    assert (full.certificate.memory_units, full.certificate.forget_units) == (d_v * d_k, d_k)
    assert side.certificate.memory_units == d_v * d_k
    assert compact.used == ("compact" if d_v >= d else "low_rank")


@pytest.mark.parametrize("weight", ["w_v", "w_k", "w_q"])
@pytest.mark.parametrize("rank", range(1, 5))
def test_low_rank_is_exact_and_the_least(weight, rank, getkey):
    """A deficient W_V, W_K or W_Q gives r_v r_c - c (c - 1) / 2 units at 1 and r_c at 0, which meets the lower bound."""
    d = 4
    weights = {name: of_rank(getkey(), rank if name == weight else d, d, d) for name in ("w_v", "w_k", "w_q")}
    built = construct.build(LinearAttention(**weights), "low_rank")
    found = built.certificate
    assert found.error <= EXACT
    r_v, r_c = (rank, d) if weight == "w_v" else (d, rank)
    shared = min(r_v, r_c)
    memory = r_v * r_c - shared * (shared - 1) // 2
    assert (found.memory_units, found.forget_units, found.readout_units) == (memory, r_c, memory)
    assert (found.least_memory, found.least_forget) == (memory, r_c)


@pytest.mark.parametrize("weight", ["w_v", "w_k", "w_q"])
@pytest.mark.parametrize("least", [1e-2, 1e-4, 1e-8])
def test_a_weak_direction_is_kept(weight, least, getkey):
    """A singular value far above rounding, however small, is no missing rank: all units are built, and the error is rounding."""
    weights = {name: of_rank(getkey(), 4, 4, 4) for name in ("w_v", "w_k", "w_q")}
    left, _, right = np.linalg.svd(np.asarray(weights[weight]))
    weights[weight] = jnp.asarray(left @ np.diag([1.0, 0.7, 0.5, least]) @ right)
    found = construct.build(LinearAttention(**weights), "low_rank").certificate
    assert found.error <= EXACT
    assert (found.memory_units, found.forget_units, found.readout_units) == (10, 4, 10)


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_low_rank_counts_what_two_subspaces_share(shared, getkey):
    """Rank-2 values and keys in d = 5 that share a space of dimension c take 4 - c (c - 1) / 2 memory units."""
    rows = jr.normal(getkey(), (4 - shared, 5))
    mix = lambda size: jr.normal(getkey(), (size, size))
    attention = LinearAttention(mix(2) @ rows[:2], mix(2) @ rows[2 - shared :], jr.normal(getkey(), (2, 5)))
    found = construct.build(attention, "low_rank").certificate
    assert found.error <= EXACT
    assert found.memory_units == found.least_memory == found.readout_units == 4 - shared * (shared - 1) // 2


@pytest.mark.parametrize(
    ("heads", "d_v", "d_k", "d", "d_out"),
    [
        (2, 2, 2, 4, None),
        (4, 2, 3, 4, None),
        (2, 3, 3, 6, None),
        (2, 4, 4, 4, 4),
        (3, 2, 2, 4, 2),
        (2, 1, 2, 5, 7),
        (6, 2, 2, 4, 4),
    ],
)
def test_many_heads(heads, d_v, d_k, d, d_out, getkey):
    """Heads, joined or concatenated, share one memory of at most d (d + 1) / 2 units and at most d queries, exactly."""
    attention = gaussian(getkey(), d, d_v, d_k, heads, d_out)
    full, low_rank, side = (construct.build(attention, form).certificate for form in ("full", "low_rank", "side_gated"))
    for found in (full, low_rank, side):
        assert found.error <= EXACT
    assert (full.memory_units, full.forget_units) == (heads * d_v * d_k, heads * d_k)
    assert low_rank.memory_units == min(heads * d_v * d_k, d * (d + 1) // 2)
    assert low_rank.forget_units == low_rank.least_forget == min(heads * d_k, d)
    assert low_rank.readout_units <= min(heads * d_v * d_k, (d_out or heads * d_v) * low_rank.forget_units)
    if d_out is None:
        assert low_rank.memory_units == low_rank.least_memory


def test_compact_falls_back_for_many_heads_and_says_so(getkey):
    """Compact is one head's form: two heads get the exact low-rank one, and the reason."""
    built = construct.build(gaussian(getkey(), 4, 2, 2, heads=2), "compact")
    assert (built.asked, built.used) == ("compact", "low_rank")
    assert built.reason is not None and "compact is for one head and there are 2" in built.reason
    assert built.certificate.error <= EXACT


def test_a_singular_w_v_falls_back_and_says_so(getkey):
    """Where W_V is singular, compact gives way to the exact low-rank form, smaller, and the reason is named."""
    attention = LinearAttention(of_rank(getkey(), 2, 4, 4), jr.normal(getkey(), (4, 4)), jr.normal(getkey(), (4, 4)))
    built = construct.build(attention, "compact")
    assert built.used == "low_rank" and built.asked == "compact"
    assert built.reason is not None and "the values have rank 2 for tokens of width 4" in built.reason
    assert built.certificate.error <= EXACT
    assert built.certificate.memory_units == 7


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e12])
def test_compact_never_inverts_w_v(condition, getkey):
    """The error of compact does not grow with the condition number of W_V."""
    u, _, w = jnp.linalg.svd(jr.normal(getkey(), (4, 4)))
    w_v = u @ jnp.diag(jnp.asarray([1.0, 0.5, condition**-0.5, 1 / condition])) @ w
    built = construct.build(LinearAttention(w_v, jr.normal(getkey(), (4, 4)), jr.normal(getkey(), (4, 4))), "compact")
    assert built.used == "compact"
    assert built.certificate.error <= EXACT


@pytest.mark.parametrize("closeness", [1e-3, 1e-7, 1e-11])
def test_nearly_equal_heads_stay_exact(closeness, getkey):
    """Two heads whose memory forms nearly coincide are still exact: the memory is then held in an orthonormal basis."""
    w_v, w_k = jr.normal(getkey(), (2, 4)), jr.normal(getkey(), (2, 4))
    moved = lambda w: jnp.stack([w, w + closeness * jr.normal(getkey(), w.shape)])
    attention = LinearAttention(moved(w_v), moved(w_k), jr.normal(getkey(), (2, 2, 4)))
    assert construct.build(attention, "low_rank").certificate.error <= EXACT


@pytest.mark.parametrize(
    "name", tiers(["smollm2_layer4_head2_d4", "smollm2_layer20_head7_d6"], "smollm2_layer4_head2_d4")
)
def test_real_heads_on_real_inputs(name, shared):
    """Every form writes a head of a pretrained transformer exactly, on its own activations of 767 tokens of text."""
    data = load_file(shared / "data" / "heads" / f"{name}.safetensors")
    attention = LinearAttention(*(data[key].astype(np.float64) for key in ("w_v", "w_k", "w_q")))
    d = attention.d_in
    for form in construct.FORMS:
        built = construct.build(attention, form, data["inputs"])
        assert built.used == form
        assert built.certificate.random_error <= EXACT
        assert built.certificate.input_error is not None and built.certificate.input_error <= EXACT
    assert construct.build(attention).certificate.memory_units == d * (d + 1) // 2


def test_an_attention_of_zeros_is_written(getkey):
    """Weights of zero give a network whose outputs are 0, with at least one unit."""
    attention = LinearAttention(*jnp.zeros((3, 3, 3)))
    for form in construct.FORMS:
        rnn = construct.build(attention, form).rnn
        assert not np.any(np.asarray(rnn(jr.normal(getkey(), (5, 3)))[0]))


@pytest.mark.parametrize("form", construct.FORMS)
def test_the_networks_run_by_themselves(form, getkey):
    """`gated_rnn` and `side_gated_rnn` give the networks that `build` certifies, in the default dtype."""
    attention = gaussian(getkey(), 3)
    rnn = construct.side_gated_rnn(attention) if form == "side_gated" else construct.gated_rnn(attention, form)
    assert isinstance(rnn, SideGatedRNN if form == "side_gated" else GatedRNN)
    assert rnn.readout.dtype == jnp.float64
    assert same_outputs(rnn, attention, jr.normal(getkey(), (9, 3))) <= EXACT


def test_without_float64_the_network_is_float32_and_the_certificate_is_not(getkey):
    """Where JAX runs in float32 the network is float32, and its certificate is still that of float64."""
    with jax.enable_x64(False):
        attention = LinearAttention(*jr.normal(jr.key(3), (3, 4, 4)))
        built = construct.build(attention)
        assert built.rnn.readout.dtype == jnp.float32
        assert same_outputs(built.rnn, attention, jr.normal(jr.key(4), (9, 4))) < 1e-5
    assert built.certificate.error <= EXACT


def test_the_double_sum_is_the_attention(getkey):
    """The certificate's specification, summed as written, is what the mixer gives."""
    attention = gaussian(getkey(), 3, 2, 4, heads=2, d_out=3)
    x = jr.normal(getkey(), (2, 7, 3))
    y = jax.vmap(lambda x: attention(x)[0])(x)
    slow = np.zeros((2, 7, 3))
    w_v, w_k, w_q, w_o = (np.asarray(w) for w in (attention.w_v, attention.w_k, attention.w_q, attention.w_o))
    for b, t, h in np.ndindex(2, 7, 2):
        for s in range(t + 1):
            past, now = np.asarray(x[b, s]), np.asarray(x[b, t])
            slow[b, t] += w_o[:, 2 * h : 2 * h + 2] @ (w_v[h] @ past) * ((w_k[h] @ past) @ (w_q[h] @ now))
    np.testing.assert_allclose(double_sum(attention, np.asarray(x)), slow, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(y), slow, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("c", [1, 2, 5])
def test_the_symmetric_product(c, getkey):
    """c (c + 1) / 2 products give S q for a symmetric S."""
    s, q = np.asarray(jr.normal(getkey(), (c, c))), np.asarray(jr.normal(getkey(), (c,)))
    s = s + s.T
    product = symmetric_product(c)
    read = (product.read_memory @ s[product.rows, product.columns]) * (product.read_query @ q)
    assert len(read) == c * (c + 1) // 2
    np.testing.assert_allclose(product.collect @ read, s @ q, rtol=1e-12, atol=1e-12)


def test_bad_input_gets_a_sentence(getkey):
    """Each mistake that a person can make is told what is wrong, with the value, and what to do."""
    attention = gaussian(getkey(), 3)
    with pytest.raises(InputError, match=r"starts from a LinearAttention; got GatedRNN\. Wrap the weights"):
        construct.build(construct.gated_rnn(attention))
    with pytest.raises(InputError, match=r"no form 'tiny'; the forms are full, compact, low_rank, side_gated"):
        construct.build(attention, "tiny")
    with pytest.raises(InputError, match=r"side-gated RNN is no GatedRNN; call side_gated_rnn"):
        construct.gated_rnn(attention, "side-gated")
    poisoned = LinearAttention(attention.w_v, attention.w_k.at[0, 1, 2].set(jnp.nan), attention.w_q)
    with pytest.raises(InputError, match=r"w_k holds a NaN or an infinity"):
        construct.build(poisoned)
    with pytest.raises(InputError, match=r"inputs have shape \(2, 5, 4\); this attention takes \(sequence, time, 3\)"):
        construct.build(attention, inputs=np.ones((2, 5, 4)))
    with pytest.raises(InputError, match=r"the inputs hold a NaN or an infinity"):
        construct.build(attention, inputs=np.full((2, 5, 3), np.nan))
