"""An edge of a map knocked out: what token t takes from token s at one layer is taken away, and the rest is run again."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator
from dualform.dual.frozen import freeze
from dualform.dual.layer import frozen_map
from dualform.dual.model_forms import ModelForm, carries, first_activations, logit_direction
from dualform.errors import InputError, require
from dualform.layer import inside
from dualform.lenses.traces import trace
from dualform.maps import attention_of, present
from dualform.mixers import AbstractMixer
from dualform.models.chain import core_of, product
from dualform.models.model import AbstractModel
from dualform.models.walk import core_place, opened, read_by_core


class KnockOut(NamedTuple):
    """What `knock_out` gives.

    - y: (time, d_out), the model's output without the edge.  before: with it.
    - removed: (d,), what the mixer's output at the target token lost: `contributions[target, source]`.
    """

    y: Float[Array, "time d_out"]
    before: Float[Array, "time d_out"]
    removed: Float[Array, " d"]


def knock_out(
    model: Any,
    x: Any,
    layer: str,
    source: int,
    target: int,
    *,
    head: int | None = None,
    frozen: bool = False,
    state: State | None = None,
    start=None,
    mask=None,
) -> KnockOut:
    """What a model gives when token `target` takes nothing from token `source` at one layer.

    What the layer's mixer brings from the source, its `contributions[target, source]`, is taken from its output, exactly; what
    comes after is run again: for real, or `frozen`, gates and norms as they were, which is what the maps predict.

    **Arguments:** model, x, state, start, mask: as of `trace`; layer: a stage's name; source, target: tokens' places; head: only
    what this head of the mixer's values brings, or all.

    **Returns:** a `KnockOut`.

    **Raises:** `InputError` for a layer, token or head that there is not.
    """
    x, start, mask = first_activations(model, x, start, mask)
    stage = _stage(model, layer)
    for name, place in (("source", source), ("target", target)):
        require(0 <= place < len(x), f"{name} {place} is no token's place; there are {len(x)}, from 0 to {len(x) - 1}.")
    found = _removed(model, x, state, start, mask, layer, jnp.asarray(source), head)[target]
    place = core_place(stage, layer, "out")
    before = trace(model, x, record=(), state=state, start=start, mask=mask).y
    if frozen:
        change = _frozen_change(model, x, state, start, mask, layer, jnp.asarray(target), -found)
        return KnockOut((before.astype(change.dtype) + change).astype(before.dtype), before, found)
    without = lambda y: y.at[target].add(-found.astype(y.dtype))
    return KnockOut(trace(model, x, {place: without}, record=(), state=state, start=start, mask=mask).y, before, found)


def edge_effects(
    form: ModelForm, layer: str, t: int, token: int, against: int | None = None
) -> Float[np.ndarray, "time source"]:
    """How much of a logit each edge of a layer's map carries: what its knock-out would take away, the rest being frozen.

    Entry [u, s] is g_u . contributions[u, s], with g the frozen rest of the model read backwards from output `token` at place
    t (less output `against`). One backward pass and one map for all time * time edges.

    **Raises:** `InputError` for a layer, place or output that there is not.
    """
    require(
        isinstance(form, ModelForm), f"the form of a model is needed, as of model_form; got a {type(form).__name__}."
    )
    inner = form.layer(layer).inner
    require(0 <= t < form.time, f"there is no place {t}; there are {form.time}, from 0 to {form.time - 1}.")
    direction = jnp.asarray(logit_direction(form.y.shape[1], token, against), inner.y.dtype)
    g = _pulled_to(form.model, form.x, form.state, form.start, form.mask, layer, jnp.asarray(t), direction, inner.y)
    return inner.project(g[None])[0]


def _stage(model: Any, layer: str) -> Any:
    named = {name: stage for name, stage in model.stages() if carries(stage)}
    require(layer in named, f"there is no layer {layer!r}; there are {', '.join(named)}.")
    return named[layer]


def _at_layer(model: AbstractModel, x, state, start, mask, layer: str):
    """The part of `layer` that carries, what it reads, and its state; and the affine map from its output to the model's."""
    x, state, segments = model.checked(x, state, start, mask)
    names, stages = zip(*model.stages(), strict=True)
    number = names.index(layer)
    stage, before = stages[number], model.split(state)[number]
    passes = [frozen for _, frozen in model.passes(x, state, segments)]
    given = x if number == 0 else passes[number - 1].y
    behind = passes[number + 1 :]

    def rest(change):
        y = inside(opened(stage, change), given, before, segments).map(jnp.zeros_like(given))
        return product(behind)[0](y) if behind else y

    brought = lambda change: rest(change) - rest(jnp.zeros_like(change))
    return core_of(stage), read_by_core(stage, given, before, segments), before, brought


@eqx.filter_jit
def _removed(model, x, state, start, mask, layer, source, head) -> Float[Array, "time d"]:
    """What one token, or one head of its value, brings to every output of a layer's mixer."""
    mixer, given, before, _ = _at_layer(model, x, state, start, mask, layer)
    if head is None:
        return freeze(mixer, given, before, start=start, mask=mask).map.columns(given, source[None])[0]
    if not isinstance(mixer, AbstractMixer):
        raise InputError(f"{layer} has no heads to choose from; leave head out.")
    frozen, given = frozen_map(mixer, given, before, start, mask)
    attention = attention_of(frozen.map)
    written = None if attention is None else attention.write.columns(given, source[None])[0]
    heads = written.shape[1] if written is not None and written.ndim == 3 else 0
    require(0 <= head < heads, f"there is no head {head} in {layer}; its values have {heads} heads.")
    assert attention is not None and written is not None
    own = jnp.zeros_like(written).at[:, head].set(written[:, head])
    return present(attention.read.brought(attention.memory.brought(own)), mask)


@eqx.filter_jit
def _frozen_change(model, x, state, start, mask, layer, target, change) -> Array:
    """What a change of a mixer's output at one token does to the model's output, all behind it frozen."""
    *_, rest = _at_layer(model, x, state, start, mask, layer)
    wide = accumulator(x.dtype, change.dtype)
    return rest(jnp.zeros((len(x), len(change)), wide).at[target].set(change.astype(wide)))


@eqx.filter_jit
def _pulled_to(model, x, state, start, mask, layer, t, direction, y) -> Array:
    """The frozen rest of the model, read backwards from an output to a layer's mixer."""
    *_, rest = _at_layer(model, x, state, start, mask, layer)
    y = y.astype(accumulator(y.dtype))
    return jax.grad(lambda change: rest(change)[t].astype(y.dtype) @ direction.astype(y.dtype))(jnp.zeros_like(y))
