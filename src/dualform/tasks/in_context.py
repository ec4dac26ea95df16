"""In-context linear regression: a sequence is a task of its own, and only its last token's output counts.

One step of gradient descent from W = 0 on the T pairs predicts eta sum_s y_s (x_s . x_query): a linear attention layer, and
so a gated RNN. Its best learning rate and loss are known in closed form, beside which trained networks are held.

**Source:** Sec. 4 and App. C of Zucchet et al. 2023 (arXiv 2309.01775); von Oswald et al. 2023 for the layer.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import accumulator, append_one, promote
from dualform.counts import seed_of
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention

KURTOSIS = 9 / 5
"""The fourth moment of a uniform variable of variance 1."""


class InContextRegression(eqx.Module):
    """Sequences of `pairs` tokens (x_s, y_s), y_s = W* x_s + noise, then the query (x, 0); the target is W* x, without noise.

    W* is drawn anew for each sequence, N(0, weight_variance) in each entry; the entries of x are uniform in
    (-sqrt 3, sqrt 3), of variance 1.

    **Arguments:**

    - pairs: T.  d_x, d_y: widths of x and y.  batch: sequences of a sample.
    - noise: standard deviation of what is added to each y_s.
    - weight_variance: 1 / d_x if not given, the only choice that gives the paper's loss of 0.0947.
    - antithetic: the second half of a sample repeats the first with -y for y. Each sequence alone is distributed as before,
      and gradients of terms that do not depend on y lose their noise, which the two halves have with opposite signs.

    **Raises:** `InputError` where a size is below 1, noise or variance is negative, or an antithetic batch is odd.

    **Source:** App. C.1 of Zucchet et al. 2023: T = 12, d_x = d_y = 3. The noise is ours.
    """

    pairs: int = eqx.field(static=True, default=12)
    d_x: int = eqx.field(static=True, default=3)
    d_y: int = eqx.field(static=True, default=3)
    noise: float = eqx.field(static=True, default=0.0)
    batch: int = eqx.field(static=True, default=64)
    weight_variance: float | None = eqx.field(static=True, default=None)
    antithetic: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        for name in ("pairs", "d_x", "d_y", "batch"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        require(self.noise >= 0, f"noise is {self.noise}; a standard deviation cannot be negative.")
        require(
            not self.antithetic or self.batch % 2 == 0,
            f"batch is {self.batch}; antithetic sequences come in pairs, so it must be even.",
        )
        require(self.variance > 0, f"weight_variance is {self.weight_variance}; it must be above 0.")

    @property
    def variance(self) -> float:
        """Of each entry of W*."""
        return 1 / self.d_x if self.weight_variance is None else self.weight_variance

    @property
    def d(self) -> int:
        """Width of a token, d_x + d_y."""
        return self.d_x + self.d_y

    @property
    def target_power(self) -> float:
        """The mean square of a target: what a loss is divided by, and twice the loss of predicting 0."""
        return self.d_x * self.variance

    def sample(self, key: Array) -> tuple[Float[Array, "batch time d"], Float[Array, "batch d_y"]]:
        """Tokens, `pairs` + 1 of them, and what is asked: pure, and made to be compiled into the training loop."""
        # Drawn with the batch as the last axis, along which a processor works on many numbers at once: four times as fast.
        for_x, for_w, for_noise = jr.split(key, 3)
        time, batch = self.pairs + 1, self.batch // 2 if self.antithetic else self.batch
        x = jr.uniform(for_x, (time * self.d_x, batch), minval=-(3**0.5), maxval=3**0.5).reshape(time, self.d_x, batch)
        w = jr.normal(for_w, (self.d_y * self.d_x, batch)).reshape(self.d_y, self.d_x, batch) * self.variance**0.5
        y = jnp.sum(w[None] * x[:, None], axis=2)
        target, pairs = y[-1], y[:-1]
        if self.noise:
            drawn = jr.normal(for_noise, (self.pairs * self.d_y, batch)).reshape(pairs.shape)
            pairs = pairs + self.noise * drawn
        if self.antithetic:
            x, pairs, target = (jnp.concatenate(both, axis=-1) for both in ((x, x), (pairs, -pairs), (target, -target)))
        last = lambda a: jnp.moveaxis(a, -1, 0)
        return tokens(last(x), last(pairs)), last(target)

    def validation(self, batch: int | None = None) -> "InContextRegression":
        """The same with twice the variance of W*: tasks from another distribution than those trained on (App. C.1)."""
        return InContextRegression(
            self.pairs, self.d_x, self.d_y, self.noise, self.batch if batch is None else batch, 2 * self.variance
        )

    def optimal_rate(self) -> float:
        """eta* = 1 / (T + d_x - 1/5 + noise^2 / weight_variance), the best learning rate of one step from W = 0.

        With X (d_x, T), E tr (X X^T)^2 = d_x T (T + d_x - 1/5), and the noise adds eta^2 noise^2 d_x T to an error that is
        weight_variance E ||I - eta X X^T||^2.

        **Source:** App. C.2 of Zucchet et al. 2023; the noise is ours.
        """
        return 1 / (self.pairs + self.d_x + KURTOSIS - 2 + self.noise**2 / self.variance)

    def one_step_loss(self, eta: float | None = None) -> float:
        """The exact expected loss of one step at rate `eta`, the best one if not given; 0.09459 for the paper's task."""
        eta, t = self.optimal_rate() if eta is None else eta, self.pairs
        squared = self.variance * (t + self.d_x + KURTOSIS - 2) + self.noise**2
        return 0.5 * self.d_x * (self.variance * (1 - 2 * eta * t) + eta**2 * t * squared)


