"""The forms of a gated RNN's weights are the network: what its units take in, what its outputs make of them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualform import construct
from dualform.arrays import append_one
from dualform.discover import effective_tensor, input_forms, output_kernels
from dualform.discover.forms import (
    as_function,
    attention_block,
    circuit_block,
    embed_attention_block,
    form_basis,
    form_coordinates,
    form_kinds,
)
from dualform.errors import InputError
from dualform.mixers import GatedRNN, LinearAttention
from dualform.mixers.circuits import circuits

from .disguises import disguised

ROUNDING = 1e-11


def close(found, expected) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=ROUNDING, atol=ROUNDING)


def test_input_forms_are_what_the_units_take_in(getkey):
    """z^T F_i z, z = (x, 1), is the product of gates of unit i; F_i is symmetric."""
    rnn = GatedRNN.make(3, key=getkey(), n=5, m=4)
    x = jr.normal(getkey(), (7, 3))
    forms, z = input_forms(rnn), np.asarray(append_one(x))
    assert forms.shape == (5, 4, 4)
    close(forms, forms.swapaxes(1, 2))
    close(np.einsum("ti,nij,tj->tn", z, forms, z), rnn.value(x))


def test_output_kernels_are_the_readout(getkey):
    """h^T K_o h is D g_out(h); K_o is symmetric."""
    rnn = GatedRNN.make(3, key=getkey(), n=5, m=4, d_out=2)
    h = np.asarray(jr.normal(getkey(), (5,)))
    kernels = output_kernels(rnn)
    assert kernels.shape == (2, 5, 5)
    close(kernels, kernels.swapaxes(1, 2))
    close(np.einsum("i,oij,j->o", h, kernels, h), rnn.readout @ ((rnn.w_m_out @ h) * (rnn.w_x_out @ h)))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_basis_of_forms_is_orthonormal_and_whole(k, getkey):
    """Coordinates keep the Frobenius norm, and give the matrices back."""
    basis = form_basis(k)
    assert len(basis) == k * (k + 1) // 2 == len(form_kinds(k))
    close(np.einsum("aij,bij->ab", basis, basis), np.eye(len(basis)))
    symmetric = np.asarray(jr.normal(getkey(), (4, k, k)))
    symmetric = symmetric + symmetric.swapaxes(1, 2)
    close(np.einsum("na,aij->nij", form_coordinates(symmetric), basis), symmetric)


def test_the_kinds_of_forms_are_their_degrees_in_x():
    """Scaling x by 2 scales a form of degree 2 by 4, a linear one by 2, and leaves the constant."""
    z = np.array([0.3, -1.2, 0.7, 1.0])
    scaled = z * np.array([2.0, 2.0, 2.0, 1.0])
    value = lambda z: np.einsum("i,aij,j->a", z, form_basis(4), z)
    close(value(scaled), 2.0 ** form_kinds(4) * value(z))


def test_the_effective_tensor_is_the_network(getkey):
    """With units at 1 and 0 alone, the three blocks over sums and present forms give every output."""
    key = getkey()
    rnn = GatedRNN.make(3, key=key, n=6, m=5, d_out=2)
    decay = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    rnn = GatedRNN(
        w_m_in=rnn.w_m_in, w_x_in=rnn.w_x_in, w_m_out=rnn.w_m_out, w_x_out=rnn.w_x_out, readout=rnn.readout, decay=decay
    )
    x = jr.normal(getkey(), (8, 3))
    tensor = effective_tensor(rnn, [0, 2, 3], [1, 4, 5])
    z = np.asarray(append_one(x))
    q = np.einsum("ti,aij,tj->ta", z, form_basis(4), z)
    s = np.cumsum(q, axis=0)
    y = (
        np.einsum("oab,ta,tb->to", tensor.memory_query, s, q)
        + np.einsum("oab,ta,tb->to", tensor.memory_memory, s, s)
        + np.einsum("oab,ta,tb->to", tensor.query_query, q, q)
    )
    close(y, rnn(x)[0])
    assert min(tensor.evidence.values()) > 1e-2  # a random network has every part that attention has not


@given(seed=st.integers(0, 2**16), d=st.integers(1, 4))
def test_the_effective_tensor_does_not_see_the_units(seed, d):
    """Permuted, rescaled, split and mixed units leave the tensor as it is: that of the attention, and nothing else."""
    attention = LinearAttention(*jr.normal(jr.key(seed), (3, d, d)))
    rnn = disguised(construct.gated_rnn(attention), seed)
    decay = np.asarray(rnn.decay)
    tensor = effective_tensor(rnn, np.flatnonzero(decay == 1), np.flatnonzero(decay == 0))
    expected = circuit_block(*circuits(attention))
    scale = np.linalg.norm(expected)
    assert np.linalg.norm(tensor.attention_block() - expected) <= 1e-9 * scale
    assert max(tensor.evidence.values()) <= 1e-9


def test_each_part_that_attention_lacks_is_seen_alone(getkey):
    """A product of two memories, of two queries, a memory of a linear form and a constant query each raise one number."""
    rnn = construct.gated_rnn(LinearAttention(*jr.normal(getkey(), (3, 2, 2))))  # units: 3 memories, 2 queries
    memory, forget = [0, 1, 2], [3, 4]

    def evidence(**changes):
        weights = {name: getattr(rnn, name) for name in ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout")}
        weights |= changes
        found = effective_tensor(GatedRNN(**weights, decay=rnn.decay), memory, forget).evidence
        return {name for name, value in found.items() if value > 1e-9}

    assert evidence() == set()
    assert evidence(w_x_out=rnn.w_x_out.at[0, 1].set(1.0)) == {"memory_memory"}
    assert evidence(w_m_out=rnn.w_m_out.at[0, 3].set(1.0)) == {"query_query"}
    assert evidence(w_x_in=rnn.w_x_in.at[0, 2].set(1.0)) == {"memory_not_quadratic"}
    assert evidence(w_m_in=rnn.w_m_in.at[3, 2].set(1.0)) == {"query_not_linear"}


def test_forms_that_cancel_as_functions_are_nothing(getkey):
    """(x1 1)(x2 1) - (x1 x2)(1 1) is the zero function: `as_function` sees that, the tensor of forms does not."""
    i, j = np.triu_indices(3)
    form = lambda a, b: form_coordinates((np.outer(a, b) + np.outer(b, a))[None] / 2)[0]
    x1, x2, one = np.eye(3)
    block = np.outer(form(x1, one), form(x2, one)) - np.outer(form(x1, x2), form(one, one))
    assert np.linalg.norm(block) > 0.1
    close(as_function(block), np.zeros((3, 3, 3, 3)))
    other = np.asarray(jr.normal(getkey(), (len(i), len(j))))
    z = np.array([0.2, -0.8, 1.0])
    value = np.einsum("i,aij,j->a", z, form_basis(3), z)
    close(np.einsum("ijkl,i,j,k,l->", as_function(other), z, z, z, z), value @ other @ value)


def test_the_attention_block_can_be_put_back(getkey):
    """`embed_attention_block` undoes `attention_block`, and is the attention's own function."""
    attention = LinearAttention(*jr.normal(getkey(), (3, 3, 3)))
    block = circuit_block(*circuits(attention))
    close(attention_block(embed_attention_block(block)), block)
    x = jr.normal(getkey(), (1, 3))
    z = np.asarray(append_one(x))[0]
    q = np.einsum("i,aij,j->a", z, form_basis(4), z)
    close(np.einsum("oab,a,b->o", embed_attention_block(block), q, q), attention(x)[0][0])


def test_wrong_units_get_a_sentence(getkey):
    """A unit that is not there, or that stands in both sets, is named as the mistake it is."""
    rnn = GatedRNN.make(2, key=getkey(), n=4, m=3)
    with pytest.raises(InputError, match=r"lies outside 0 \.\. 3; this network has 4 hidden units"):
        effective_tensor(rnn, [0, 4], [1])
    with pytest.raises(InputError, match=r"a unit stands twice in memory and forget"):
        effective_tensor(rnn, [0, 1], [1])


def test_bfloat16_weights_are_read_in_float64(getkey):
    """The algebra is float64 whatever the weights' dtype."""
    rnn = GatedRNN.make(2, key=getkey(), n=4, m=3, dtype=jnp.bfloat16)
    wide = jax.tree_util.tree_map(lambda w: w.astype(jnp.float64), rnn)
    assert input_forms(rnn).dtype == np.float64
    close(output_kernels(rnn), output_kernels(wide))
