"""Norms of numbers of any size."""

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from dualform.norms import LARGE, layer_norm, rms_norm
from tests.laws.laws import check_close


@pytest.mark.parametrize("norm", [rms_norm, lambda x, weight: layer_norm(x, weight, 0 * weight)], ids=["rms", "layer"])
def test_norms_of_any_size(norm):
    """Rows of 0 to 1e30 have in float32 the norms, and the gradients, that they have in float64."""
    sizes = jnp.array([0.0, 1e-30, 1e-3, 1.0, LARGE / 3, 10 * LARGE, 1e20, 1e30])
    x = (sizes[:, None] * jr.normal(jr.key(0), (len(sizes), 5))).astype(jnp.float32)
    weight = jr.normal(jr.key(1), (5,)).astype(jnp.float32)
    # Of each row by itself, times the row: gradients fall as rows grow.
    run = jax.jit(
        jax.vmap(jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(norm(x, w))), argnums=(0, 1)), in_axes=(0, None))
    )
    value, (of_x, of_weight) = run(x, weight)
    exact, (exact_x, exact_weight) = run(x.astype(jnp.float64), weight.astype(jnp.float64))
    scaled = lambda g, x: jnp.maximum(jnp.abs(x).max(1), 1e-3)[:, None] * g
    wide = lambda a: a.astype(jnp.float64)
    check_close(wide(value), exact, 1e-5, "values")
    check_close(wide(scaled(of_x, x)), scaled(exact_x, wide(x)), 1e-5, "gradients of the rows")
    check_close(wide(of_weight), exact_weight, 1e-5, "gradients of the weight")
