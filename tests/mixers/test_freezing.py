"""What freezing a nonlinearity needs, against the definitions."""

import jax
import jax.numpy as jnp
import numpy as np

from dualform.mixers.freezing import last_present, tanh_slope
from tests.laws.laws import check_same_bits


def test_the_slope_times_the_input_is_tanh():
    """tanh_slope(x) x is tanh(x) for every x, 0 included, where the slope is exactly 1 and its gradient exactly 0."""
    sizes = np.concatenate([np.logspace(-300, 2.5, 200), 1e-4 * np.linspace(0.99, 1.01, 21)])
    x = jnp.asarray(np.concatenate([-sizes, [0.0], sizes]))
    np.testing.assert_allclose(tanh_slope(x) * x, np.tanh(x), rtol=1e-15)
    assert float(tanh_slope(jnp.zeros(()))) == 1.0 and float(jax.grad(tanh_slope)(jnp.zeros(()))) == 0.0
    gradient = jax.vmap(jax.grad(tanh_slope))(x)
    assert bool(jnp.isfinite(gradient).all()) and bool((gradient * x <= 0).all())


def test_the_last_token_that_is_there():
    """The last row where the mask is True, to the bit; what was before where there is none."""
    h, before = jnp.arange(6.0).reshape(3, 2), jnp.array([-0.0, 9.0])
    assert last_present(h, before, None).tolist() == [4.0, 5.0]
    for mask, row in (([1, 1, 0], h[1]), ([1, 0, 1], h[2]), ([1, 0, 0], h[0]), ([0, 0, 0], before)):
        check_same_bits(last_present(h, before, jnp.array(mask, bool)), row, f"mask {mask}")
