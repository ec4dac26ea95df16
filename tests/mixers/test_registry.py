"""What `make` promises of every registered mixer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.mixers import AbstractMixer, registry
from tests.laws import broken, laws, programs


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
    learned = jax.tree_util.tree_leaves(eqx.filter(half, lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact)))
    assert learned and all(leaf.dtype == jnp.bfloat16 for leaf in learned)
    assert "**Source:**" in (type(laws.make(name)).__doc__ or "")


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_weights_get_gradients(name):
    """Every weight of a mixer has a gradient that is finite and not 0: none is dead, none is a number that jax skips."""
    asked = laws.alone(laws.table(name).take(np.arange(3)))
    y, state = programs.ask(programs.call, asked)
    none = jax.tree_util.tree_map(lambda s: np.zeros_like(s) if jnp.issubdtype(s.dtype, jnp.inexact) else None, state)
    gradients = programs.ask(programs.pull_back, asked, (2 * y, none))[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all() and leaf.reshape(len(leaf), -1).any(axis=1).all(), path


@pytest.mark.parametrize("name", registry())
def test_d_out_needs_no_writing(name):
    """A mixer that does not say its output's width is asked by tracing, and gives the same."""
    mixer = laws.make(name)
    assert broken.Around(mixer).d_out == mixer.d_out == laws.D
