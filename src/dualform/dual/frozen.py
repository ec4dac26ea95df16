"""Any module as the affine map that it is once all that chooses its map is frozen at its input.

    freeze(module, x) -> Frozen(y, state, affine, kind, rows),     affine(x) == y

y and the state come from the module's own call, and nothing else; the affine map is put together from its parts. So where the
two differ, the call is not what its parts say, and every certificate shows it.

`affine` takes other inputs of the same shape. What each token brings is affine(that token alone) - affine(0): see
`dualform.dual.layer`. A mixer keeps its context and lets values pass; a norm keeps its scale, an activation f the ratio
(f(v) - f(0)) / v, a gated MLP its gate. A module of any other class takes part by a method of its own,

    frozen(self, x, state, start, mask) -> (y, state, affine, kind)

of which the last two are taken, or by `stages()`, a chain of named modules. Maps are worked out in float32 or wider, also where
the module runs in bfloat16. `mix` is never differentiated forwards: its recurrences have no such rule.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, accumulator
from dualform.compiled import compiled
from dualform.dual.own_call import embedded, own_call
from dualform.errors import require
from dualform.mixers import AbstractMixer
from dualform.mixers.affine import affine as affine_map
from dualform.models.bidirectional import Bidirectional, last_tokens
from dualform.models.block import Block, present
from dualform.models.language_model import LanguageModel
from dualform.models.mlp import ACTIVATIONS, MLP, GatedMLP, JoinedMLP
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.stages import stage_states
from dualform.models.stepped import AbstractStepped
from dualform.norms import rms_factor

Kind: TypeAlias = Literal["linear given its gates", "frozen nonlinearity"]

LINEAR: Kind = "linear given its gates"
NONLINEAR: Kind = "frozen nonlinearity"


class Frozen(NamedTuple):
    """What `freeze` gives.

    - y: (time, d_out), the module's own output.  state: what it remembers after the last token.
    - affine: (time, d_in) -> (time, d_out); affine(x) is y up to rounding, and the rows where there is no token are 0.
    - kind: whether the map is the module's own (*linear given its gates*), or one exact decomposition among others.
    - rows: the rows of y that the module's own call gives, None for all. A model that pools gives one, at its last token; the
      others are the map's own, and no certificate speaks of them.
    """

    y: Float[Array, "time d_out"]
    state: State
    affine: Callable[[Array], Array]
    kind: Kind
    rows: Bool[Array, " time"] | None = None


def freeze(module: Any, x: Any, state: State | None = None, *, start=None, mask=None) -> Frozen:
    """A module's own output at x, and the affine map that it is with everything that chooses its map frozen there.

    **Arguments:** module: a mixer, a `Bidirectional`, a `Block`, a norm, an MLP, a model with `stages()`, or anything with a
    method `frozen` and a call; x: (time, d_in), for a model what its first stage takes, or its tokens, (time,); state, start,
    mask: as of a mixer's call.

    **Returns:** a `Frozen`.

    **Raises:** `InputError` for a module of another kind, and as the module's call does.
    """
    check_module(module)
    given, x = (
        x,
        x if isinstance(module, AbstractMixer) else embedded(module, x, mask),
    )  # a mixer checks what it is given
    own = own_call(module, given, state, start=start, mask=mask)
    affine, kind = _affine(module, x, state, start, mask)
    y = own.y if own.rows is None else jnp.where(own.rows[:, None], own.y, affine(x).astype(own.y.dtype))
    return Frozen(y, own.state, affine, kind, own.rows)


def check_module(module: Any) -> None:
    """Raise `InputError` unless it is a module that can be frozen: not a class, a function, an array or another library's."""
    name = getattr(module, "__name__", type(module).__name__)
    require(not isinstance(module, type), f"{name} is a class; give one of its instances, such as {name}.make(...).")
    known = (AbstractMixer, Bidirectional, Block, RMSNorm, LayerNorm, MLP, GatedMLP, JoinedMLP)
    what = f"the function {name}" if hasattr(module, "__name__") else f"a {name}"
    what = "an array" if eqx.is_array_like(module) else what
    require(
        isinstance(module, known) or any(callable(getattr(module, own, None)) for own in ("frozen", "stages")),
        f"{what} cannot be frozen: it is no mixer, block, norm or MLP, and has neither stages() nor a method frozen(x, state, "
        "start, mask). Give it one that returns (y, state, affine, kind).",
    )


