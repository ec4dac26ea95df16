"""How beliefs, and what is foretold, are judged against the exact filter."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.tasks.scores import Score, Scores

THRESHOLD = 0.05
"""The largest distance at which a length counts as fitted."""


def estimates(outputs: Float[Array, "*shape n"], probabilities: bool) -> Float[Array, "*shape n"]:
    """What a model says: its outputs, or where they are logits, their probabilities."""
    wide = outputs.astype(accumulator(outputs.dtype))
    return jax.nn.softmax(wide, axis=-1) if probabilities else wide


def distances(
    outputs: Float[Array, "*shape n"], exact: Float[Array, "*shape n"], probabilities: bool
) -> Float[Array, "*shape"]:
    """Euclidean distances of estimates from what is exact."""
    return jnp.linalg.norm(estimates(outputs, probabilities) - exact, axis=-1)


def judged(
    outputs: Float[Array, "batch time n"],
    target: Float[Array, "batch time n"],
    exact: Float[Array, "batch time n"],
    probabilities: bool,
) -> Scores:
    """Of a batch.

    **Arguments:** target: what training asks for: a belief, or the token that followed, one-hot or a vector; exact: what the
    best answer is, the belief or the exact distribution (or mean) of the next token.

    **Returns:** loss: KL divergence of the outputs from the target in nats (of a token that followed, its -log p), or for
    vectors the mean squared error of a number; distance: Euclidean, of the estimate from what is exact; variation: total
    variation, of probabilities alone; "distance at t": of the token t, from 1, where t is a power of two, and of the last;
    within: how many tokens from the beginning on come before the first whose distance is above `THRESHOLD`. All are means
    over sequences and tokens.

    **Raises:** `InputError` where the shapes differ.
    """
    require(
        outputs.shape == target.shape == exact.shape,
        f"the outputs have shape {outputs.shape} and the targets {target.shape}; they must agree.",
    )
    wide = accumulator(outputs.dtype, target.dtype)
    outputs, target, exact = (each.astype(wide) for each in (outputs, target, exact))
    apart = distances(outputs, exact, probabilities)
    mean = lambda each: Score(jnp.sum(each), jnp.asarray(each.size, wide))
    if probabilities:
        error = jnp.sum(xlogy(target, target) - target * jax.nn.log_softmax(outputs, axis=-1), axis=-1)
        variation = jnp.sum(jnp.abs(estimates(outputs, True) - exact), axis=-1) / 2
        found = {"loss": mean(error), "distance": mean(apart), "variation": mean(variation)}
    else:
        found = {"loss": mean(jnp.square(outputs - target)), "distance": mean(apart)}
    close = jnp.cumprod((apart <= THRESHOLD).astype(wide), axis=1)
    places = {f"distance at {t}": mean(apart[:, t - 1]) for t in marks(apart.shape[1])}
    return found | places | {"within": mean(jnp.sum(close, axis=1))}


def marks(time: int) -> tuple[int, ...]:
    """1, 2, 4, ... below a length, and the length."""
    return (*(2**i for i in range((time - 1).bit_length())), time)


def fit_length(distances: Sequence[float] | Float[np.ndarray, " time"], threshold: float = THRESHOLD) -> int:
    """How long a sequence is fitted: the tokens from the beginning on whose mean distance is at most the threshold.

    **Arguments:** distances: the mean over sequences at each token.

        >>> from dualform.tasks.hmm import fit_length
        >>> fit_length([0.01, 0.02, 0.2, 0.01])
        2
    """
    wrong = np.flatnonzero(~(np.asarray(distances) <= threshold))
    return int(wrong[0]) if len(wrong) else len(distances)
