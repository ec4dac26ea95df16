"""How weights are moved by their gradients: any optax transformation, and the one of `FitConfig`."""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
import jax.tree_util as jtu
import optax
from jaxtyping import PyTree

from dualform.training.config import FitConfig, learning_rate_at, weight_decay_at
from dualform.training.parameters import decayed, name_of


@functools.lru_cache(maxsize=64)
def adamw(config: FitConfig, decayed: Callable[[PyTree], PyTree] = decayed) -> optax.GradientTransformation:
    """AdamW after clipping, with both schedules of `config`; `nu`, where a module has one, at `decay_rate` times its rate.

    **Arguments:** decayed: model -> flags of what weight decay acts on.

    **Returns:** an optax chain; the same one for the same arguments, so that a loop that was compiled with it is found again.

    **Source:** Loshchilov and Hutter 2019 (arXiv 1711.05101), as optax has it: the decay is multiplied by the learning rate.
    """
    decay: optax.Schedule = lambda count: weight_decay_at(config, jnp.asarray(count))
    rate: optax.Schedule = lambda count: learning_rate_at(config, jnp.asarray(count))
    links = [
        optax.scale_by_adam(config.b1, config.b2, config.epsilon),
        optax.add_decayed_weights(decay, mask=decayed),
        optax.scale_by_learning_rate(rate),
    ]
    if math.isfinite(config.clip):
        links.insert(0, optax.clip_by_global_norm(config.clip))
    if config.decay_rate != 1:
        links.append(optax.masked(optax.scale(config.decay_rate), _of_decays))
    return optax.chain(*links)


def _of_decays(weights: PyTree) -> PyTree:
    return jtu.tree_map_with_path(lambda path, _: name_of(path) == "nu", weights)
