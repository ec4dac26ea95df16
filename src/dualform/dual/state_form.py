"""What a state is made of: the share that each token brought to what is remembered in the end."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from dualform.dual.layer import LayerForm, blocks_of, frozen_map
from dualform.errors import require
from dualform.mixers import AbstractMixer


def state_shares(layer: LayerForm) -> Float[np.ndarray, " source"]:
    """The share of a mixer's last state that each token brought, signed; the shares sum to 1.

    With its choices frozen the state is affine in the tokens, and what token s brought is state(x_s alone) - state(0).
    Entry s is its projection on what all of them brought together, over all arrays of the state. What the choices
    keep, such as the keys of a cache, is no value, and has no part in it. 0 throughout where nothing is remembered.

    **Arguments:** layer: of a mixer, or of a block, whose mixer is then taken.

    **Raises:** `InputError` where the layer is no mixer.
    """
    require(
        isinstance(layer, LayerForm), f"the form of a layer is needed, as of layer_form; got a {type(layer).__name__}."
    )
    inner = layer.inner
    require(
        isinstance(inner.module, AbstractMixer),
        f"{layer.name} is a {type(inner.module).__name__} and no mixer: the shares of its state are not known. Choose another "
        "layer, or the target token.",
    )
    call, out = (inner.module, inner.x, inner.state, inner.start, inner.mask), np.zeros(inner.time, inner.y.dtype)
    for sources in blocks_of(inner.time, inner.block):
        out[sources] = np.asarray(_shares(*call, jnp.asarray(sources)))
    return out


@eqx.filter_jit
def _shares(mixer, x, state, start, mask, sources) -> Array:
    frozen, x = frozen_map(mixer, x, state, start, mask)
    map = frozen.map
    numbers = lambda tree: [leaf for leaf in jtu.tree_leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    empty = numbers(map.run(jnp.zeros_like(x))[1])
    brought = lambda other: [a - b for a, b in zip(numbers(map.run(other)[1]), empty, strict=True)]
    dot = lambda a, b: sum((jnp.real(jnp.vdot(u, v)) for u, v in zip(a, b, strict=True)), jnp.zeros((), x.dtype))
    together = brought(x)
    # Divided by the largest entry first: the square of a small number would be 0.
    size = functools.reduce(
        jnp.maximum, (jnp.max(jnp.abs(part), initial=0) for part in together), jnp.zeros((), x.dtype)
    )
    size = jnp.where(size == 0, jnp.ones_like(size), size)
    unit = [part / size for part in together]
    power = dot(unit, unit)
    safe = jnp.where(power == 0, jnp.ones_like(power), power)
    alone = lambda s: dot(unit, brought(jnp.zeros_like(x).at[s].set(x[s]))) / size / safe
    return jax.lax.map(alone, sources, batch_size=len(sources))
