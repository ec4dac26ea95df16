"""Associative recall by mixers whose states are of chosen sizes: the recipes that papers of larger states are held to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from dualform.experiments.mqar import recall
from dualform.experiments.trained import Trained
from dualform.training.recipe import Recipe

RATES = (3e-3, 1e-2, 3e-2)
"""Where the search of a learning rate begins: about the best of these mixers in `recall`."""

PARAMETERS = 0.02
"""By how much of the larger two models may differ in parameters and have as many."""

CUT = (
    f"{recall.TIME} tokens, {recall.PAIRS} pairs, a vocabulary of {recall.SIZE}, a convolution over four tokens before the "
    "mixer, no MLP."
)
"""What is trained on, in words; canonical sizes are said on the page of `mqar`."""


def recipe(mixer: str, options: Mapping[str, Any], width: int, steps: int) -> Recipe:
    """That of `recall.recipe`, of a mixer with these options."""
    told = recall.recipe(mixer, width, steps)
    return replace(told, model=replace(told.model, options={**told.model.options, **options}))


def kept(told: Recipe) -> int:
    """How many numbers the mixer of a recipe remembers."""
    state = eqx.filter_eval_shape(lambda key: told.model.blocks(key)[-1].mixer.init_state(), jr.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def apart(first: Trained, second: Trained) -> float:
    """By how much two models differ in parameters, a share of the larger one's."""
    a, b = (each.results[0]["parameters"] for each in (first, second))
    return abs(a - b) / max(a, b)
