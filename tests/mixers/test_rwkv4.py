"""RWKV-4's mixers: exact answers, the map over v, published initial weights, and what they say of weights that do not fit."""

import dataclasses
from itertools import product

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import dualform
from dualform.errors import InputError
from dualform.mixers import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.mixers.rwkv4 import WKV, Shift
from dualform.segments import Segments
from tests.laws import laws
from tests.tiers import tiers

START, MASK = np.array([0, 0, 0, 1, 1, 0], bool), np.array([1, 0, 1, 1, 0, 1], bool)
ONE, ZERO, EYE = np.ones(1), np.zeros(1), np.ones((1, 1))


def test_the_average_fades_by_the_token():
    """With keys of 0, no bonus and a decay of 1/2, y_t is half of the average over 1, 1, 1/2, 1/4, ... of the tokens back."""
    mixer = RWKV4TimeMixing(
        mu_k=ONE, mu_v=ONE, mu_r=ONE, w_k=0 * EYE, w_v=EYE, w_r=0 * EYE, log_rate=np.log(np.log([2.0])), u=ZERO, w_o=EYE
    )
    y, (last, (a, b, m)) = mixer(jnp.array([[8.0], [0.0], [4.0]]))
    np.testing.assert_allclose(y, np.array([[8.0], [4.0], [(4 + 4) / 2.5]]) / 2, rtol=1e-15)
    np.testing.assert_allclose([a * jnp.exp(m), b * jnp.exp(m)], [[2 + 4], [1.75]], rtol=1e-15)
    assert last.tolist() == [4.0]


def test_the_token_shift():
    """A mix of 1 reads the token, one of 0 the token before; absent tokens are passed over, documents begin after 0."""
    x, last = jnp.arange(1.0, 7.0)[:, None], jnp.array([-1.0])
    segments = Segments(jnp.asarray(START & MASK), jnp.asarray(MASK))
    before, kept = Shift(jnp.zeros(1), last, segments).run(x)
    assert before[MASK][:, 0].tolist() == [-1.0, 1.0, 0.0, 4.0] and kept.tolist() == [6.0]
    assert Shift(jnp.ones(1), last, segments)(x)[MASK].tolist() == x[MASK].tolist()


def test_channel_mixing_squares():
    """relu(k)^2 where k is the mean of a token and the one before it, behind a gate of 1/2."""
    mixer = RWKV4ChannelMixing(mu_k=0.5 * ONE, mu_r=ONE, w_k=2 * EYE, w_r=0 * EYE, w_v=EYE)
    y, last = mixer(jnp.array([[3.0], [1.0], [-2.0]]))
    assert y.tolist() == [[4.5], [8.0], [0.0]] and last.tolist() == [-2.0]


SIBLINGS = [pytest.param(flags, marks=pytest.mark.slow) for flags in ((None, None), (START, None), (None, MASK))]
"""Fewer flags than both, for the thorough tier."""


@pytest.mark.parametrize("flags", [*SIBLINGS, (START, MASK)], ids=str)
def test_the_map_makes_the_contributions(flags):
    """A token comes in through its own v and through the next one's: the map over v gives what the general path finds."""
    mixer, x = RWKV4TimeMixing.make(4, key=jr.key(0)), laws.sequence(0, 6)
    state = laws.some_state(mixer, 1)
    flags = tuple(None if each is None else jnp.asarray(each) for each in flags)
    form = laws._dual_form(mixer, x, state, *laws._both(len(x), *flags))
    own = laws.attention(mixer, x, state, *flags)
    mask = np.ones(6, bool) if flags[1] is None else np.asarray(flags[1])
    start = np.zeros(6, bool) if flags[0] is None else np.asarray(flags[0]) & mask
    here = np.flatnonzero(mask)
    expected = np.zeros(form.contributions.shape)
    for s, following in zip(here, [*here[1:], None], strict=True):
        read = form.weights[:, :, s].T * (mixer.w_v @ (mixer.mu_v * x[s]))[None]
        if following is not None and not start[following]:
            read = read + form.weights[:, :, following].T * (mixer.w_v @ ((1 - mixer.mu_v) * x[s]))[None]
        expected[:, s] = own.read.brought(read)
    laws.check_close(form.contributions, jnp.asarray(expected), laws.EXACT, "contributions")


def test_rows_of_the_map_sum_to_one():
    """Without a state they are an average; what a state holds is missing from the rows, and fades."""
    mixer, x = RWKV4TimeMixing.make(4, key=jr.key(0)), laws.sequence(0, 6)
    maps = jax.jit(lambda state: laws.attention(mixer, x, state).weights())
    np.testing.assert_allclose(maps(mixer.init_state()).sum(-1), 1, rtol=1e-12)
    state = laws.some_state(mixer, 1)
    rows, memory = maps(state).sum(-1), laws.attention(mixer, x, state).memory
    assert isinstance(memory, WKV)
    k = memory.k
    held, own = state[1][1] * jnp.exp(state[1][2]), jnp.exp(mixer.u + k[0])
    np.testing.assert_allclose(rows[:, 0], own / (held + own), rtol=1e-12)
    assert bool(jnp.all(rows <= 1 + 1e-15)) and bool(jnp.all(rows[:, 0] < rows[:, -1]))


def test_the_map_of_large_keys():
    """Keys of +-1e4 give shares of 0 and 1, and no NaN, in float32."""
    mixer = RWKV4TimeMixing.make(4, key=jr.key(0), dtype=jnp.float32)
    mixer = dataclasses.replace(mixer, w_k=1e4 * mixer.w_k)
    form = jax.jit(dualform.dual_form)(mixer, laws.sequence(0, 20).astype(jnp.float32))
    np.testing.assert_allclose(form.weights.sum(-1), 1, rtol=1e-5)
    assert form.residual < 1e-5


