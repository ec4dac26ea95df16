"""TOVA keeps what its own code keeps: decisions that `tests/oracles/tova.py` has stored."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dualform.generation import policy
from dualform.generation.multi_state import MultiStateAttention, PromptAttention
from dualform.mixers import SoftmaxAttention
from dualform.tensor_file import read_tensors

ORACLE, _ = read_tensors(Path(__file__).parents[1] / "oracles" / "data" / "generation" / "tova.safetensors")
CASES, STATES = len(ORACLE["x"]), ORACLE["at_once"].shape[2]


def mixer_of(w_q, w_k) -> MultiStateAttention:
    """The case's attention, without rotation; its values decide nothing."""
    w_o = jnp.ones((w_q.shape[2], w_q.shape[0] * w_q.shape[1]))
    attention = SoftmaxAttention(w_q=w_q, w_k=w_k, w_v=w_k, w_o=w_o, window=1024)
    return MultiStateAttention(attention, policy("tova"), STATES)


@eqx.filter_jit
def kept_from(state, x, w_q, w_k):
    """The positions after each token of x."""
    mixer = mixer_of(w_q, w_k)

    def step(state, x_t):
        _, state = mixer.step(x_t, state)
        return state, state.positions

    return jax.lax.scan(step, state, x)[1]


def test_token_by_token():
    """After every one of 40 tokens the kept places are those of the official code, in each of four random layers."""
    for x, w_q, w_k, expected in zip(*(ORACLE[n] for n in ("x", "w_q", "w_k", "token_by_token")), strict=True):
        found = kept_from(mixer_of(w_q, w_k).init_state(), x, w_q, w_k)
        for head in range(found.shape[1]):
            np.testing.assert_array_equal(np.sort(found[:, head], axis=1), np.sort(expected, axis=1))


def test_a_prompt_at_once():
    """Half of the tokens as a prompt that is read at once, the other half one by one: the same decisions."""
    read = eqx.filter_jit(lambda x, w_q, w_k: PromptAttention(mixer_of(w_q, w_k))(x)[1])
    for x, w_q, w_k, expected in zip(*(ORACLE[n] for n in ("x", "w_q", "w_k", "at_once")), strict=True):
        first = len(x) + 1 - len(expected)
        state = read(x[:first], w_q, w_k)
        found = np.concatenate([state.positions[None], kept_from(state, x[first:], w_q, w_k)])
        for head in range(found.shape[1]):
            np.testing.assert_array_equal(np.sort(found[:, head], axis=1), np.sort(expected, axis=1))


def test_the_two_ways_differ():
    """The stored decisions of a prompt at once are not those of token by token: two policies."""
    first = ORACLE["x"].shape[1] + 1 - ORACLE["at_once"].shape[1]
    assert any((ORACLE["token_by_token"][i, first - 1] != ORACLE["at_once"][i, 0]).any() for i in range(CASES))
