"""What makes the tests' programs compile sooner changes no number."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.xla import DRAWN

DRAWS: dict[str, Callable[..., jax.Array]] = {
    "normal": jr.normal,
    "normal, bfloat16": lambda key, shape: jr.normal(key, shape, jnp.bfloat16),
    "uniform": jr.uniform,
    "uniform, between": lambda key, shape: jr.uniform(key, shape, jnp.float32, -2.0, maxval=0.5),
    "randint": lambda key, shape: jr.randint(key, shape, 3, 1000),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_shared_draw_is_jaxs_own(name):
    """What one program draws for all shapes is what jax draws inside a program for this shape, to the bit."""
    draw, key = DRAWS[name], jr.key(7)
    own: Any = jax.jit(draw, static_argnums=1)
    for shape in ((7, 3), ()):
        shared, expected = draw(key, shape), own(key, shape)
        assert (shared.dtype, shared.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(np.asarray(shared), np.asarray(expected))


def test_other_draws_are_left_as_they_are():
    """A long draw, one from a raw key, one from bounds with an axis, and one of several keys are jax's own."""
    assert jr.normal(jr.key(0), (DRAWN + 1,)).shape == (DRAWN + 1,)
    assert jr.uniform(jr.PRNGKey(0), (3,)).shape == (3,)
    between = jr.randint(jr.key(0), (2,), jnp.array([0, 10]), jnp.array([1, 11]))
    assert between.tolist() == [0, 10]
    assert jax.vmap(lambda key: jr.normal(key, (3,)))(jr.split(jr.key(0), 2)).shape == (2, 3)
    wrong: Any = (2.5,)
    with pytest.raises(TypeError):
        jr.normal(jr.key(0), wrong)
