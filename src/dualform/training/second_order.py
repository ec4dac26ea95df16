"""Levenberg-Marquardt for gated RNNs: the last digits that first-order training leaves, in float64.

Once a student is near a teacher that it can represent, the loss is a sum of squares with zero residual, and
Gauss-Newton steps converge quadratically. Every decay is trained with the weights, as itself, within [0, 1]: one that is
at an end stays there for as long as the loss would fall beyond it, and leaves once it falls inward. Nothing else is done
to a decay, and weight decay does not act on it. Only what first-order training uses is used: inputs, and the teacher's
outputs on them, fresh at every iteration.

It runs in NumPy on the host: accelerators have no fast float64, and the sizes of a student change from stage to stage,
which would have to be compiled anew each time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float, Int

from dualform.counts import key_of, seed_of
from dualform.errors import DivergedError
from dualform.mixers import GatedRNN
from dualform.threads import one_blas_thread


@dataclass(frozen=True)
class SecondOrder:
    """How to polish.

    - iterations: at most this many.
    - tolerance: stop once the relative loss on fresh data is below it.
    - residuals: random rows of the Jacobian used for each parameter, at every iteration.
    - ridge: weight decay as a share of the relative loss, so that it vanishes with the loss.
    - damping: the first Levenberg-Marquardt damping, in units of the curvature; nine tenths of it in units of each
      parameter's own (Marquardt's form, which the teacher's weak directions need), one tenth of their mean.
    - patience: stop after this many iterations in which the loss did not fall by 30%.
    - train_decays: False leaves every decay as it is.
    """

    iterations: int = 60
    tolerance: float = 1e-13
    residuals: float = 1.5
    ridge: float = 1e-4
    damping: float = 1e-3
    patience: int = 20
    train_decays: bool = True


class Polished(NamedTuple):
    """The network in float64 with given decays, its relative loss on fresh data before the last step, and the count."""

    rnn: GatedRNN
    relative_loss: float
    iterations: int


class Weights(NamedTuple):
    """A gated RNN in NumPy float64, decays as themselves."""

    decay: Float[np.ndarray, " n"]
    w_m_in: Float[np.ndarray, "n columns"]
    w_x_in: Float[np.ndarray, "n columns"]
    w_m_out: Float[np.ndarray, "m n"]
    w_x_out: Float[np.ndarray, "m n"]
    readout: Float[np.ndarray, "d_out m"]


def weights_of(rnn: GatedRNN) -> Weights:
    """The network's arrays in float64; a decay is computed from nu in float64 too."""
    f = lambda a: np.asarray(a, np.float64)
    decay = f(rnn.given_decay) if rnn.nu is None else np.exp(-np.exp(f(rnn.nu)))
    return Weights(decay, f(rnn.w_m_in), f(rnn.w_x_in), f(rnn.w_m_out), f(rnn.w_x_out), f(rnn.readout))


def network(weights: Weights) -> GatedRNN:
    """The gated RNN of these weights, in float64 arrays whatever JAX's default is."""
    with jax.enable_x64(True):
        return GatedRNN(**weights._asdict())


