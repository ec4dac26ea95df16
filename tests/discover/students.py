"""Networks with known answers: attention written into a gated RNN, then disguised."""

import jax.random as jr
import numpy as np

from dualform.construct import gated_rnn
from dualform.mixers import GatedRNN, LinearAttention
from dualform.training.second_order import Weights, network, weights_of


def teacher(d: int = 3, seed: int = 0) -> LinearAttention:
    """One square head with Gaussian weights."""
    w_v, w_k, w_q = jr.normal(jr.key(seed), (3, d, d)) / d**0.5
    return LinearAttention(w_v, w_k, w_q)


def sequences(d: int = 3, count: int = 96, time: int = 12, seed: int = 1) -> np.ndarray:
    """Gaussian inputs, (count, time, d)."""
    return np.random.default_rng(seed).standard_normal((count, time, d))


def sampler(attention: LinearAttention, count: int = 64, time: int = 12):
    """key -> inputs and the teacher's outputs."""
    from dualform.discover import targets

    def sample(key):
        x = np.asarray(jr.normal(key, (count, time, attention.d_in)))
        return x, targets(attention, x)

    return sample


def disguised(rnn: GatedRNN, seed: int = 0, copies: int = 3) -> GatedRNN:
    """The same function: units mixed within a decay, some twice, pre-readout units split in two, all permuted."""
    rng, weights = np.random.default_rng(seed), weights_of(rnn)
    decay, a, b, u, w, readout = weights
    twice = rng.choice(len(decay), copies, replace=False)
    share = rng.uniform(0.2, 0.8, copies)
    factor = rng.uniform(0.5, 2.0, copies)
    a, b, decay = (
        np.concatenate([a, factor[:, None] * a[twice]]),
        np.concatenate([b, b[twice]]),
        np.append(decay, decay[twice]),
    )
    u, w = (np.concatenate([side, side[:, twice] * (1 - share) / factor], axis=1) for side in (u, w))
    u[:, twice] *= share
    w[:, twice] *= share
    split = rng.choice(len(u), copies, replace=False)
    u, w = np.concatenate([u, 2.0 * u[split]]), np.concatenate([w, w[split]])
    readout = np.concatenate([readout, readout[:, split] / 4], axis=1)
    readout[:, split] /= 2
    hidden, products = rng.permutation(len(decay)), rng.permutation(len(u))
    return network(
        Weights(
            decay[hidden], a[hidden], b[hidden], u[products][:, hidden], w[products][:, hidden], readout[:, products]
        )
    )


def constructed(d: int = 3, form: str = "compact", seed: int = 0) -> tuple[LinearAttention, GatedRNN]:
    """A teacher and the network that implements it."""
    attention = teacher(d, seed)
    return attention, gated_rnn(attention, form)


def noisy(rnn: GatedRNN, size: float, seed: int = 0) -> GatedRNN:
    """Every weight off by a relative `size`, decays too, within [0, 1]."""
    rng, weights = np.random.default_rng(seed), weights_of(rnn)
    off = [array * (1 + size * rng.standard_normal(array.shape)) for array in weights[1:]]
    decay = np.clip(weights.decay + size * rng.standard_normal(weights.decay.shape), 0, 1)
    return network(Weights(decay, *off))
