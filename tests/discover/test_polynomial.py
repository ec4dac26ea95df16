"""The polynomial of one step is the network's first output, coefficient by coefficient."""

from math import comb

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import construct
from dualform.discover import monomial_names, polynomial, polynomial_distance
from dualform.discover.polynomials import evaluate_polynomial, monomials
from dualform.errors import InputError
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN

from .disguises import disguised, noisy

MAKERS = {
    "gated": lambda key: GatedRNN.make(3, key=key, n=6, m=5, d_out=2),
    "side_gated": lambda key: SideGatedRNN.make(3, key=key, n=6),
    "attention": lambda key: LinearAttention.make(4, key=key, heads=2),
}


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_the_polynomial_is_the_first_output(kind, getkey):
    """Evaluated at any token it is what the mixer gives for that token from the empty state."""
    mixer = MAKERS[kind](getkey())
    x = jr.normal(getkey(), (6, mixer.d_in))
    y = jax.vmap(lambda x: mixer(x[None])[0][0])(x)
    np.testing.assert_allclose(
        evaluate_polynomial(polynomial(mixer), np.asarray(x)), np.asarray(y), rtol=1e-10, atol=1e-10
    )


def test_an_attentions_polynomial_is_cubic(getkey):
    """Every monomial of another degree has the coefficient 0, exactly."""
    coefficients = polynomial(LinearAttention.make(4, key=getkey(), heads=2))
    degree = monomials(4).sum(1)
    assert not np.any(coefficients[:, degree != 3])
    assert np.all(np.abs(coefficients[:, degree == 3]).sum(0) > 0)


def test_known_coefficients():
    """With all weights 1 at d = 2, y1 = (x1 + x2)^3: 1, 3, 3, 1."""
    attention = LinearAttention(jnp.ones((1, 2)), jnp.ones((1, 2)), jnp.ones((1, 2)))
    found = dict(zip(monomial_names(2), polynomial(attention)[0].tolist(), strict=True))
    assert {name: c for name, c in found.items() if c} == {"x1^3": 1, "x1^2 x2": 3, "x1 x2^2": 3, "x2^3": 1}


@pytest.mark.parametrize("d", [1, 2, 4, 6])
def test_the_monomials_are_all_and_named_once(d):
    """(d + 4)! / (d! 4!) monomials, 70 at d = 4, each once, the constant first."""
    listed, names = monomials(d), monomial_names(d)
    assert len(listed) == len(set(names)) == comb(d + 4, 4)
    assert len(np.unique(listed, axis=0)) == len(listed)
    assert names[0] == "1" and names[1] == "x1" and listed.sum(1).max() == 4


@pytest.mark.parametrize("form", construct.FORMS)
def test_the_distance_of_a_construction_is_rounding(form, getkey):
    """A construction, disguised or not, has its attention's polynomial."""
    attention = LinearAttention(*jr.normal(getkey(), (3, 4, 4)))
    rnn = construct.build(attention, form).rnn
    assert polynomial_distance(rnn, attention) <= 1e-13
    if isinstance(rnn, GatedRNN):
        assert polynomial_distance(disguised(rnn, 0), attention) <= 1e-10


def test_the_distance_is_the_mean_over_outputs(getkey):
    """An attention whose second output is off by half is at a distance of 0.25; noise of 1e-4 costs about as much."""
    attention = LinearAttention(*jr.normal(getkey(), (3, 2, 2)))
    rnn = construct.gated_rnn(attention)
    half = GatedRNN(
        w_m_in=rnn.w_m_in,
        w_x_in=rnn.w_x_in,
        w_m_out=rnn.w_m_out,
        w_x_out=rnn.w_x_out,
        readout=rnn.readout.at[1].multiply(0.5),
        decay=rnn.given_decay,
    )
    assert abs(polynomial_distance(half, attention) - 0.25) <= 1e-13
    assert 1e-5 < polynomial_distance(noisy(rnn, 1e-4, 0), attention) < 1e-2


def test_other_widths_get_a_sentence(getkey):
    """Networks of another width cannot be compared, and the widths are named."""
    with pytest.raises(InputError, match=r"the RNN maps width 3 to 2, the attention 4 to 4"):
        polynomial_distance(MAKERS["gated"](getkey()), MAKERS["attention"](getkey()))
