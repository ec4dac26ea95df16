"""Heads normed all at once, as HGRN2 and GSA are published: the equation, and the laws, of the norm's other weight."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.maps import Outer
from dualform.mixers import GLA, GSA, HGRN2
from tests.laws import laws
from tests.tiers import tiers

X = laws.sequence(0, laws.TIME)
START, MASK = np.array([0, 0, 1, 0, 1, 0], bool), np.array([1, 1, 0, 1, 1, 1], bool)
KINDS: dict[str, Any] = {
    "hgrn2": lambda over_all: HGRN2.make(laws.D, key=jr.key(3), norm_over_all=over_all),
    "gsa": lambda over_all: GSA.make(laws.D, key=jr.key(3), norm_over_all=over_all),
}


def weighted(name: str) -> Any:
    """A mixer whose norm weighs each channel of two heads by itself."""
    return dataclasses.replace(KINDS[name](True), norm=1 + jr.uniform(jr.key(1), (2, 2)))


@pytest.mark.parametrize("name", tiers(KINDS, "hgrn2"))
def test_contributions_sum_to_the_output(name):
    """From a state, past starts and absent tokens; that calls go on from a state, an imported model is held to."""
    mixer = weighted(name)
    state = laws.some_state(mixer, 0)
    laws.contributions_sum_to_the_output(mixer, X, state, jnp.asarray(START), jnp.asarray(MASK))


def test_the_norm_is_over_all_channels():
    """Read out by the identity, each token's output over the norm's weight has a mean square of 1 over both heads."""
    mixer = dataclasses.replace(weighted("hgrn2"), w_o=jnp.eye(4), epsilon=0.0)
    y = np.asarray(laws.call(mixer, X)[0]) / np.asarray(mixer.norm).reshape(-1)
    np.testing.assert_allclose((y**2).mean(1), 1, rtol=1e-12)
    by_head = (y.reshape(-1, 2, 2) ** 2).mean(2)
    assert np.abs(by_head - 1).max() > 0.1


def test_an_epsilon_of_d_k_times_is_a_scale_of_the_query():
    """Queries divided by sqrt(d_k), as in HGRN2's code, and an epsilon of e, are queries as they are, and d_k e."""
    mixer = weighted("hgrn2")
    o = jr.normal(jr.key(2), (5, 2, 2))
    scaled, plain = (dataclasses.replace(mixer, epsilon=e) for e in (1e-2, 2e-2))
    found, expected = (m.factor(a) * a for m, a in ((plain, o), (scaled, o / 2**0.5)))
    laws.check_close(found, expected, laws.ROUNDING, "scaled queries")


def test_gsas_decays_are_roots_of_the_normaliser():
    """A normaliser of 1 leaves alpha = sigma(W_f x): with W_f = 0, a decay of 1/2."""
    mixer: Any = dataclasses.replace(KINDS["gsa"](False), w_f=jnp.zeros((2, 1, 4)), normaliser=1.0)
    memory = laws.attention(mixer, X).memory
    assert isinstance(memory, Outer) and memory.decay is not None
    p, s, alpha = memory.q, memory.k, memory.decay
    np.testing.assert_allclose(alpha, 0.5, rtol=1e-15)
    np.testing.assert_allclose(s, 0.5, rtol=1e-15)
    assert bool(jnp.all(p == 1))


def test_norms_that_do_not_fit(unchecked):
    """A norm's weight is for one head or for all; the message says both shapes."""
    for mixer in (KINDS["hgrn2"](True), KINDS["gsa"](True), GLA.make(laws.D, key=jr.key(0))):
        with pytest.raises(InputError, match=r"norm has shape \(4,\); it must be \(2,\), or \(2, 2\)"):
            dataclasses.replace(mixer, norm=jnp.ones(4))
    with pytest.raises(InputError, match="normaliser is 0.0; it must be above 0"):
        dataclasses.replace(KINDS["gsa"](True), normaliser=0.0)
