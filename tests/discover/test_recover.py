"""Attention is read back out of every network that implements one, and out of no other."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from dualform import construct
from dualform.discover import recover_attention
from dualform.errors import InputError
from dualform.mixers import DenseGatedRNN, GatedRNN, LinearAttention, SideGatedRNN
from dualform.mixers.circuits import circuits
from tests.tiers import tiers

from ..construct.teachers import gaussian, of_rank, same_outputs
from .disguises import arrays, disguised, mixed, noisy, rebuilt

READ_BACK = 1e-8  # least squares to rounding, in bases as ill-conditioned as a random one is


def agrees(rnn, attention, x, heads: int | None = 1, most: int | None = None) -> None:
    """The verdict is yes, with at most so many heads, and the weights read back give the teacher's outputs."""
    found = recover_attention(rnn, heads, tolerance=READ_BACK)
    assert found.implements, found.reasons
    assert found.error <= READ_BACK
    assert most is None or len(found.attention.w_v) <= most
    assert same_outputs(found.attention, attention, x) <= 10 * READ_BACK


@pytest.mark.parametrize("form", construct.FORMS)
@pytest.mark.parametrize("d", [1, 2, 3, 4, 6])
def test_every_construction_is_read_back(d, form, getkey):
    """What `construct` writes, `recover_attention` reads: the weights give the teacher's outputs."""
    attention = gaussian(getkey(), d)
    agrees(construct.build(attention, form).rnn, attention, jr.normal(getkey(), (9, d)))


@pytest.mark.parametrize(("d", "d_v", "d_k"), [(4, 2, 3), (3, 5, 4), (4, 1, 3), (3, 3, 1), (4, 1, 1)])
def test_rectangular_heads_are_read_back(d, d_v, d_k, getkey):
    """So are heads of other widths, down to a single output, where values and keys may be exchanged."""
    attention = gaussian(getkey(), d, d_v, d_k)
    for form in ("full", "low_rank"):
        agrees(construct.gated_rnn(attention, form), attention, jr.normal(getkey(), (9, d)))


@pytest.mark.parametrize("weight", ["w_v", "w_k", "w_q"])
@pytest.mark.parametrize("rank", [1, 2])
def test_low_rank_heads_are_read_back(weight, rank, getkey):
    """So are heads with a deficient W_V, W_K or W_Q."""
    weights = {name: of_rank(getkey(), rank if name == weight else 3, 3, 3) for name in ("w_v", "w_k", "w_q")}
    attention = LinearAttention(**weights)
    agrees(construct.gated_rnn(attention, "low_rank"), attention, jr.normal(getkey(), (9, 3)))


@given(seed=st.integers(0, 2**16), d=st.integers(1, 4))
def test_disguises_change_nothing(seed, d):
    """Split, rescaled, swapped, permuted and mixed units: the same weights are read back."""
    attention = gaussian(jr.key(seed), d)
    x = jr.normal(jr.key(seed + 1), (9, 4))[:, :d]
    compact = construct.gated_rnn(attention)
    agrees(disguised(compact, seed), attention, x)
    agrees(disguised(mixed(compact, seed), seed), attention, x)
    agrees(disguised(construct.gated_rnn(attention, "full"), seed), attention, x)


def test_a_disguise_changes_the_weights_but_not_the_outputs(getkey):
    """The disguises of these tests are what they claim to be."""
    rnn = construct.gated_rnn(gaussian(getkey(), 3))
    x = jr.normal(getkey(), (9, 3))
    for other in (disguised(rnn, 1), mixed(rnn, 1)):
        assert same_outputs(other, rnn, x) <= 1e-9
        assert other.w_m_in.shape != rnn.w_m_in.shape or np.abs(np.asarray(other.w_m_in - rnn.w_m_in)).max() > 0.1


MANY = [(2, 2, 2, 4, None), (2, 3, 3, 6, None), (3, 2, 2, 6, None), (2, 4, 4, 4, 4), (3, 2, 2, 4, 2), (2, 1, 2, 5, 7)]


@pytest.mark.parametrize(
    ("heads", "d_v", "d_k", "d", "d_out"),
    tiers(MANY, *(sizes for sizes in MANY if sizes != (3, 2, 2, 6, None))),
)
def test_many_heads_are_read_back(heads, d_v, d_k, d, d_out, getkey):
    """Several heads are found, their number given or not; with `heads=None`, no more than there are."""
    attention = gaussian(getkey(), d, d_v, d_k, heads, d_out)
    rnn = construct.gated_rnn(attention, "low_rank")
    x = jr.normal(getkey(), (9, d))
    agrees(rnn, attention, x, heads)
    agrees(disguised(rnn, 0), attention, x, None, most=heads)