@pytest.mark.parametrize(
    ("rate", "dtype"),
    tiers(product([-1e4, 4.2, 50.0], [jnp.float32, jnp.bfloat16]), (-1e4, jnp.float32), (50.0, jnp.bfloat16)),
)
def test_extreme_rates_stay_finite(rate, dtype):
    """Decays of 1, of 1e-29 and of 0 give no NaN, neither forward nor in gradients."""
    mixer = dataclasses.replace(laws.make("rwkv4", dtype=dtype), log_rate=jnp.full(4, rate, dtype))
    laws.extremes_stay_finite(mixer, laws.sequence(0, 40).astype(dtype))


def test_initial_weights_are_the_published_ones():
    """Rates from -5 to 3, bonuses in zigzag around log 0.3, mixes that grow with the channel; zeros where asked for."""
    first = RWKV4TimeMixing.make(5, key=jr.key(0), layer=0, layers=3, zeros=True)
    last = RWKV4TimeMixing.make(5, key=jr.key(0), layer=2, layers=3)
    np.testing.assert_allclose(first.log_rate, -5 + 8 * (np.arange(5) / 4) ** 0.7)
    np.testing.assert_allclose(last.log_rate, -5 + 8 * (np.arange(5) / 4) ** 2)
    np.testing.assert_allclose(first.u, np.log(0.3) + 0.5 * np.array([0, 1, -1, 0, 1]))
    np.testing.assert_allclose(first.mu_k, np.arange(5) / 5)
    np.testing.assert_allclose(last.mu_v, (np.arange(5) / 5) ** (1 / 3) + 0.3)
    np.testing.assert_allclose(last.mu_r, (np.arange(5) / 5) ** (1 / 6))
    np.testing.assert_allclose(first.w_v @ first.w_v.T, np.eye(5), atol=1e-12)
    assert not any(np.asarray(w).any() for w in (first.w_k, first.w_r, first.w_o))
    channel = RWKV4ChannelMixing.make(4, key=jr.key(0), layer=1, layers=2, zeros=True)
    np.testing.assert_allclose(channel.mu_k, (np.arange(4) / 4) ** 0.5)
    np.testing.assert_allclose(channel.w_k.T @ channel.w_k, 4 * np.eye(4), atol=1e-12)
    assert channel.w_k.shape == (16, 4) and not np.asarray(channel.w_r).any() and not np.asarray(channel.w_v).any()


V, W = np.zeros(2), np.zeros((3, 2))
TIME = {
    "mu_k": V,
    "mu_v": V,
    "mu_r": V,
    "w_k": W,
    "w_v": W,
    "w_r": W,
    "log_rate": np.zeros(3),
    "u": np.zeros(3),
    "w_o": W.T,
}
CHANNEL = {"mu_k": V, "mu_r": V, "w_k": W, "w_r": np.zeros((2, 2)), "w_v": W.T}
BAD = {
    "flat keys": (
        TIME,
        {"w_k": V},
        r"w_k has shape \(2,\); it must be \(3, 2\): \(n, d\), where n is 3 in w_v, d is 2 in mu_k",
    ),
    "a long mix": (TIME, {"mu_r": np.zeros(3)}, r"mu_r has shape \(3,\); it must be \(2,\)"),
    "turned values": (TIME, {"w_v": W.T}, r"w_v has shape \(2, 3\); it must be \(3, 2\)"),
    "a short rate": (TIME, {"log_rate": V}, r"log_rate has shape \(2,\); it must be \(3,\)"),
    "a short bonus": (TIME, {"u": V}, r"u has shape \(2,\); it must be \(3,\)"),
    "a turned readout": (TIME, {"w_o": W}, r"w_o has shape \(3, 2\); it must be \(d_out, 3\)"),
    "a readout of nothing": (TIME, {"w_o": W[:0]}, r"w_o has shape \(0, 2\); it must be \(d_out, 3\)"),
    "no unit": (CHANNEL, {"w_k": W[:0]}, r"w_k has shape \(0, 2\); it must be \(3, 2\): \(n, d\)"),
    "a short mix": (CHANNEL, {"mu_k": ONE}, r"mu_k has shape \(1,\); it must be \(2,\): \(d,\), where d is 2 in mu_r"),
    "another gate": (CHANNEL, {"w_r": W}, r"w_v has shape \(2, 3\); it must be \(3, 3\): .* d_out is 3 in w_r"),
    "other units": (CHANNEL, {"w_v": np.zeros((2, 4))}, r"w_v has shape \(2, 4\); it must be \(2, 3\)"),
    "turned units": (CHANNEL, {"w_v": W}, r"w_v has shape \(3, 2\); it must be \(2, 3\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_fit(unchecked, case):
    """The array that does not fit is named, with the shape that is needed."""
    given, changed, message = BAD[case]
    with pytest.raises(InputError, match=message):
        (RWKV4TimeMixing if given is TIME else RWKV4ChannelMixing)(**(given | changed))


def test_layers_are_numbered(unchecked):
    """A layer that there is not is named."""
    for kind in (RWKV4TimeMixing, RWKV4ChannelMixing):
        with pytest.raises(InputError, match="layer is 2 of 2; layers are numbered from 0"):
            kind.make(4, key=jr.key(0), layer=2, layers=2)
