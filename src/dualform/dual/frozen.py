"""Any module frozen at its input: its own output, and the map that it is once all that chooses that map is fixed there.

    freeze(module, x) -> Frozen(y, state, map, kind, rows),     map(x) == y

A layer's call is its frozen pass: its output and its map are of one pass by construction. A module whose call is its own (a
user's, or a layer whose class has a `__call__` of its own) is a `layer.Foreign`: its output is its call's, and nothing else; its
map is what its parts say. Where the two differ, every certificate shows it.

`map` takes other inputs of the same shape. What each token brings is map(that token alone) - map(0): see `dualform.maps`. Maps
are worked out in float32 or wider, also where the module runs in bfloat16.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator
from dualform.errors import require
from dualform.layer import Layer, as_layer
from dualform.maps import Frozen


def freeze(module: Any, x: Any, state: State | None = None, *, start=None, mask=None) -> Frozen:
    """A module's own output at x, and the map that it is with everything that chooses it frozen there.

    **Arguments:** module: a layer: a mixer, a block, a norm, an MLP, a model; or anything with a call and a method `frozen`; x:
    (time, d_in), or a model's tokens, (time,); state, start, mask: as of a mixer's call.

    **Returns:** a `maps.Frozen`. Of a model that pools y has a row for each token, too: its one output at the last token that is
    there, and what the map gives at the others.

    **Raises:** `InputError` for a module of another kind, and as the module's call does.
    """
    check_module(module)
    x = look_at(module, x, start, mask)
    frozen = as_layer(module).frozen(x, state, start, mask)
    if frozen.rows is None:
        return frozen
    own = frozen.map(taken(module, x, state, start, mask)).astype(frozen.y.dtype)
    return frozen._replace(y=jnp.where(frozen.rows[:, None], frozen.y[None], own))


def taken(module: Any, x: Any, state: State | None, start, mask) -> Float[Array, "time d_in"]:
    """What a module's frozen map takes for its input x, in float32 or wider.

    It leaves out what the call does: absent tokens, and what is not finite where documents begin.
    """
    x = as_layer(module).checked(x, state, start, mask)[0]
    x = x.astype(accumulator(x.dtype))
    if start is None:
        return x
    return jnp.where(jnp.all(jnp.isfinite(x), axis=1, keepdims=True), x, jnp.zeros_like(x))


def look_at(module: Any, x: Any, start, mask) -> Any:
    """x as a program takes it, its values looked at: in a program those of tokens are not known.

    **Raises:** `InputError` as the module's call does.
    """
    return module.given(x, None, start, mask)[0] if isinstance(module, Layer) else x


def check_module(module: Any) -> None:
    """Raise `InputError` unless it is a module that can be frozen: not a class, a function, an array or another library's."""
    name = getattr(module, "__name__", type(module).__name__)
    require(not isinstance(module, type), f"{name} is a class; give one of its instances, such as {name}.make(...).")
    what = f"the function {name}" if hasattr(module, "__name__") else f"a {name}"
    what = "an array" if eqx.is_array_like(module) else what
    require(
        callable(getattr(module, "frozen", None)),
        f"{what} cannot be frozen: it is no layer (mixer, block, norm, MLP, model), and has no method frozen(x, state, start, "
        "mask). Give it one that returns (y, state, map, kind).",
    )
