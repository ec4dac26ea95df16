"""Contrast-consistent search: a direction along which a statement and its negation say opposite things, found without labels."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dualform.errors import require
from dualform.lenses.probes.example_rows import check_finite

STEPS, RATE, TRIES = 1000, 1e-2, 10


class ContrastProbe(NamedTuple):
    """p(true) = sigmoid(w . x + b) of activations from which what all affirmed ones, or all denied ones, share is taken.

    - w: (d,).  b.  affirmed, denied: (d,), the means that are taken off.  size: what is divided by.
    - loss: of the search: (p(yes) + p(no) - 1)^2 + min(p(yes), p(no))^2, the mean over pairs.
    """

    w: Float[np.ndarray, " d"]
    b: float
    affirmed: Float[np.ndarray, " d"]
    denied: Float[np.ndarray, " d"]
    size: float
    loss: float

    def __call__(
        self, yes: Float[np.ndarray, "row d"], no: Float[np.ndarray, "row d"]
    ) -> Float[np.ndarray, "row label"]:
        """Scores of false and true for each pair: the log-odds of (p(yes) + 1 - p(no)) / 2 and its negative, halved."""
        p = 0.5 * (_sigmoid(self._logit(yes - self.affirmed)) + 1 - _sigmoid(self._logit(no - self.denied)))
        p = np.clip(p, 1e-12, 1 - 1e-12)
        odds = np.log(p) - np.log1p(-p)
        return np.stack([-odds, odds], 1) / 2

    def _logit(self, x: np.ndarray) -> np.ndarray:
        return x @ self.w / self.size + self.b

    def turned(self) -> "ContrastProbe":
        """With true and false exchanged: the search knows a direction, not which of its ends is true."""
        return self._replace(w=-self.w, b=-self.b)


def fit_ccs(
    yes: Float[Array | np.ndarray, "row d"],
    no: Float[Array | np.ndarray, "row d"],
    labels: Int[Array | np.ndarray, " row"] | None = None,
    *,
    seed: int = 0,
) -> ContrastProbe:
    """The direction of least loss of several searches, each from a random one.

    **Arguments:** yes, no: activations of each statement affirmed and denied. labels: 1 where the affirmed one is true; they say
    which end of the direction is true, and nothing else; chance says it where they are not given.

    **Raises:** `InputError` where the shapes differ, or an activation is no number.

    **Source:** Burns et al. 2022 (arXiv 2212.03827), Sec. 2.2: 10 searches of 1,000 steps at a rate of 0.01, by AdamW. There the
    end is chosen by what is tested; here by what was fitted.
    """
    yes, no = np.asarray(yes, np.float64), np.asarray(no, np.float64)
    require(yes.shape == no.shape and yes.ndim == 2, f"yes has shape {yes.shape} and no {no.shape}; both (row, d).")
    check_finite(yes)
    check_finite(no)
    means = yes.mean(0), no.mean(0)
    a, b = yes - means[0], no - means[1]
    size = float(np.sqrt(np.mean(np.square([a, b])))) or 1.0
    found, losses = _search(jnp.asarray(a / size), jnp.asarray(b / size), jr.key(seed))
    best = int(np.argmin(losses))
    w, bias = np.asarray(found[0][best], np.float64), float(found[1][best])
    probe = ContrastProbe(w, bias, *means, size, float(losses[best]))
    if labels is None:
        return probe
    right = np.mean(probe(yes, no).argmax(1) == np.asarray(labels))
    return probe if right >= 0.5 else probe.turned()


@eqx.filter_jit
def _search(yes: Float[Array, "row d"], no: Float[Array, "row d"], key: Array):
    """Every search's weights and loss, from random directions of length 1."""
    d, dtype = yes.shape[1], yes.dtype
    optimiser = optax.adamw(RATE, weight_decay=0.01)

    def loss(weights):
        p, q = (jax.nn.sigmoid(x @ weights[0] + weights[1]) for x in (yes, no))
        return jnp.mean(jnp.square(p + q - 1) + jnp.square(jnp.minimum(p, q)))

    def one(key):
        w = jr.normal(key, (d,), dtype)
        weights = (w / jnp.linalg.norm(w), jnp.zeros((), dtype))

        def step(carried, _):
            weights, state = carried
            gradient = jax.grad(loss)(weights)
            with jax.numpy_dtype_promotion("standard"):  # optax raises its decays to the power of a whole number
                moves, state = optimiser.update(gradient, state, weights)
            return (optax.apply_updates(weights, moves), state), None

        (weights, _), _ = jax.lax.scan(step, (weights, optimiser.init(weights)), None, length=STEPS)
        return weights, loss(weights)

    return jax.lax.map(one, jr.split(key, TRIES))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