def test_one_head_is_not_two(getkey):
    """Asked for one head, a network of two full heads is a no, and the reason names the structure."""
    rnn = construct.gated_rnn(gaussian(getkey(), 4, heads=2, d_out=4), "low_rank")
    found = recover_attention(rnn)
    assert not found.implements
    assert any("no attention of 1 head was found that has its tensor" in reason for reason in found.reasons)


def test_more_heads_than_can_be_told_apart_are_still_an_attention(getkey):
    """Four heads at d = 2 fill the whole space of tensors: with `heads=None` some attention is found, exact."""
    attention = gaussian(getkey(), 2, heads=4, d_out=2)
    rnn = construct.gated_rnn(attention, "low_rank")
    agrees(rnn, attention, jr.normal(getkey(), (9, 2)), None)
    agrees(rnn, attention, jr.normal(getkey(), (9, 2)), 4)  # d * min(d, d_out) heads: by algebra


@pytest.mark.parametrize("d_out", [2, 5])
def test_every_tensor_is_an_attention_of_many_heads(d_out, getkey):
    """d * min(d, d_out) heads are given by algebra, for fewer and for more outputs than d."""
    attention = gaussian(getkey(), 3, 3, 3, heads=2, d_out=d_out)
    heads = 3 * min(3, d_out)
    found = recover_attention(construct.gated_rnn(attention, "low_rank"), heads, tolerance=1e-13)
    assert found.implements and found.attention.w_v.shape == (heads, d_out, 3)


@pytest.mark.parametrize("name", ["smollm2_layer4_head2_d4", "smollm2_layer20_head7_d6"])
def test_real_heads_are_read_back(name, shared):
    """The heads of a pretrained transformer, weak directions included, come back on their own inputs."""
    data = load_file(shared / "data" / "heads" / f"{name}.safetensors")
    attention = LinearAttention(*(data[key].astype(np.float64) for key in ("w_v", "w_k", "w_q")))
    x = jnp.asarray(data["inputs"][0, :50].astype(np.float64))
    agrees(disguised(construct.gated_rnn(attention), 0), attention, x)


def test_the_weights_come_in_their_normal_form(getkey):
    """W_V has the norm sqrt(rows) and a positive largest entry; W_K and W_Q share C's singular values; V and C return."""
    attention = gaussian(getkey(), 4)
    (v,), (c,) = circuits(attention)
    found = recover_attention(construct.gated_rnn(attention)).attention
    w_v, w_k, w_q = (np.asarray(w[0]) for w in (found.w_v, found.w_k, found.w_q))
    assert abs(np.linalg.norm(w_v) - 2) <= 1e-12
    assert w_v.ravel()[np.argmax(np.abs(w_v))] > 0
    np.testing.assert_allclose(w_k @ w_k.T, w_q @ w_q.T, atol=1e-9)
    scale = np.sum(v * w_v) / np.sum(w_v**2)
    np.testing.assert_allclose(scale * w_v, v, atol=1e-9)
    np.testing.assert_allclose(w_k.T @ w_q / scale, c, atol=1e-9)


@pytest.mark.parametrize("size", [1e-5, 1e-4, 1e-3])
def test_noise_costs_what_it_is(size, getkey):
    """A student off by a little is read back with an error of that order, and `tolerance` decides."""
    attention = gaussian(getkey(), 4)
    rnn = noisy(disguised(construct.gated_rnn(attention), 0), size, 1)
    found = recover_attention(rnn, tolerance=30 * size)
    assert found.implements and size / 10 <= found.error <= 30 * size
    assert same_outputs(found.attention, attention, jr.normal(getkey(), (9, 4))) <= 30 * size
    assert not recover_attention(rnn, tolerance=size / 10).implements


def changed(rnn: GatedRNN, **changes) -> GatedRNN:
    """The network with some arrays replaced."""
    weights = dict(zip(("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout", "decay"), arrays(rnn), strict=True))
    return rebuilt(list((weights | {name: np.asarray(w) for name, w in changes.items()}).values()))


