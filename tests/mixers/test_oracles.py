"""Law 8: an independent implementation, given the same weights, gives the same output and the same gradients."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import safetensors

from dualform.mixers import GatedRNN, LinearAttention
from tests.laws.laws import EXACT, check_close

DATA = Path(__file__).parents[1] / "oracles" / "data"


def linear_attention(x, w_v, w_k, w_q, w_o):
    return LinearAttention(w_v, w_k, w_q, w_o)(x)[0]


def gated_rnn(x, w_m_in, w_x_in, w_m_out, w_x_out, readout, nu):
    return GatedRNN(w_m_in, w_x_in, w_m_out, w_x_out, readout, nu=nu)(x)[0]


@pytest.mark.parametrize("ours", [linear_attention, gated_rnn])
def test_the_oracle_agrees(ours):
    """Outputs and the gradients of the input and of every weight are those that PyTorch gives for the paper's equations."""
    with safetensors.safe_open(DATA / f"{ours.__name__}.safetensors", "flax") as file:
        stored, made_by = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    assert made_by["torch"].startswith("2.13.0") and made_by["seed"] == "20230905"
    y, cotangent = stored.pop("y"), stored.pop("cotangent")
    expected = {name: stored.pop(name) for name in [k for k in stored if k.startswith("gradient.")]}
    found, pull = jax.vjp(lambda weights: ours(**weights), stored)
    check_close(found, y, EXACT, "outputs")
    (gradients,) = pull(cotangent)
    assert {f"gradient.{name}" for name in gradients} == set(expected) and all(
        jnp.any(g != 0) for g in expected.values()
    )
    check_close({f"gradient.{name}": g for name, g in gradients.items()}, expected, EXACT, "gradients")
