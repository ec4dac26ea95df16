"""What `make` promises of every registered mixer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from dualform.mixers import AbstractMixer, registry
from tests.laws import broken, laws


@pytest.mark.parametrize("name", registry())
def test_make(name):
    """`make(d, key=...)` gives a documented mixer of width d in and out, the same for the same key, in the dtype asked for."""
    make = registry()[name]
    for d in (2, 6):
        mixer = eqx.filter_eval_shape(make, d, key=jr.key(0))
        assert isinstance(mixer, AbstractMixer) and mixer.d_in == d and mixer.d_out == d
        assert eqx.filter_eval_shape(lambda mixer, x: mixer(x)[0], mixer, jnp.ones((3, d))).shape == (3, d)
    laws.check_same_bits(make(laws.D, key=jr.key(0)), laws.make(name), "two mixers of one key")
    half = eqx.filter_eval_shape(make, laws.D, key=jr.key(0), dtype=jnp.bfloat16)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree_util.tree_leaves(half))
    assert "**Source:**" in (type(laws.make(name)).__doc__ or "")


@pytest.mark.parametrize("name", registry())
def test_weights_get_gradients(name):
    """Every weight of a mixer has a gradient that is finite and not 0: none is dead, none is a number that jax skips."""
    mixer, x = laws.make(name), laws.sequence(0, 6)
    gradients = eqx.filter_jit(eqx.filter_grad(lambda mixer, x: jnp.sum(mixer(x)[0] ** 2)))(mixer, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert bool(jnp.isfinite(leaf).all()) and bool(jnp.any(leaf != 0)), path


@pytest.mark.parametrize("name", registry())
def test_d_out_needs_no_writing(name):
    """A mixer that does not say its output's width is asked by tracing, and gives the same."""
    mixer = laws.make(name)
    assert broken.Around(mixer).d_out == mixer.d_out == laws.D
