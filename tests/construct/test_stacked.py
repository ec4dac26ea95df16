"""Attention into stacks, as the command line builds them: the certificate, what is saved, and what is refused."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.checkpoints import load_weights
from dualform.cli import main
from dualform.construct import STACKS, build_stack
from dualform.errors import InputError
from dualform.mixers import LinearAttention

LAYERS = {"lru-out": 2, "lru-in-out": 1, "lru-in-skip": 1, "lstm": 1}


@pytest.mark.parametrize("form", STACKS)
def test_the_certificate_is_the_error(form):
    """Random and given inputs are met to 1e-6, by the fewest layers that serve, and the stack says so itself."""
    attention, x = LinearAttention.make(3, heads=1, key=jr.key(0)), jr.normal(jr.key(1), (10, 3))
    built = build_stack(attention, form, x)
    assert built.layers == LAYERS[form] and built.parameters == built.stack.parameters()
    assert built.input_error is not None and max(built.random_error, built.input_error) < 1e-6
    found, expected = built.stack(x)[0], attention(x)[0]
    error = float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))
    np.testing.assert_allclose(error, built.input_error, rtol=0.2)


def test_what_cannot_be_is_said():
    """An unknown form, and too few layers."""
    attention = LinearAttention.make(2, heads=1, key=jr.key(0))
    with pytest.raises(InputError, match="no stack 'gru'; there are lru-out, lru-in-out, lru-in-skip, lstm"):
        build_stack(attention, "gru")
    with pytest.raises(InputError, match=r"into 2 layer\(s\), not into 1"):
        build_stack(attention, "lru-out", layers=1)


def test_the_command(tmp_path, capsys):
    """`dualform construct --form lru-in-out` saves a stack that is the teacher; layers of an exact form are refused."""
    out = tmp_path / "s.safetensors"
    command = ["construct", "--teacher", "gaussian", "--d", "2", "--form", "lru-in-out", "--out", str(out)]
    assert main(command) == 0 and "1 layer(s) of lru-in-out" in capsys.readouterr().out
    assert load_weights(out).d_in == 2
    assert main(["construct", "--teacher", "gaussian", "--layers", "2"]) == 2
    assert "--layers is of the stacks" in capsys.readouterr().err
