"""The families of hidden Markov models: random ones, and cycles that observations turn."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform.errors import require
from dualform.tasks.hmm.chain import HMM


def random_hmm(states: int, observations: int, seed: int, dtype: Any) -> HMM:
    """Rows of the transition and of the emission drawn uniformly of all probabilities; any state may be the first.

    It forgets fast: a few tokens say nearly all that is known of the state.

    **Source:** ours, after what is said in public of the random HMM of Hu et al. 2024 (arXiv 2406.04089).
    """
    random = np.random.default_rng(seed)
    transition, emission = (random.dirichlet(np.ones(n), states) for n in (states, observations))
    arrays = (np.full(states, 1 / states), transition, emission)
    return HMM.of_matrices(*(jnp.asarray(each, dtype) for each in arrays))


def cyclic_det(states: int, observations: int, seed: int, dtype: Any) -> HMM:
    """A cycle of states: observation 0 leads each to the next, every other one exchanges two neighbours on the cycle.

    Observations are drawn uniformly, whatever the state, and the first state is 0: the belief is always sure, and is the
    product of all permutations so far. With two observations all orders of the states are reached.

    **Source:** ours, after what is said in public of the CyclicHMM-DET of Hu et al. 2024 (arXiv 2406.04089): a deterministic
    decision process in a cycle, whose random actions are observed.
    """
    return _as_chain(_turns(states, observations, seed), dtype)


def cyclic_rnd(states: int, observations: int, seed: int, dtype: Any, slip: float = 0.05) -> HMM:
    """As `cyclic_det`, but after each observation the state slips back by one on the cycle with probability `slip`.

    **Source:** ours, after what is said in public of the CyclicHMM-RND of Hu et al. 2024 (arXiv 2406.04089).
    """
    return _as_chain(_slipping(states, observations, seed, slip), dtype)


def cyclic_hard(states: int, observations: int, seed: int, dtype: Any, slip: float = 0.05, stage: int = 4) -> HMM:
    """Stages of `stage` tokens, all but the last as of `cyclic_rnd`; the last tells whether the state is 0, and moves nothing.

    So what is observed depends on the state at one token of each stage alone. A state is a place on the cycle and a token of the
    stage, at place * stage + token; there are two observations more, "elsewhere" and "at 0".

    **Source:** ours, after what is said in public of the CyclicHMM-HARD of Hu et al. 2024 (arXiv 2406.04089): it mixes slowly,
    and its observations tell little.
    """
    require(
        stage >= 2,
        f"stage is {stage}; a stage has at least 2 tokens, one that moves the state and one that tells of it.",
    )
    moves = _slipping(states, observations, seed, slip)
    kernels = np.zeros((observations + 2, states, stage, states, stage))
    for token in range(stage - 1):
        kernels[:observations, :, token, :, token + 1] = moves
    for place in range(states):
        kernels[observations + (place == 0), place, stage - 1, place, 0] = 1
    initial = np.eye(states * stage)[0]
    flat = kernels.reshape(observations + 2, states * stage, states * stage)
    return HMM(jnp.asarray(initial, dtype), jnp.asarray(flat, dtype))


def _turns(states: int, observations: int, seed: int) -> Float[np.ndarray, "observation state state"]:
    """A permutation for each observation, as matrices that rows are multiplied by."""
    require(states >= 2, f"states is {states}; a cycle has at least 2.")
    random, one = np.random.default_rng(seed), np.eye(states)
    turns = [np.roll(one, 1, axis=1)]
    for _ in range(observations - 1):
        first = int(random.integers(states))
        order = np.arange(states)
        order[[first, (first + 1) % states]] = order[[(first + 1) % states, first]]
        turns.append(one[order])
    return np.stack(turns)


def _slipping(states: int, observations: int, seed: int, slip: float) -> Float[np.ndarray, "observation state state"]:
    """Turns and slips, each observation as likely as any other."""
    require(0 <= slip <= 1, f"slip is {slip}; a probability lies in [0, 1].")
    back = (1 - slip) * np.eye(states) + slip * np.roll(np.eye(states), -1, axis=1)
    return _turns(states, observations, seed) @ back / observations


def _as_chain(kernels: np.ndarray, dtype: Any) -> HMM:
    kernels = kernels / kernels.sum(axis=(0, 2), keepdims=True)
    return HMM(jnp.asarray(np.eye(kernels.shape[1])[0], dtype), jnp.asarray(kernels, dtype))
