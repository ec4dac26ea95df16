"""Any module frozen at its input: its own output, and the map that it is once all that chooses that map is fixed there.

    freeze(module, x) -> Frozen(y, state, map, kind, rows),     map(x) == y

y and the state come from the module's own call, and nothing else; the map is put together from its parts. So where the two
differ, the call is not what its parts say, and every certificate shows it.

`map` takes other inputs of the same shape. What each token brings is map(that token alone) - map(0): see `dualform.maps`. A
mixer keeps what chooses its map and lets what is written pass; a norm keeps its scale, an activation f the ratio
(f(v) - f(0)) / v, a gated MLP its gate. Each says so itself, in a method

    frozen(self, x, state, start, mask) -> Frozen

and so may any module of a user's, whose map may be a function; a model says `stages()`, a chain of named modules. Maps are
worked out in float32 or wider, also where the module runs in bfloat16.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator
from dualform.dual.own_call import embedded, own_call
from dualform.errors import require
from dualform.maps import Called, CausalMap, Frozen, Identity, joint
from dualform.mixers import AbstractMixer
from dualform.models.bidirectional import Bidirectional
from dualform.models.language_model import LanguageModel
from dualform.models.stages import stage_states
from dualform.models.stepped import AbstractStepped


def freeze(module: Any, x: Any, state: State | None = None, *, start=None, mask=None) -> Frozen:
    """A module's own output at x, and the map that it is with everything that chooses it frozen there.

    **Arguments:** module: a mixer, a block, a norm, an MLP, a model with `stages()`, or anything with a method `frozen` and a
    call; x: (time, d_in), for a model what its first stage takes, or its tokens, (time,); state, start, mask: as of a mixer's
    call.

    **Returns:** a `maps.Frozen`.

    **Raises:** `InputError` for a module of another kind, and as the module's call does.
    """
    check_module(module)
    if isinstance(module, AbstractMixer) and type(module).__call__ is AbstractMixer.__call__:
        return module.frozen(x, state, start, mask)  # its call is this, and no other
    given = x
    x = x if isinstance(module, AbstractMixer) else embedded(module, x, mask)  # a mixer checks what it is given
    own = own_call(module, given, state, start=start, mask=mask)
    map, kind = _map(module, x, state, start, mask)
    y = own.y if own.rows is None else jnp.where(own.rows[:, None], own.y, map(x).astype(own.y.dtype))
    return Frozen(y, own.state, map, kind, own.rows)


def taken(module: Any, x: Any, state: State | None, start, mask) -> Float[Array, "time d_in"]:
    """What a module's frozen map takes for its input x, in float32 or wider.

    A mixer's leaves out what the call does: absent tokens, and what is not finite where documents begin.
    """
    x = module.checked(x, state, start, mask)[0] if isinstance(module, AbstractMixer) else embedded(module, x, mask)
    return x.astype(accumulator(x.dtype))


def check_module(module: Any) -> None:
    """Raise `InputError` unless it is a module that can be frozen: not a class, a function, an array or another library's."""
    name = getattr(module, "__name__", type(module).__name__)
    require(not isinstance(module, type), f"{name} is a class; give one of its instances, such as {name}.make(...).")
    what = f"the function {name}" if hasattr(module, "__name__") else f"a {name}"
    what = "an array" if eqx.is_array_like(module) else what
    require(
        any(callable(getattr(module, own, None)) for own in ("frozen", "stages")),
        f"{what} cannot be frozen: it is no mixer, block, norm or MLP, and has neither stages() nor a method frozen(x, state, "
        "start, mask). Give it one that returns (y, state, map, kind).",
    )


def sees_only_the_past(module: Any) -> bool:
    """Whether a module is causal by its class, no part of it reading from the end."""
    inside = lambda node: isinstance(node, Bidirectional)
    causal = isinstance(module, AbstractMixer | AbstractStepped | LanguageModel)
    return causal and not any(map(inside, jtu.tree_leaves(module, is_leaf=inside)))


def _map(module: Any, x, state, start, mask) -> tuple[CausalMap, Any]:
    """A module's map and what was frozen: as it says itself, or the product of its stages'."""
    if hasattr(module, "frozen"):
        _, _, map, kind, *_ = module.frozen(x, state, start, mask)
        return (map if isinstance(map, CausalMap) else Called(map)), kind
    stages = [stage for _, stage in freeze_stages(module, x, state, start=start, mask=mask)]
    return through(stages), joint(stage.kind for stage in stages)


def through(frozen: Sequence[Frozen]) -> CausalMap:
    """The map that frozen stages are, one after the other."""
    whole: CausalMap = Identity()
    for stage in frozen:
        whole = stage.map @ whole
    return whole


def freeze_stages(model: Any, x, state=None, *, start=None, mask=None) -> tuple[tuple[str, Frozen], ...]:
    """Every stage of a model by name, each frozen at what the one before it gives; its y and state are the stage's own call's.

    **Arguments:** model: with `stages()`; x: what its first stage takes, or tokens, (time,); state: the model's own,
    `init_state()` if not given.
    """
    x = embedded(model, x, mask)
    found, dtype = [], x.dtype
    for (name, stage), before in zip(model.stages(), stage_states(model, state), strict=True):
        frozen = freeze(stage, x, before, start=start, mask=mask)
        found.append((name, frozen))
        x = frozen.y.astype(dtype)
    return tuple(found)