IMPOSTORS = {
    "a decay of 0.5": (
        lambda rnn: changed(rnn, decay=np.where(np.asarray(rnn.decay) == 1, 0.5, 0.0)),
        "decays",
        "unit 0 at 0.5",
    ),
    "a decay of 0.995": (
        lambda rnn: changed(rnn, decay=np.where(np.asarray(rnn.decay) == 1, 0.995, 0.0)),
        "decays",
        "the lowest of those near 1 is 0.995",
    ),
    "a query that lingers": (
        lambda rnn: changed(rnn, decay=np.where(np.asarray(rnn.decay) == 1, 1.0, 0.3)),
        "memory_memory",
        "products of two past tokens",
    ),
    "a bias": (lambda rnn: changed(rnn, w_x_in=rnn.w_x_in.at[0, -1].set(1.0)), "other_forms", "a bias"),
    "memory times memory": (
        lambda rnn: changed(rnn, w_x_out=rnn.w_x_out.at[0, 1].set(1.0)),
        "memory_memory",
        "products of two past tokens",
    ),
    "query times query": (
        lambda rnn: changed(rnn, w_m_out=rnn.w_m_out.at[0, -1].set(3.0)),
        "present",
        "the present token alone",
    ),
}


@pytest.mark.parametrize("kind", sorted(IMPOSTORS))
def test_an_impostor_is_told_why(kind, getkey):
    """One change that no attention can have gives a no, the part of the evidence, and the reason in words."""
    change, part, words = IMPOSTORS[kind]
    rnn = construct.gated_rnn(gaussian(getkey(), 3))
    assert recover_attention(rnn).implements
    found = recover_attention(change(rnn))
    assert not found.implements
    assert found.evidence[part] > 1e-2
    assert any(words in reason for reason in found.reasons), found.reasons


@given(seed=st.integers(0, 2**16))
def test_random_networks_are_none(seed):
    """A random gated RNN, its decays random or split into 0 and 1, implements no attention, whatever its heads."""
    rnn = GatedRNN.make(3, key=jr.key(seed), n=9, m=6)
    split = changed(rnn, decay=np.repeat([1.0, 0.0], [6, 3]))
    for network in (rnn, split):
        found = recover_attention(network, None)
        assert not found.implements and found.error > 0.1
        assert abs(found.error**2 - sum(part**2 for part in found.evidence.values())) <= 1e-9
    assert not recover_attention(SideGatedRNN.make(3, key=jr.key(seed))).implements


def test_the_error_is_that_of_the_outputs(getkey):
    """A decay of 0.9 is harmless over a horizon of 2 tokens compared to what it does over 32."""
    rnn = construct.gated_rnn(gaussian(getkey(), 3))
    fading = changed(rnn, decay=np.where(np.asarray(rnn.decay) == 1, 0.9, 0.0))
    near, far = (recover_attention(fading, horizon=horizon).error for horizon in (2, 32))
    assert 1e-3 < near < 0.2 < far


def test_a_network_of_zeros_is_the_attention_of_zeros(getkey):
    """No weight, no function: the attention read back gives 0, with an error of 0."""
    found = recover_attention(construct.gated_rnn(LinearAttention(*jnp.zeros((3, 2, 2)))))
    assert found.implements and found.error == 0.0
    assert not np.any(np.asarray(found.attention(jr.normal(getkey(), (4, 2)))[0]))


def test_bad_input_gets_a_sentence(getkey):
    """Another mixer, weights that are not finite, and numbers out of range are told as what they are."""
    rnn = construct.gated_rnn(gaussian(getkey(), 2))
    with pytest.raises(InputError, match=r"reads a GatedRNN or a SideGatedRNN; got DenseGatedRNN"):
        recover_attention(DenseGatedRNN.make(2, key=getkey()))
    with pytest.raises(InputError, match=r"readout holds a NaN or an infinity"):
        recover_attention(changed(rnn, readout=rnn.readout.at[0, 0].set(jnp.nan)))
    with pytest.raises(InputError, match=r"heads is 0; it must be at least 1, or None"):
        recover_attention(rnn, 0)
    with pytest.raises(InputError, match=r"most_heads is 0; it must be at least 1"):
        recover_attention(rnn, None, most_heads=0)
    with pytest.raises(InputError, match=r"horizon is 1; with fewer than 2 tokens"):
        recover_attention(rnn, horizon=1)