def tokens(x: Float[Array, "batch time d_x"], y: Float[Array, "batch pairs d_y"]) -> Float[Array, "batch time d"]:
    """(x_s, y_s) for each pair, then (x, 0): x has one token more than y."""
    return jnp.concatenate([x, jnp.pad(y, ((0, 0), (0, 1), (0, 0)))], axis=-1)


def gradient_descent(
    x: Float[Array, "batch time d"], eta: float | Float[Array, ""], *, d_x: int, steps: int = 1
) -> Float[Array, "batch d_y"]:
    """What W predicts for the query after `steps` steps W <- W + eta sum_s (y_s - W x_s) x_s^T from W = 0.

    **Arguments:** x: tokens as `InContextRegression.sample` gives them, the query last.  d_x: how many of a token's entries
    are x.

    **Raises:** `InputError` where d_x leaves no y, or there is no pair or no step.
    """
    require(0 < d_x < x.shape[-1], f"d_x is {d_x}, and tokens have width {x.shape[-1]}; some of it must be x, some y.")
    require(x.shape[1] >= 2, f"x has {x.shape[1]} tokens; there must be a pair and the query at the least.")
    require(steps >= 1, f"steps is {steps}; it must be at least 1.")
    seen, y, query = x[:, :-1, :d_x], x[:, :-1, d_x:], x[:, -1, :d_x]
    outer = jnp.einsum("bti,btj->bij", y, seen)
    inner = jnp.einsum("bti,btj->bij", seen, seen)
    w = eta * outer
    for _ in range(steps - 1):
        w = w + eta * (outer - w @ inner)
    return jnp.einsum("bij,bj->bi", w, query)


def steps_loss(
    task: InContextRegression, steps: int, etas: Float[np.ndarray, " rates"], *, seed: int = 0, samples: int = 200_000
) -> Float[np.ndarray, " rates"]:
    """The expected loss of `steps` steps at each rate: exact in W* and noise, the mean over `samples` draws of the x's.

    With S = X X^T of eigenvalues s, the error is weight_variance sum (1 - eta s)^2k, and noise^2 sum (1 - (1 - eta s)^k)^2 / s
    from the noise.

    **Raises:** `InputError` where steps or samples is below 1, or the seed is none.
    """
    require(steps >= 1 and samples >= 1, f"steps is {steps} and samples {samples}; both must be at least 1.")
    rng = np.random.default_rng(seed_of(seed))
    x = rng.uniform(-(3**0.5), 3**0.5, (samples, task.d_x, task.pairs))
    s = np.maximum(np.linalg.eigvalsh(x @ x.swapaxes(1, 2)), 0)
    losses = np.empty(len(etas))
    for i, eta in enumerate(etas):
        left = (1 - eta * s) ** steps
        noise = np.where(s > 1e-12, (1 - left) ** 2 / np.maximum(s, 1e-12), 0.0)
        losses[i] = 0.5 * np.mean(np.sum(task.variance * left**2 + task.noise**2 * noise, axis=1))
    return losses


