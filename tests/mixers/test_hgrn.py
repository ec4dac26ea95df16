"""HGRN: its lower bounds, its exact answers, and what it says of weights that do not fit."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import HGRN, HGRNComplex
from dualform.mixers.hgrn import hgrn_lower_bounds
from dualform.segments import Segments
from tests.laws import laws


def test_lower_bounds_rise():
    """The first layer's bound is exactly 0, the others add up the shares of the layers after the first, and stay below 1."""
    assert hgrn_lower_bounds(jnp.zeros((4, 2))).tolist() == [[0.0, 0.0], [0.25, 0.25], [0.5, 0.5], [0.75, 0.75]]
    logits = np.random.default_rng(0).normal(size=(5, 3))
    share = np.exp(logits) / np.exp(logits).sum(0)
    gamma = np.asarray(hgrn_lower_bounds(jnp.asarray(logits)))
    laws.check_close(gamma, np.stack([share[1 : i + 1].sum(0) for i in range(5)]), laws.ROUNDING, "bounds")
    assert (gamma[0] == 0).all() and (np.diff(gamma, axis=0) > 0).all() and (gamma < 1).all()


def test_a_constant_decay():
    """With W_f = 0 and no bias the decay is (1 + gamma) / 2: the map is (1 - lam) lam^(t - s)."""
    d, gamma = 3, jnp.array([0.0, 0.5, 0.9])
    mixer = HGRN(
        w_c=jnp.eye(d), w_f=jnp.zeros((d, d)), w_g=jnp.eye(d), w_o=jnp.eye(d), norm_weight=jnp.ones(d), gamma=gamma
    )
    weights = laws.attention(mixer, jnp.ones((5, d))).weights()
    lam = (1 + np.asarray(gamma)[:, None, None]) / 2
    lag = np.arange(5)[:, None] - np.arange(5)
    laws.check_close(np.asarray(weights), np.where(lag >= 0, (1 - lam) * lam ** np.maximum(lag, 0), 0), 1e-14, "map")


def test_quarter_turns():
    """theta = pi / 2 turns what is remembered by a quarter at each token: 1, i/2, -1/4, -i/8."""
    mixer = HGRNComplex.make(1, key=jr.key(0))
    mixer = dataclasses.replace(mixer, theta=jnp.array([jnp.pi / 2]))
    value = jnp.zeros((4, 2, 1)).at[0, 0].set(1.0)
    memory = mixer.memory(jnp.full((4, 1), 0.5), jnp.ones((4, 1)), mixer.init_state(), Segments())
    h, final = memory.run(value)
    expected = np.array([[1, 0], [0, 0.5], [-0.25, 0], [0, -0.125]])
    np.testing.assert_allclose(np.asarray(h)[:, :, 0], expected, atol=1e-16)
    np.testing.assert_allclose(np.asarray(final)[:, 0], expected[-1], atol=1e-16)


def test_a_bound_of_almost_1_is_kept():
    """1 - lam is computed as it is, not as a difference: with gamma = 1 - 1e-12 it keeps all its digits."""
    mixer = HGRN.make(4, key=jr.key(0))
    mixer = dataclasses.replace(mixer, gamma=jnp.full(4, 1 - 1e-12))
    _, write, _ = mixer.gates(laws.sequence(0, 5))
    forget = np.asarray(laws.sequence(0, 5)) @ np.asarray(mixer.w_f).T + np.asarray(mixer.b_f)
    laws.check_close(np.asarray(write), (1 - (1 - 1e-12)) / (1 + np.exp(forget)), laws.ROUNDING, "1 - lam")


BAD = {
    "a bound of 1": (
        "hgrn",
        {"gamma": np.array([0.5, 1.0, 0.5, 0.5])},
        r"gamma has an entry of 1 at unit 1; it must lie in \[0, 1\). Take it from hgrn_lower_bounds",
    ),
    "a bound below 0": (
        "hgrn_complex",
        {"gamma": np.full(4, -0.1)},
        r"gamma has an entry of -0.1 at unit 0; it must lie",
    ),
    "a bound of NaN": ("hgrn", {"gamma": np.full(4, np.nan)}, r"gamma has an entry of nan at unit 0"),
    "too many bounds": ("hgrn", {"gamma": np.zeros(5)}, r"gamma has shape \(5,\); it must be \(4,\)"),
    "a flat w_f": (
        "hgrn",
        {"w_f": np.zeros(4)},
        r"w_f has shape \(4,\); it must be \(4, 4\): \(n, d\), where n is 4 in w_c",
    ),
    "a wide w_c": (
        "hgrn",
        {"w_c": np.zeros((4, 5))},
        r"w_c has shape \(4, 5\); it must be \(4, 4\): \(n, d\), where .* d is 4 in w_f",
    ),
    "a short bias": ("hgrn", {"b_g": np.zeros(3)}, r"b_g has shape \(3,\); it must be \(4,\), or None"),
    "a narrow readout": ("hgrn_complex", {"w_o": np.zeros((4, 4))}, r"w_o has shape \(4, 4\); it must be \(4, 8\)"),
    "a flat readout": ("hgrn_complex", {"w_o": np.zeros(4)}, r"w_o has shape \(4,\); it must be \(4, 8\)"),
    "a real candidate": (
        "hgrn_complex",
        {"w_c": np.zeros((4, 4))},
        r"w_c has shape \(4, 4\); it must be \(2, 4, 4\): \(2, n, d\)",
    ),
    "a short theta": ("hgrn_complex", {"theta": np.zeros(3)}, r"theta has shape \(3,\); it must be \(4,\)"),
    "a short norm": (
        "hgrn_complex",
        {"norm_weight": np.ones(4)},
        r"norm_weight has shape \(4,\); it must be \(8,\): \(2\*n,\), where n is 4 in w_c",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_fit(unchecked, case):
    """What is wrong with the weights is said, with its value, and what to do."""
    name, changed, message = BAD[case]
    with pytest.raises(InputError, match=message):
        dataclasses.replace(laws.make(name), **changed)


@pytest.mark.parametrize("kind", [HGRN, HGRNComplex])
def test_layers_are_counted_from_0(kind):
    """A layer beyond the last is refused; the first one's bound is 0."""
    with pytest.raises(InputError, match="layer is 2 of 2; give one from 0 to 1"):
        kind.make(4, key=jr.key(0), layer=2, layers=2)
    assert not np.asarray(kind.make(4, key=jr.key(0), layer=0).gamma).any()