def sees_only_the_past(module: Any) -> bool:
    """Whether a module is causal by its class, no part of it reading from the end."""
    inside = lambda node: isinstance(node, Bidirectional)
    causal = isinstance(module, AbstractMixer | AbstractStepped | LanguageModel)
    return causal and not any(map(inside, jtu.tree_leaves(module, is_leaf=inside)))


Affine = tuple[Callable[[Array], Array], Kind]
"""A frozen module's map, and what was frozen."""


def _affine(module: Any, x, state, start, mask) -> Affine:
    """The map of a module, put together from its parts."""
    if hasattr(module, "frozen"):
        _, _, affine, kind = module.frozen(x, state, start, mask)
        return affine, kind
    if isinstance(module, AbstractMixer):
        mix = frozen_mix(module, *module.checked(x, state, start, mask))
        return lambda other: present(mix(other)[0], mask), LINEAR if module.linear_given_gates else NONLINEAR
    if isinstance(module, Bidirectional):
        return _bidirectional(module, x, start, mask)
    if isinstance(module, Block):
        return _block(module, x, state, start, mask)
    if isinstance(module, RMSNorm | LayerNorm | MLP | GatedMLP | JoinedMLP):
        pointwise = _pointwise(module, present(x, mask))
        return lambda other: present(pointwise(present(other, mask)), mask), NONLINEAR
    return _chain(module, x, state, start, mask)


def frozen_mix(mixer: AbstractMixer, x, state, start, mask) -> Callable[[Array], tuple[Array, State]]:
    """x' -> mix(context, v(x')), output and state, with the context frozen at x and v(x) the values themselves.

    A value that is not linear in its token follows it by its slope J_s at x_s; what J_s x_s leaves of the value follows the
    token along its own direction, v_s(x') = J_s x'_s + (v_s - J_s x_s) (x_s . x'_s) / (x_s . x_s). So what a token brings
    is all of its value, as in `dual_form`, and a linear value is itself. The value of a token that is 0 is bias.

    **Arguments:** as `AbstractMixer.checked` gives them.
    """
    context, wide = _context(mixer, x, state, start, mask), x.astype(accumulator(x.dtype))
    value, moved = jax.jvp(mixer.value, (wide,), (wide,))
    # Divided by its largest entry first: the square of a small token would be 0.
    size = jnp.max(jnp.abs(wide), axis=1, keepdims=True)
    unit = wide / jnp.where(size == 0, jnp.ones_like(size), size)
    power = jnp.sum(unit * unit, axis=1) * size[:, 0]
    one = jnp.ones_like(power)

    def values(other):
        other = other.astype(wide.dtype)
        _, along = jax.jvp(mixer.value, (wide,), (other,))
        part = jnp.sum(unit * other, axis=1) / jnp.where(power == 0, one, power)
        part = jnp.where(power == 0, one, part)
        own = lambda v, j, a: a + (v - j) * part.astype(v.dtype).reshape(-1, *[1] * (v.ndim - 1))
        return jtu.tree_map(own, value, moved, along)

    return lambda other: _mixed(mixer, context, values(present(other, mask)), state, start, mask)


@compiled
def _context(mixer: AbstractMixer, x, state, start, mask) -> Any:
    return mixer.context(x, state, start, mask)


@compiled
def _mixed(mixer: AbstractMixer, context, value, state, start, mask) -> tuple[Array, State]:
    return mixer.mix(context, value, state, start, mask)


def _bidirectional(module: Bidirectional, x, start, mask) -> Affine:
    turned = lambda a: None if a is None else a[::-1]
    ahead, of_ahead = _affine(module.forward, x, None, start, mask)
    back, of_back = _affine(module.backward, x[::-1], None, turned(last_tokens(len(x), start, mask)), turned(mask))
    join = jnp.add if module.join == "sum" else lambda a, b: jnp.concatenate([a, b], axis=1)
    return lambda other: join(ahead(other), back(other[::-1])[::-1]), _joint((of_ahead, of_back))


class BlockParts(NamedTuple):
    """A block's parts, each frozen at its own input; `behind` is what follows the mixer, pointwise, on x + mixer(norm(x))."""

    norm: Frozen
    mixer: Frozen
    behind: Frozen


