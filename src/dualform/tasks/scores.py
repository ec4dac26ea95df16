"""How outputs are judged against targets: means of what was counted, of which the loss is one."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from dualform.arrays import accumulator
from dualform.errors import InputError, require

NO_TARGET = -1
"""Stands among the targets where nothing is to be predicted: padding, a prompt, the end of a document."""


class Score(NamedTuple):
    """A mean by its parts, so that those of several batches are one: the sum of what was counted, and over how many.

    - total, over: arrays of no axes. Where nothing was counted the mean is 0.
    """

    total: Float[Array, ""]
    over: Float[Array, ""]

    @property
    def mean(self) -> Float[Array, ""]:
        """total / over."""
        return self.total / jnp.maximum(self.over, jnp.ones_like(self.over))


Scores: TypeAlias = Mapping[str, Score]
"""By name; "loss" is one of them, and the least is the best."""

Judge: TypeAlias = Callable[[Array, Array], Scores]
"""What gives the scores of outputs, given the targets, both with a leading axis of the batch."""


def of_tokens(logits: Float[Array, "batch time vocabulary"], targets: Int[Array, "batch time"]) -> Scores:
    """Of logits at the targets that are there: those below 0, such as `NO_TARGET`, are not asked for.

    **Returns:** loss: -log p(target), over targets, in nats; accuracy: whether the target has the largest logit, over targets;
    sequences: whether that is so of all targets of a sequence, over the sequences that have one.

    **Raises:** `InputError` where the shapes do not fit, or a target is beyond the vocabulary. Under jit the loss is NaN then.
    """
    require(
        logits.shape[:-1] == targets.shape,
        f"there are logits for tokens {logits.shape[:-1]} and targets {targets.shape}; each token needs a target, or "
        f"{NO_TARGET}.",
    )
    check_targets(targets, logits.shape[-1])
    logits = logits.astype(accumulator(logits.dtype))
    there = targets >= 0
    wanted = jnp.where(there, targets, jnp.zeros_like(targets))
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)[..., 0]
    right = jnp.argmax(logits, axis=-1).astype(targets.dtype) == targets
    asked = jnp.any(there, axis=-1)
    count = lambda flags: jnp.sum(flags).astype(chosen.dtype)
    return {
        "loss": Score(-jnp.sum(jnp.where(there, chosen, jnp.zeros_like(chosen))), count(there)),
        "accuracy": Score(count(right & there), count(there)),
        "sequences": Score(count(jnp.all(right | ~there, axis=-1) & asked), count(asked)),
    }


def of_labels(logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Scores:
    """Of one choice for each sequence.

    **Returns:** loss: -log p(label), in nats; accuracy: whether the label has the largest logit; both over sequences.

    **Raises:** `InputError` as of `of_tokens`.
    """
    found = of_tokens(logits[:, None], labels[:, None])
    return {name: found[name] for name in ("loss", "accuracy")}


def of_numbers(y: Float[Array, "batch *shape"], targets: Float[Array, "batch *shape"]) -> Scores:
    """Of numbers that are to be others.

    **Returns:** loss: the squared error; absolute: the error without its sign; both over all numbers.

    **Raises:** `InputError` where the shapes differ.
    """
    require(
        y.shape == targets.shape, f"the outputs have shape {y.shape} and the targets {targets.shape}; they must agree."
    )
    wide = accumulator(y.dtype, targets.dtype)
    error, count = y.astype(wide) - targets.astype(wide), jnp.asarray(y.size, wide)
    return {"loss": Score(jnp.sum(jnp.square(error)), count), "absolute": Score(jnp.sum(jnp.abs(error)), count)}


def of_notes(logits: Float[Array, "batch time notes"], played: Float[Array, "batch time notes"]) -> Scores:
    """Of many yes or no answers at once: -log p of what is played in a frame, summed over its notes.

    Frames whose targets are `NO_TARGET` are not asked for.

    **Returns:** loss: over all frames, in nats, each frame as much as any other; piece: the mean over a piece's frames, over
    the pieces, so that a short piece counts as much as a long one.

    **Raises:** `InputError` where the shapes differ.
    """
    require(
        logits.shape == played.shape,
        f"the outputs have shape {logits.shape} and the targets {played.shape}; they must agree.",
    )
    wide = accumulator(logits.dtype)
    there = (played[..., 0] >= 0).astype(wide)
    played = jnp.where(played >= 0, played, jnp.zeros_like(played)).astype(wide)
    # log(1 + e^z) - z for a note that is played, log(1 + e^z) for one that is not.
    frames = jnp.sum(jax.nn.softplus(logits.astype(wide)) - logits.astype(wide) * played, axis=-1) * there
    lengths = jnp.sum(there, axis=-1)
    of_piece = jnp.sum(frames, axis=-1) / jnp.maximum(lengths, jnp.ones_like(lengths))
    return {
        "loss": Score(jnp.sum(frames), jnp.sum(there)),
        "piece": Score(jnp.sum(of_piece), jnp.sum((lengths > 0).astype(wide))),
    }


def cross_entropy(model: Any, tokens: Int[Array, "batch time"], targets: Int[Array, "batch time"]) -> Float[Array, ""]:
    """-log p(target_t | tokens up to t), the mean over all targets that are there, in nats; a loss for `fit`.

    **Arguments:** tokens: each row one sequence, read from the initial state; targets: what follows each token, or
    `NO_TARGET` (any number below 0) where nothing is to be predicted. With none at all the loss is 0.

    **Raises:** `InputError` where the shapes differ, or a target is beyond the vocabulary. Under jit the loss is NaN then, and
    `fit` says why.
    """
    require(
        tokens.shape == targets.shape,
        f"tokens have shape {tokens.shape} and targets {targets.shape}; each token needs a target, or {NO_TARGET}.",
    )
    return of_tokens(jax.vmap(lambda row: model(row)[0])(tokens), targets)["loss"].mean


def check_targets(targets: Int[Array, "batch time"], vocabulary: int) -> None:
    """Raise `InputError` for a target beyond the vocabulary; seen only where the values are known, not under jit."""
    if isinstance(targets, Tracer):
        return
    values = np.asarray(targets)
    wrong = np.argwhere(values >= vocabulary)
    if len(wrong):
        row, place = (int(i) for i in wrong[0])
        raise InputError(
            f"target {place} of row {row} is {values[row, place]}; this vocabulary goes from 0 to {vocabulary - 1}. Is the "
            f"tokenizer another model's? Give {NO_TARGET} where nothing is to be predicted."
        )