def gd_attention(eta: float, d_x: int = 3, d_y: int = 3) -> LinearAttention:
    """The linear attention layer whose last output is one step of gradient descent: v = eta y, k = q = x.

    Equal to `gradient_descent(..., steps=1)` on tokens whose query has y = 0. As weights of a gated RNN it needs d_x d_y
    units at 1, d_x at 0 and d_x d_y pre-readout units: `construct.gated_rnn(gd_attention(eta), "low_rank")`.

    **Raises:** `InputError` where a width is below 1.
    """
    require(d_x >= 1 and d_y >= 1, f"d_x is {d_x} and d_y {d_y}; both must be at least 1.")
    both = np.eye(d_x + d_y)
    return LinearAttention(jnp.asarray(eta * both[d_x:]), jnp.asarray(both[:d_x]), jnp.asarray(both[:d_x]))


def last_output(model: Any, x: Float[Array, "batch time d"]) -> Float[Array, "batch d_out"]:
    """What `model` says after the last token of each sequence.

    Equivalent to `jax.vmap(lambda x: model(x)[0][-1])(x)`, to rounding. Of a gated RNN only the last state is made:
    h = sum_s lam^(T-s) g_in(x_s) is linear in the monomials of degree 2 of all tokens, so it is one product of two matrices.
    """
    # A subclass may have another forward pass: the written form is for this class alone.
    if type(model) is GatedRNN and x.ndim == 3 and x.shape[-1] == model.d_in and 0 not in x.shape:
        return _last_of_gated_rnn(model, x)
    return jax.vmap(lambda x: model(x)[0][-1])(x)


def _last_of_gated_rnn(rnn: GatedRNN, x: Float[Array, "batch time d"]) -> Float[Array, "batch d_out"]:
    """Batch as the last axis: the products of a token's entries are then rows, made many sequences at a time."""
    batch, time, _ = x.shape
    z = append_one(x).transpose(1, 2, 0)
    a, b, lam = rnn.w_m_in, rnn.w_x_in, rnn.decay
    columns = range(z.shape[1])
    monomials = jnp.concatenate([z[:, i : i + 1] * z[:, i:] for i in columns], axis=1)
    above = lambda a, b, i: jnp.pad(a[:, i + 1 :] * b[:, i : i + 1], ((0, 0), (1, 0)))
    form = jnp.concatenate([a[:, i : i + 1] * b[:, i:] + above(a, b, i) for i in columns], axis=1)
    power = [jnp.ones_like(lam)]
    for _ in range(time - 1):
        power.append(power[-1] * lam)
    kept = jnp.stack(power[::-1], axis=1)  # (n, time)
    wide = promote(accumulator(x.dtype), kept.dtype, form.dtype)
    weights = kept.astype(wide)[:, :, None] * form.astype(wide)[:, None]
    h = weights.reshape(len(a), -1) @ monomials.astype(wide).reshape(-1, batch)
    gates = (rnn.w_m_out.astype(wide) @ h) * (rnn.w_x_out.astype(wide) @ h)
    return (rnn.readout.astype(wide) @ gates).T.astype(x.dtype)


def last_output_loss(model: Any, x: Float[Array, "batch time d"], y: Float[Array, "batch d_y"]) -> Float[Array, ""]:
    """Half the squared error of the last output, the mean over outputs and sequences; `training.fit(loss=...)` takes it."""
    return 0.5 * jnp.mean(jnp.square(last_output(model, x) - y))
