"""The loss of language models."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from dualform.errors import InputError, require
from dualform.models import LanguageModel

NO_TARGET = -1
"""Stands among the targets where nothing is to be predicted: padding, a prompt, the end of a document."""


def cross_entropy(
    model: LanguageModel, tokens: Int[Array, "batch time"], targets: Int[Array, "batch time"]
) -> Float[Array, ""]:
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
    logits = jax.vmap(lambda row: model(row)[0])(tokens)
    _check_targets(targets, logits.shape[-1])
    there = targets >= 0
    wanted = jnp.where(there, targets, jnp.zeros_like(targets))
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)[..., 0]
    count = jnp.maximum(jnp.sum(there), 1).astype(chosen.dtype)
    return -jnp.sum(jnp.where(there, chosen, jnp.zeros_like(chosen))) / count


def _check_targets(targets: Int[Array, "batch time"], vocabulary: int) -> None:
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
