"""Law 8 for Mamba and Mamba-2: transformers' mixers give the same, with gradients."""

import jax.numpy as jnp
import pytest

from dualform.mixers import Mamba, Mamba2
from tests.oracles.held import TIERS, Held, error

TRANSFORMERS = "transformers 5.23.0"


def mamba(a):
    """transformers' names: u and z, and rank, B and C, in one matrix each."""
    (w_u, w_z), n = jnp.split(a["in_proj.weight"], 2), a["A_log"].shape[1]
    rank = len(a["x_proj.weight"]) - 2 * n
    w_1, w_b, w_c = jnp.split(a["x_proj.weight"], (rank, rank + n))
    mixer = Mamba(
        w_u=w_u,
        w_z=w_z,
        kernel=a["conv1d.weight"][:, 0].T,
        bias=a["conv1d.bias"],
        w_b=w_b,
        w_c=w_c,
        w_1=w_1,
        w_2=a["dt_proj.weight"],
        b_delta=a["dt_proj.bias"],
        a_log=a["A_log"],
        skip=a["D"],
        w_o=a["out_proj.weight"],
    )
    return {"y": mixer(a["x"])[0]}


def mamba2(a):
    """transformers' names: z, v, B, C and delta in one matrix; four heads of two channels, two groups."""
    w, heads, groups = a["in_proj.weight"], len(a["A_log"]), 2
    inner = len(a["norm.weight"])
    n = (len(w) - 2 * inner - heads) // (2 * groups)
    w_z, w_v, w_b, w_c, w_delta = jnp.split(w, (inner, 2 * inner, 2 * inner + groups * n, 2 * inner + 2 * groups * n))
    into = lambda w, count: w.reshape(count, -1, w.shape[1])
    mixer = Mamba2(
        w_v=into(w_v, heads),
        w_z=into(w_z, heads),
        w_b=into(w_b, groups),
        w_c=into(w_c, groups),
        w_delta=w_delta,
        b_delta=a["dt_bias"],
        a_log=a["A_log"],
        skip=a["D"],
        kernel=a["conv1d.weight"][:, 0].T,
        bias=a["conv1d.bias"],
        norm=a["norm.weight"],
        w_o=a["out_proj.weight"],
    )
    return {"y": mixer(a["x"])[0]}


HELD = {
    "mamba": Held("mamba", mamba, TRANSFORMERS),
    "mamba_extreme": Held("mamba", mamba, TRANSFORMERS),
    "mamba2": Held("mamba2", mamba2, TRANSFORMERS),
    "mamba2_extreme": Held("mamba2", mamba2, TRANSFORMERS),
}


@TIERS
@pytest.mark.parametrize("stem", HELD)
def test_the_oracle_agrees(stem, gradients):
    """Outputs, and the gradients of the input and every weight, are those of the peer."""
    assert error(stem, HELD[stem], gradients) <= HELD[stem].tolerance
