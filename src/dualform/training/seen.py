"""The model as the loss of one training step sees it: with noise and dropout, in another precision, run in another way."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from dualform.models.depth import with_depth
from dualform.models.dropout import with_dropout
from dualform.training.config import FitConfig

_NOISE, _DROPOUT = 2**31 - 1, 2**31 - 2  # apart from the numbers that a sampler folds into its key


def seen(
    weights: PyTree, rest: PyTree, config: FitConfig, key: Array, decayed: Callable[[PyTree], PyTree]
) -> tuple[Any, Callable[[PyTree], PyTree]]:
    """The model that a loss is called with, and how inputs are cast for it.

    **Arguments:** weights: what is trained; rest: all else of the model; key: of one batch of one step; decayed: as of `fit`.

    **Raises:** `InputError` where the model cannot be run as the config says.
    """
    model = eqx.combine(_noisy(weights, config, jr.fold_in(key, _NOISE)), rest)
    if config.precision == "bfloat16":
        return as_run(_narrow(model, decayed(model)), config, key), _narrow
    return as_run(model, config, key), lambda x: x


def as_run(model: Any, config: FitConfig, key: Array) -> Any:
    """The model with the config's dropout, its blocks run as it says.

    **Raises:** `InputError` where it has no places for dropout, or no blocks that can be run in another way.
    """
    if config.dropout:
        model = with_dropout(model, config.dropout, key=jr.fold_in(key, _DROPOUT))
    return with_depth(model, scanned=True, rematerialised=True) if config.rematerialised else model


def _noisy(weights: PyTree, config: FitConfig, key: Array) -> PyTree:
    """The weights, each with Gaussian noise of the config's deviation added."""
    if config.weight_noise == 0:
        return weights
    leaves, structure = jtu.tree_flatten(weights)
    draw = lambda leaf, key: leaf + config.weight_noise * jr.normal(key, leaf.shape, leaf.dtype)
    return structure.unflatten([draw(leaf, k) for leaf, k in zip(leaves, jr.split(key, len(leaves)), strict=True)])


def _narrow(tree: PyTree, flags: PyTree = True) -> PyTree:
    """Real arrays in bfloat16, where the flags say so."""
    cast = lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf
    chosen, rest = eqx.partition(tree, flags)
    return eqx.combine(jtu.tree_map(cast, chosen), rest)
