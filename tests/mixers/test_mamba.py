"""Mamba and Mamba-2: exact answers, their maps on paper, extreme steps, and what they say of weights that do not fit."""

import dataclasses
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.maps import Rescaled
from dualform.mixers import Mamba, Mamba2
from dualform.mixers.mamba import Selective
from tests.laws import laws
from tests.tiers import tiers

D = 4


def mamba(**options):
    return Mamba.make(D, key=jr.key(0), **options)


def mamba2(**options):
    return Mamba2.make(D, key=jr.key(0), **options)


def test_init_is_published():
    """A = -(1, ..., n), D = 1, and steps between 1e-3 and 0.1 where the token says nothing."""
    mixer = Mamba.make(32, key=jr.key(0))
    assert np.allclose(np.exp(mixer.a_log), np.arange(1, 17)[None]) and (mixer.skip == 1).all()
    assert mixer.w_1.shape == (2, 64) and mixer.kernel.shape == (4, 64)
    for bias in (mixer.b_delta, Mamba2.make(32, key=jr.key(0), heads=8).b_delta):
        steps = jax.nn.softplus(bias)
        assert (steps > 0.9e-3).all() and (steps < 0.11).all()


def test_the_map_of_mamba_on_paper():
    """gate_t (sum_n C_tn exp(A_n (delta_{s+1} + ... + delta_t)) delta_s B_sn + D [t = s]) sigma_s, times the convolution."""
    mixer, x = mamba(n=3), laws.sequence(0, 9)
    time, own = len(x), laws.attention(mixer, x)
    assert isinstance(own.memory, Selective)
    delta, b, c, gate, opened = (getattr(own.memory, name) for name in ("delta", "b", "c", "gate", "opened"))
    total, a = jnp.cumsum(delta, 0), -jnp.exp(mixer.a_log)
    elapsed = jnp.exp((total[:, None] - total[None])[..., None] * a[None, None])  # t, s, channel, n
    states = jnp.einsum("tn,tsdn,sd,sn->dts", c, elapsed, delta, b) + mixer.skip[:, None, None] * jnp.eye(time)[None]
    read = jnp.tril(states) * gate.T[:, :, None] * opened.T[:, None]
    back = jnp.arange(time)[:, None] - jnp.arange(time)[None]
    lags = jnp.where(((back >= 0) & (back < 4))[..., None], mixer.kernel[jnp.clip(3 - back, 0, 3)], 0.0)
    expected = jnp.einsum("dtu,usd->dts", read, lags)
    laws.check_close(own.weights(), expected, 1e-9, "the map")


@pytest.mark.parametrize("make", tiers([mamba, mamba2], mamba2))
def test_the_map_gives_the_contributions(make):
    """Read out channel by channel, the map times v is what the general path gives, with documents and gaps."""
    mixer, x = make(), laws.sequence(0, 10)
    start, mask = jnp.arange(10) == 6, jnp.arange(10) != 3
    form = eqx.filter_jit(dual_form)(mixer, x, start=start, mask=mask)
    present = jnp.where(mask[:, None], x, 0.0)
    v = mixer.value(present)
    readout = mixer.w_o if isinstance(mixer, Mamba) else mixer.w_o * mixer.norm[None]
    expected = jnp.einsum("dts,sd,od->tso", form.weights, v, readout)
    laws.check_close(form.contributions, expected, 1e-9, "contributions")


def test_groups_share():
    """One group for two heads is two equal groups, but for the norm, which runs over each group."""
    shared = mamba2()
    inner, n = shared.inner, shared.w_b.shape[1]
    columns = np.r_[0:inner, inner : inner + n, inner : inner + n, inner + n : inner + 2 * n, inner + n : inner + 2 * n]
    twice = dataclasses.replace(
        shared,
        w_b=jnp.repeat(shared.w_b, 2, 0),
        w_c=jnp.repeat(shared.w_c, 2, 0),
        kernel=shared.kernel[:, columns],
        bias=shared.bias[columns],
    )
    x = laws.sequence(0, 8)

    def read(mixer):
        own = laws.attention(mixer, x)
        assert isinstance(own.memory, Rescaled)
        return own.memory.memory(own.write(x))

    laws.check_close(read(shared), read(twice), laws.EXACT, "before the norm")
    assert not np.allclose(shared(x)[0], twice(x)[0])


@pytest.mark.parametrize(
    ("bias", "dtype"),
    tiers(
        product([(-200.0,), (0.0,), (1e4,), (-200.0, 1e4)], [jnp.float32, jnp.bfloat16]), ((-200.0, 1e4), jnp.bfloat16)
    ),
)
def test_extreme_steps_stay_finite(bias, dtype):
    """Steps of 0 and of ten thousand, channels or heads in turn, give no NaN, neither forward nor in gradients."""
    for mixer in (mamba(dtype=dtype), mamba2(dtype=dtype)):
        mixer = dataclasses.replace(mixer, b_delta=jnp.resize(jnp.asarray(bias, dtype), mixer.b_delta.shape))
        laws.extremes_stay_finite(mixer, laws.sequence(0, 6).astype(dtype))


BAD = {
    "no expansion": (lambda: mamba(expansion=0), "expansion, n, width and rank must all be at least 1"),
    "heads that do not divide": (lambda: mamba2(heads=3), "3 heads do not divide an inner width of 8"),
    "groups that do not divide": (lambda: mamba2(heads=2, groups=4), "4 groups do not divide 2 heads"),
    "no state": (lambda: mamba2(n=0), "expansion, heads, groups, n and width must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sizes(case):
    """A sentence each."""
    build, message = BAD[case]
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("make", [mamba, mamba2])
def test_bad_weights(make):
    """Every weight in a shape of its own, and flat, is named."""
    mixer = make()
    for field in dataclasses.fields(mixer):
        if field.name in ("epsilon", "negative"):
            continue
        weight = getattr(mixer, field.name)
        for bad in (jnp.zeros((*weight.shape, 1)), jnp.zeros((*weight.shape[:-1], weight.shape[-1] + 1))):
            with pytest.raises(InputError, match=r"has shape|must be"):
                dataclasses.replace(mixer, **{field.name: bad})