@one_blas_thread
def levenberg_marquardt(
    rnn: GatedRNN,
    sample: Callable[[Array], tuple[Any, Any]],
    power: float,
    config: SecondOrder,
    *,
    seed: int,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Polished:
    """Fit a gated RNN to the teacher's outputs by Levenberg-Marquardt.

    **Arguments:**

    - sample: key -> (x (batch, time, d), y (batch, time, d_out)), float64; called with a new key at every iteration.
    - power: the target's mean square, which losses are divided by.
    - seed: of the data and of the rows picked from it.
    - on_iteration: called with the iteration and its relative loss.

    **Returns:** the network with the least relative loss that was reached; its `decay` is given, not `nu`.

    **Raises:** `DivergedError` where the first loss is not finite.

    **Source:** Levenberg 1944, Marquardt 1963; the gradients of Eq. 2 of Zucchet et al. 2023 are written out below.
    """
    keys = jax.random.split(key_of(seed), config.iterations)
    rng = np.random.default_rng(seed_of(seed))
    weights, damping = weights_of(rnn), config.damping
    best, best_loss, stale, iteration = weights, np.inf, 0, 0
    for iteration in range(config.iterations):
        weights = balance(weights)
        free = np.arange(len(weights.decay)) if config.train_decays else np.zeros(0, int)
        x, y = _draw(sample, keys[iteration])
        outputs = y.shape[-1]
        y = y.reshape(-1, outputs)
        count = free.size + sum(a.size for a in weights[1:])
        rows = min(len(y), int(config.residuals * count / outputs) + 64)
        picked = np.sort(rng.choice(len(y), rows, replace=False))
        y, scale = y[picked], 1 / np.sqrt(rows * outputs * power)
        found, jacobian = _jacobian(weights, x, free, picked)
        residual = (found - y).ravel() * scale
        loss = float(residual @ residual)
        if iteration == 0 and not np.isfinite(loss):
            raise DivergedError("the student's outputs are not finite; polish a student that has been trained.")
        if on_iteration is not None:
            on_iteration(iteration, loss)
        stale = stale + 1 if loss > 0.7 * best_loss else 0
        if loss < best_loss:
            best, best_loss = weights, loss
        if loss < config.tolerance or not np.isfinite(loss) or stale >= config.patience:
            break
        jacobian = jacobian.reshape(residual.size, -1) * scale
        held = _held_at_an_end(weights.decay[free], residual @ jacobian[:, : free.size])
        free, jacobian = free[~held], np.delete(jacobian, np.flatnonzero(held), axis=1)
        data = _Rows(x, y, picked, float(scale))
        stepped = _damped_step(weights, free, jacobian, residual, data, config.ridge, damping)
        if stepped is None:
            break
        weights, damping = stepped
    return Polished(network(best), best_loss, iteration)


def _held_at_an_end(decay: Float[np.ndarray, " free"], slope: Float[np.ndarray, " free"]) -> Bool[np.ndarray, " free"]:
    """Which decays lie at 0 or 1 while the loss falls beyond."""
    return ((decay <= 0) & (slope >= 0)) | ((decay >= 1) & (slope <= 0))


def _draw(sample, key) -> tuple[Float[np.ndarray, "time batch d"], Float[np.ndarray, "time batch d_out"]]:
    """Fresh data, time first."""
    with jax.enable_x64(True):
        x, y = (np.asarray(a, np.float64).swapaxes(0, 1) for a in sample(key))
        return x, y


class _Rows(NamedTuple):
    """The rows of the data that one iteration looks at."""

    x: Float[np.ndarray, "time batch d"]
    y: Float[np.ndarray, "rows d_out"]
    picked: Int[np.ndarray, " rows"]
    scale: float

    def residual(self, weights: Weights) -> Float[np.ndarray, " residuals"]:
        """Output less target, scaled so that its square sums to the relative loss."""
        found = forward(weights, self.x).reshape(-1, self.y.shape[1])[self.picked]
        return (found - self.y).ravel() * self.scale


def _damped_step(weights, free, jacobian, residual, rows: _Rows, ridge, damping):
    """The first damped Gauss-Newton step that lowers the loss, and the next damping; None where none does."""
    loss, parameters = residual @ residual, _packed(weights, free)
    curvature, slope = jacobian.T @ jacobian, jacobian.T @ residual
    shrunk = np.where(np.arange(parameters.size) < free.size, 0.0, parameters)  # weights are, decays are not
    shrink = ridge * loss / max(float(shrunk @ shrunk), 1e-200)
    own = np.diag(curvature)
    scale = (0.9 * own + (0.1 + 1e-9) * own.mean()) if own.any() else np.ones_like(own)
    before = loss + shrink * (shrunk @ shrunk)
    for _ in range(8):
        damped = curvature.copy()
        damped.flat[:: parameters.size + 1] += damping * scale
        damped.flat[free.size * (parameters.size + 1) :: parameters.size + 1] += shrink
        try:
            factor = scipy.linalg.cho_factor(damped, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            damping *= 10
            continue
        step = scipy.linalg.cho_solve(factor, slope + shrink * shrunk, check_finite=False)
        new = _unpacked(parameters - step, weights, free)
        after, packed = rows.residual(new), _packed(new, free)[free.size :]
        gain = before - after @ after - shrink * (packed @ packed)
        if gain > 0:
            return new, max(damping * (0.2 if gain > 0.5 * loss else 0.5), 1e-14)
        damping *= 5
    return None


def forward(weights: Weights, x: Float[np.ndarray, "time batch d"]) -> Float[np.ndarray, "time batch d_out"]:
    """The network's outputs, time first."""
    h = hidden_states(weights, x)
    return ((h @ weights.w_m_out.T) * (h @ weights.w_x_out.T)) @ weights.readout.T


def hidden_states(weights: Weights, x: Float[np.ndarray, "time batch d"]) -> Float[np.ndarray, "time batch n"]:
    """Every h_t, time first."""
    z = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    return _decay_sums(weights.decay, (z @ weights.w_m_in.T) * (z @ weights.w_x_in.T))[0]


def _decay_sums(decay, drive, slope: bool = False):
    """h_t = decay h_{t-1} + drive_t over the first axis; with `slope` also dh_t / ddecay."""
    h, dh = np.empty_like(drive), np.empty_like(drive) if slope else None
    h[0] = drive[0]
    if dh is not None:
        dh[0] = 0
    for t in range(1, len(drive)):
        np.multiply(h[t - 1], decay, out=h[t])
        h[t] += drive[t]
        if dh is not None:
            np.multiply(dh[t - 1], decay, out=dh[t])
            dh[t] += h[t - 1]
    return h, dh


def _jacobian(
    weights: Weights,
    x: Float[np.ndarray, "time batch d"],
    free: Int[np.ndarray, " free"],
    picked: Int[np.ndarray, " rows"],
) -> tuple[Float[np.ndarray, "rows d_out"], Float[np.ndarray, "rows d_out parameters"]]:
    """Outputs at the picked (time, batch) positions, and their derivatives by decay[free] and then every weight."""
    z = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    a, b = z @ weights.w_m_in.T, z @ weights.w_x_in.T
    rows, (n, columns), (outputs, m) = len(picked), weights.w_m_in.shape, weights.readout.shape
    at = lambda values: values.reshape(-1, *values.shape[2:])[picked]
    h, dh = _decay_sums(weights.decay, a * b, slope=bool(free.size))
    h = at(h)
    by_m_in, by_x_in = (
        at(_decay_sums(weights.decay[:, None], other[..., None] * z[:, :, None])[0]) for other in (b, a)
    )
    u, w = h @ weights.w_m_out.T, h @ weights.w_x_out.T
    sizes = (free.size, n * columns, n * columns, m * n, m * n)
    first, second, third, fourth, last = np.cumsum(sizes)
    jacobian = np.zeros((rows, outputs, last + outputs * m))
    for i in range(outputs):
        u_i, w_i = u * weights.readout[i], w * weights.readout[i]
        by_h = w_i @ weights.w_m_out + u_i @ weights.w_x_out
        if dh is not None:
            jacobian[:, i, :first] = (by_h * at(dh))[:, free]
        jacobian[:, i, first:second] = (by_h[:, :, None] * by_m_in).reshape(rows, -1)
        jacobian[:, i, second:third] = (by_h[:, :, None] * by_x_in).reshape(rows, -1)
        jacobian[:, i, third:fourth] = (w_i[:, :, None] * h[:, None]).reshape(rows, -1)
        jacobian[:, i, fourth:last] = (u_i[:, :, None] * h[:, None]).reshape(rows, -1)
        jacobian[:, i, last + i * m : last + (i + 1) * m] = u * w
    return (u * w) @ weights.readout.T, jacobian


def _packed(weights: Weights, free) -> Float[np.ndarray, " parameters"]:
    return np.concatenate([weights.decay[free], *(a.ravel() for a in weights[1:])])


def _unpacked(vector, like: Weights, free) -> Weights:
    decay = like.decay.copy()
    decay[free] = np.clip(vector[: free.size], 0, 1)
    arrays, place = [], free.size
    for a in like[1:]:
        arrays.append(vector[place : place + a.size].reshape(a.shape))
        place += a.size
    return Weights(decay, *arrays)


def balance(weights: Weights) -> Weights:
    """The same function with even scales: factors of a product, and a unit's input and readers, are alike in norm.

    Rescalings that leave the function as it is are directions in which the curvature is zero; keeping to the balanced
    point keeps the damping meaningful. A unit with a factor of zero is left alone:
    no scaling can balance it, and shrinking its other factors would kill it.
    """
    decay, a, b, u, w, readout = weights
    s = _share(_norm(b, 1), _norm(a, 1), 1 / 2)[:, None]
    a, b = a * s, b / s
    s = _share(_norm(w, 1), _norm(u, 1), 1 / 2)[:, None]
    u, w = u * s, w / s
    for _ in range(3):
        s = _share(_norm(readout, 0), _norm(u, 1), 1 / 3)
        u, w, readout = u * s[:, None], w * s[:, None], readout / s**2
        s = _share(np.hypot(_norm(u, 0), _norm(w, 0)) / 2**0.5, _norm(a, 1), 1 / 3)
        a, b, u, w = a * s[:, None], b * s[:, None], u / s**2, w / s**2
    return Weights(decay, a, b, u, w, readout)


def _norm(a: Float[np.ndarray, "rows columns"], axis: int) -> Float[np.ndarray, " units"]:
    return np.sqrt(np.sum(a * a, axis=axis))


def _share(
    top: Float[np.ndarray, " units"], bottom: Float[np.ndarray, " units"], power: float
) -> Float[np.ndarray, " units"]:
    """(top / bottom) ** power; 1 where either is zero."""
    both = (top > 1e-12) & (bottom > 1e-12)
    return np.where(both, top / np.where(both, bottom, 1.0), 1.0) ** power