def block_parts(block: Block, x, state=None, start=None, mask=None) -> BlockParts:
    """The norm, the mixer, and the rest of a block with its own residual stream, frozen in turn."""
    x = present(x, mask)
    norm = _optional(block.norm, x, mask)
    mixer = freeze(block.mixer, norm.y, state, start=start, mask=mask)
    h = x + mixer.y
    if block.mlp is None:
        return BlockParts(norm, mixer, _optional(None, h, mask))
    mlp_norm = _optional(block.mlp_norm, h, mask)
    mlp = freeze(block.mlp, mlp_norm.y, mask=mask)
    behind = lambda other: _added(other, mlp.affine(mlp_norm.affine(other)))
    return BlockParts(norm, mixer, Frozen(h + mlp.y, (), behind, NONLINEAR))


def _block(block: Block, x, state, start, mask) -> Affine:
    norm, mixer, behind = block_parts(block, x, state, start, mask)

    def affine(other):
        other = present(other, mask)
        return present(behind.affine(_added(other, mixer.affine(norm.affine(other)))), mask)

    return affine, _joint((norm.kind, mixer.kind, behind.kind))


def _added(a: Array, b: Array) -> Array:
    """a + b, in the wider dtype of the two."""
    wide = accumulator(a.dtype, b.dtype)
    return a.astype(wide) + b.astype(wide)


def _optional(module: Any, x, mask) -> Frozen:
    """A part that may not be there: then it is the identity."""
    return Frozen(x, (), lambda other: other, LINEAR) if module is None else freeze(module, x, mask=mask)


def _chain(model: Any, x, state, start, mask) -> Affine:
    frozen = freeze_stages(model, x, state, start=start, mask=mask)
    return through([stage for _, stage in frozen]), _joint(stage.kind for _, stage in frozen)


def through(frozen: Sequence[Frozen]) -> Callable[[Array], Array]:
    """The affine map that frozen stages are, one after the other."""
    return lambda other: functools.reduce(lambda a, stage: stage.affine(a), frozen, other)


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


def _pointwise(module: Any, x: Float[Array, "time d"]) -> Callable[[Array], Array]:
    """The map of what looks at one token at a time."""
    if isinstance(module, RMSNorm | LayerNorm):
        return _norm(module, x)
    return _mlp(module, x) if isinstance(module, MLP) else _gated_mlp(module, x)


def _norm(norm: RMSNorm | LayerNorm, x) -> Callable[[Array], Array]:
    """The scale frozen; a LayerNorm's mean is linear and stays free, its bias is bias."""
    wide = accumulator(x.dtype, norm.weight.dtype)
    weight = norm.weight.astype(wide)
    centred = lambda a: a.astype(wide)
    if isinstance(norm, LayerNorm):
        centred = lambda a: a.astype(wide) - jnp.mean(a.astype(wide), axis=-1, keepdims=True)
    elif norm.plus_one:
        weight = 1 + weight
    scale = rms_factor(centred(x), norm.epsilon) * weight[None]
    bias = getattr(norm, "bias", None)
    shift = jnp.zeros((1, norm.d), wide) if bias is None else bias.astype(wide)[None]
    return lambda other: centred(other) * scale + shift


def _slope(name: str, v: Float[Array, "time n"]) -> tuple[Array, Array]:
    """(f(v) - f(0)) / v, f'(0) where v is 0, and f(0): f(v) is their product with v, and the sum."""
    f = ACTIVATIONS[name]
    at_zero, slope = jax.jvp(f, (jnp.zeros((), v.dtype),), (jnp.ones((), v.dtype),))
    safe = jnp.where(v == 0, jnp.ones_like(v), v)
    return jnp.where(v == 0, slope, (f(safe) - at_zero) / safe), at_zero


def _mlp(mlp: MLP, x) -> Callable[[Array], Array]:
    slope, at_zero = _slope(mlp.activation, affine_map(x, mlp.w_up, mlp.b_up))
    hidden = lambda other: slope * affine_map(other, mlp.w_up, mlp.b_up) + at_zero
    return lambda other: affine_map(hidden(other), mlp.w_down, mlp.b_down)


def _gated_mlp(mlp: GatedMLP | JoinedMLP, x) -> Callable[[Array], Array]:
    mlp = mlp.split() if isinstance(mlp, JoinedMLP) else mlp
    gate = ACTIVATIONS[mlp.activation](affine_map(x, mlp.w_gate, mlp.b_gate))
    hidden = lambda other: gate * affine_map(other, mlp.w_up, mlp.b_up)
    return lambda other: affine_map(hidden(other), mlp.w_down, mlp.b_down)


def _joint(kinds) -> Kind:
    """The kind of what is made of parts: linear where each of them is."""
    return LINEAR if all(kind == LINEAR for kind in kinds) else NONLINEAR
