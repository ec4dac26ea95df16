"""The causal convolution: exact answers, its map, torch's numbers, and what it says of weights that do not fit."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import CausalConvolution
from tests.laws import laws


def test_exact():
    """The present token meets the last row; a document's first token sees none before it; a gap is passed over."""
    mixer = CausalConvolution(np.array([[1.0], [10.0]]), np.array([0.5]))
    x = jnp.array([[1.0], [2.0], [3.0]])
    assert mixer(x)[0][:, 0].tolist() == [10.5, 21.5, 32.5]
    assert mixer(x, start=jnp.array([False, False, True]))[0][:, 0].tolist() == [10.5, 21.5, 30.5]
    y, state = mixer(x, mask=jnp.array([True, False, True]))
    assert y[2, 0] == 31.5 and state.tolist() == [[3.0]]


def test_the_map_gives_the_output():
    """weights times the values, and the bias, are the output, with documents and gaps."""
    mixer, x = CausalConvolution.make(3, key=jr.key(0)), jr.normal(jr.key(1), (12, 3))
    start, mask = jnp.arange(12) == 5, jnp.arange(12) % 4 != 2
    weights = laws.attention(mixer, x, None, start, mask).weights()
    y, _ = mixer(x, start=start, mask=mask)
    expected = jnp.where(mask[:, None], jnp.einsum("dts,sd->td", weights, x) + mixer.bias[None], 0.0)
    laws.check_close(y, expected, laws.EXACT, "outputs")


BAD = {
    "a flat kernel": (lambda: CausalConvolution(np.zeros(3), np.zeros(3)), r"kernel has shape \(3,\)"),
    "an empty kernel": (
        lambda: CausalConvolution(np.zeros((0, 3)), np.zeros(3)),
        r"it must be \(width, d\), width at least 1",
    ),
    "a short bias": (
        lambda: CausalConvolution(np.zeros((4, 3)), np.zeros(2)),
        r"bias has shape \(2,\); it must be \(3,\)",
    ),
    "no width": (lambda: CausalConvolution.make(3, key=jr.key(0), width=0), "width is 0; a convolution sees"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_weights(case):
    """A sentence each."""
    build, message = BAD[case]
    with pytest.raises(InputError, match=message):
        build()
