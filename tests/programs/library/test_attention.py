"""Linear attention as a program is the package's own, and, compiled, the package's own construction."""

import jax.numpy as jnp
import numpy as np
import pytest

from dualform import construct
from dualform.errors import InputError
from dualform.mixers import GatedRNN, LinearAttention
from dualform.programs import compile_program, interpret
from dualform.programs.library import program
from dualform.programs.library.attention import attention


def matrices(d=4):
    return np.random.default_rng(0).standard_normal((3, d, d)) / d**0.5


def test_program_is_the_mixer():
    """The program of three matrices gives what `LinearAttention` with these matrices gives."""
    x = np.random.default_rng(1).standard_normal((21, 4))
    y, _ = LinearAttention(*(jnp.asarray(w) for w in matrices()))(jnp.asarray(x))
    # The same sums of 84 products, in another order.
    np.testing.assert_allclose(interpret(attention(*matrices()), x), np.asarray(y), rtol=0, atol=1e-12)


def test_compiled_is_the_construction():
    """To a gated RNN it compiles with as many units as `construct` has: d^2 that remember, d that forget, d^2 products."""
    rnn = compile_program(attention(*matrices()), "gated-rnn").model
    built = construct.build(LinearAttention(*(jnp.asarray(w)[None] for w in matrices())), "full")
    assert isinstance(built.rnn, GatedRNN)
    assert (
        sorted(np.asarray(rnn.decay).tolist()) == sorted(np.asarray(built.rnn.decay).tolist()) == [0.0] * 4 + [1.0] * 16
    )
    assert rnn.w_m_out.shape == built.rnn.w_m_out.shape == (16, 20)
    x = jnp.asarray(np.random.default_rng(2).standard_normal((21, 4)))
    np.testing.assert_allclose(np.asarray(rnn(x)[0]), np.asarray(built.rnn(x)[0]), rtol=0, atol=1e-12)


def test_gradient_descent_has_the_papers_coefficients():
    """One pair asked for in itself gives eta y x^T x, with eta = 1 / 14.8: Table 2's 6.76e-2 for x_i^2 y_1."""
    made = program("gradient_descent")
    for i in range(3):
        token = np.zeros((1, 6))
        token[0, i], token[0, 3] = 1, 1
        found = interpret(made, token)[0, 0]
        assert found == pytest.approx(1 / 14.8, rel=1e-15) and found == pytest.approx(6.76e-2, abs=5e-5)


def test_gradient_descent_has_the_papers_loss():
    """Over drawn tasks half the squared error is the closed form of the best step, 0.0946, within four standard errors."""
    made, random, errors = program("gradient_descent"), np.random.default_rng(0), []
    for _ in range(2000):
        w = random.standard_normal((3, 3)) / 3**0.5
        x = random.uniform(-(3**0.5), 3**0.5, (13, 3))
        y = x @ w.T
        tokens = np.concatenate([x, y], axis=1)
        tokens[-1, 3:] = 0
        assert made.expected is not None
        errors.append(0.5 * np.mean((made.expected(tokens)[-1] - y[-1]) ** 2))
    formula = 0.5 * 1 / 3 * 3 * (3 - 0.2) / (12 + 3 - 0.2)
    assert abs(np.mean(errors) - formula) < 4 * np.std(errors) / len(errors) ** 0.5


@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3), (3, 3)), ((2, 4), (2, 3), (2, 3)), ((2,), (2, 3), (2, 3)), ((0, 3), (2, 3), (2, 3))]
)
def test_matrices_have_to_fit(shapes):
    """Matrices of other shapes get a sentence with all three."""
    with pytest.raises(InputError, match=r"w_v must be \(d_v, d\), w_k and w_q \(d_k, d\); got w_v"):
        attention(*(np.ones(shape) for shape in shapes))
