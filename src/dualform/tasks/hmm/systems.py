"""Linear dynamical systems with Gaussian noise, whose exact filter is Kalman's."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.errors import require
from dualform.tasks.hmm.affine import carried
from dualform.tasks.hmm.filtering import Form
from dualform.tasks.hmm.source import Drawn, Source


class Kalman(NamedTuple):
    """The filter as a recurrence, b_t = turn_t b_{t-1} + gain_t y_t, with the covariance of what is not known.

    - turn (time, n, n); gain (time, n, d); covariance (time, n, n): none of them depends on what is observed.
    """

    turn: Float[Array, "time n n"]
    gain: Float[Array, "time n d"]
    covariance: Float[Array, "time n n"]


class LinearSystem(Source):
    """s_t = A s_{t-1} + q noise,  y_t = C s_t + r noise, from a normal s_0 of mean 0; a token is y_t.

    The belief is the mean of s_t given y_1, ..., y_t.

    **Arguments:** transition A (n, n); readout C (d, n); covariance (n, n): of s_0; q, r: standard deviations.

    **Raises:** `InputError` where shapes do not fit, or a standard deviation is not above 0.
    """

    transition: Float[Array, "n n"]
    readout: Float[Array, "d n"]
    covariance: Float[Array, "n n"]
    q: float = 0.5
    r: float = 0.5
    probabilities = False

    def __check_init__(self):
        n = len(self.transition)
        require(
            self.transition.shape == self.covariance.shape == (n, n) and self.readout.shape[1:] == (n,),
            f"transition has shape {self.transition.shape}, readout {self.readout.shape} and covariance "
            f"{self.covariance.shape}; they must be (n, n), (d, n) and (n, n).",
        )
        for name in ("q", "r"):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}; the standard deviation of a noise is above 0.")

    @property
    def d_in(self) -> int:
        """d."""
        return len(self.readout)

    @property
    def states(self) -> int:
        """n."""
        return len(self.transition)

    @property
    def informative(self) -> bool:
        """True."""
        return True

    def kalman(self, time: int) -> Kalman:
        """The filter's matrices, token by token."""
        a, c, one = self.transition, self.readout, jnp.eye(self.states, dtype=self.transition.dtype)

        def step(p: Array, _: None) -> tuple[Array, Kalman]:
            p = a @ p @ a.T + self.q**2 * one
            noisy = c @ p @ c.T + self.r**2 * jnp.eye(self.d_in, dtype=p.dtype)
            gain = jnp.linalg.solve(noisy, c @ p).T
            p = (one - gain @ c) @ p
            p = (p + p.T) / 2
            return p, Kalman((one - gain @ c) @ a, gain, p)

        return jax.lax.scan(step, self.covariance, None, length=time)[1]

    def beliefs(self, tokens: Float[Array, "time d_in"], *, form: Form = "naive") -> Float[Array, "time n"]:
        """The mean of s_t given all up to y_t."""
        filter_ = self.kalman(len(tokens))
        drive = jnp.einsum("tnd,td->tn", filter_.gain, tokens)
        return carried(filter_.turn, drive, jnp.zeros_like(drive[0]), form=form)

    def drawn(self, key: Array, time: int) -> Drawn:
        """A sequence, its beliefs, and the mean of each next token."""
        first, moved, seen = jr.split(key, 3)
        n, dtype = self.states, self.transition.dtype
        begin = jnp.linalg.cholesky(self.covariance) @ jr.normal(first, (n,), dtype)
        drive = self.q * jr.normal(moved, (time + 1, n), dtype)
        states = carried(jnp.broadcast_to(self.transition, (time + 1, n, n)), drive, begin)
        tokens = states @ self.readout.T + self.r * jr.normal(seen, (time + 1, self.d_in), dtype)
        beliefs = self.beliefs(tokens[:-1])
        return Drawn(tokens[:-1], beliefs, tokens[1:], beliefs @ (self.readout @ self.transition).T)


def linear_system(states: int, observations: int, seed: int, dtype: Any) -> LinearSystem:
    """A turned and shrunk by 0.95, C of variance 1 / n; s_0 is as uncertain as the filter leaves a state in the long run.

    So the filter's matrices are the same at every token.

    **Source:** ours, after what is said in public of the random LDS of Hu et al. 2024 (arXiv 2406.04089).
    """
    random = np.random.default_rng(seed)
    q, r = np.linalg.qr(random.normal(size=(states, states)))
    a = 0.95 * q * np.sign(np.diag(r))
    c = random.normal(size=(observations, states)) / states**0.5
    p = np.eye(states)
    for _ in range(1000):
        p = a @ p @ a.T + 0.25 * np.eye(states)
        gain = np.linalg.solve(c @ p @ c.T + 0.25 * np.eye(observations), c @ p).T
        p = (np.eye(states) - gain @ c) @ p
    put = lambda array: jnp.asarray(array, dtype)
    return LinearSystem(put(a), put(c), put((p + p.T) / 2))
