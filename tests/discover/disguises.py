"""Random changes of a gated RNN's weights that leave its function as it is."""

import jax.numpy as jnp
import numpy as np

from dualform.construct.wiring import pair_products
from dualform.mixers import GatedRNN

NAMES = ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout")


def arrays(rnn: GatedRNN) -> list[np.ndarray]:
    """The weights and the decays, in float64."""
    return [np.array(getattr(rnn, name), np.float64) for name in (*NAMES, "decay")]


def rebuilt(weights: list[np.ndarray]) -> GatedRNN:
    """The network of `arrays`."""
    return GatedRNN(**{name: jnp.asarray(w) for name, w in zip((*NAMES, "decay"), weights, strict=True)})


def disguised(rnn: GatedRNN, seed: int) -> GatedRNN:
    """Units split into two, rescaled and permuted, the factors of each product scaled against each other and swapped."""
    rng = np.random.default_rng(seed)
    a, b, u, w, readout, decay = arrays(rnn)
    n, m = len(a), len(u)

    twice = np.concatenate([np.arange(n), rng.integers(n, size=2)])  # two units stand twice, and are read in two parts
    share = np.ones(len(twice))
    for extra in range(n, len(twice)):
        share[extra] = rng.uniform(0.2, 0.8) * share[twice[extra]]
        share[twice[extra]] -= share[extra]
    a, b, decay = a[twice], b[twice], decay[twice]
    u, w = u[:, twice] * share[None], w[:, twice] * share[None]

    scale, against = rng.uniform(0.3, 3, (2, len(a), 1)) * rng.choice([-1, 1], (2, len(a), 1))
    a, b = a * scale * against, b / against
    u, w = u / scale.T, w / scale.T
    scale, against = rng.uniform(0.3, 3, (2, m, 1)) * rng.choice([-1, 1], (2, m, 1))
    u, w, readout = u * scale * against, w / against, readout / scale.T

    a, b = swapped(a, b, rng)
    u, w = swapped(u, w, rng)
    units, products = rng.permutation(len(a)), rng.permutation(m)
    return rebuilt(
        [a[units], b[units], u[products][:, units], w[products][:, units], readout[:, products], decay[units]]
    )


def swapped(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a and b exchanged at random."""
    where = rng.integers(2, size=(len(a), 1)).astype(bool)
    return np.where(where, b, a), np.where(where, a, b)


def mixed(rnn: GatedRNN, seed: int) -> GatedRNN:
    """The compact network in another basis: the whole symmetric memory in random products, the queries mixed.

    Both maps are folded into the output gates.
    """
    rng = np.random.default_rng(seed)
    a, b, u, w, readout, decay = arrays(rnn)
    d = a.shape[1] - 1
    memory, forget = np.flatnonzero(decay == 1), np.flatnonzero(decay == 0)
    assert len(memory) == d * (d + 1) // 2 and len(forget) == d
    draws = [rng.standard_normal((2, len(memory), d)) for _ in range(20)]
    new = min(draws, key=lambda pair: np.linalg.cond(pair_products(*pair)))
    old = pair_products(a[memory, :d], b[memory, :d])
    back = np.linalg.solve(pair_products(*new).T, old.T).T  # old sums as combinations of the new ones
    a[memory, :d], b[memory, :d] = new
    queries = np.linalg.qr(rng.standard_normal((d, d)))[0] * rng.uniform(0.5, 2, d)[None]
    a[forget] = np.linalg.inv(queries) @ a[forget]
    for gate in (u, w):
        gate[:, memory] = gate[:, memory] @ back
        gate[:, forget] = gate[:, forget] @ queries
    return rebuilt([a, b, u, w, readout, decay])


def noisy(rnn: GatedRNN, size: float, seed: int) -> GatedRNN:
    """Every weight moved by Gaussian noise of `size` times its matrix's root mean square; decays as they are."""
    rng = np.random.default_rng(seed)
    *weights, decay = arrays(rnn)
    moved = [w + size * np.sqrt(np.mean(w**2)) * rng.standard_normal(w.shape) for w in weights]
    return rebuilt([*moved, decay])
