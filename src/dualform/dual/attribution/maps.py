"""Methods made of layers' maps: their mean, attention rollout, and the product with the gradient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.dual.attribution.target import Question
from dualform.dual.layer import LayerForm
from dualform.dual.model_forms import carries, model_form
from dualform.models.walk import core_place


def raw(q: Question) -> Float[np.ndarray, " source"]:
    """Row t of the mean over layers and heads of the maps' magnitudes, each row brought to a sum of 1."""
    return np.mean([normalised(layer) for layer in _layers(q)], axis=0)[int(q.t)]


def rollout(q: Question) -> Float[np.ndarray, " source"]:
    """Row t of the product over layers of (I + A) / 2, A the mean over heads of the normalised magnitudes.

    **Source:** Abnar & Zuidema 2020 (arXiv 2005.00928).
    """
    joint = np.eye(len(q.x))
    for layer in _layers(q):
        joint = (joint + normalised(layer) @ joint) / 2
    return joint[int(q.t)]


def gradient_weighted(q: Question) -> Float[np.ndarray, " source"]:
    """Row t of the product over layers of I + (gradient * map)^+.

    The gradient of the target by an entry of a map, times the entry, summed over channels and heads, is g_t . contributions[t,
    s], g the gradient by the mixer's output: no map for each channel is needed.

    **Source:** Zimerman, Ali & Wolf 2024 (arXiv 2405.16504), after Chefer et al. 2021 (arXiv 2103.15679), which take the mean
    over heads where this is the sum.
    """
    joint, gradients = np.eye(len(q.x)), _gradients(q)
    for layer in _layers(q):
        inner, g = layer.inner, gradients[layer.name]
        joint = joint + np.maximum(inner.project(g[None])[0], 0) @ joint
    return joint[int(q.t)]


def normalised(layer: LayerForm) -> Float[np.ndarray, "time source"]:
    """The mean over heads of the magnitudes of a layer's maps, each row brought to a sum of 1."""
    size = np.abs(layer.weights)
    total = size.sum(axis=2, keepdims=True)
    return (size / np.where(total == 0, 1, total)).mean(axis=0)


def _layers(q: Question) -> tuple[LayerForm, ...]:
    return model_form(q.model, q.x, q.state, start=q.start, mask=q.mask).layers


@eqx.filter_jit
def _gradients(q: Question) -> dict[str, Array]:
    """The gradient of the target by what every layer's mixer gives."""
    layers = {core_place(stage, name, "out"): name for name, stage in q.model.stages() if carries(stage)}
    sizes: dict[str, Any] = {}

    def measure(place, value):
        if place in layers:
            sizes[layers[place]] = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return value

    jax.eval_shape(lambda x: q.score(x, measure), q.x)
    moved = lambda moves: q.score(q.x, lambda place, value: value + moves[layers[place]] if place in layers else value)
    return jax.grad(moved)({name: jnp.zeros(size.shape, size.dtype) for name, size in sizes.items()})
