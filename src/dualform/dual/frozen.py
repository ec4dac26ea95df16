"""Any module as the affine map that it is once all that chooses its map is frozen at its input.

    freeze(module, x) -> Frozen(y, state, affine, kind),     affine(x) == y

`affine` takes other inputs of the same shape. What each token brings is affine(that token alone) - affine(0): see
`dualform.dual.layer`. A mixer keeps its context and lets values pass; a norm keeps its scale, an activation f the ratio
(f(v) - f(0)) / v, a gated MLP its gate. A module of any other class takes part by a method of its own,

    frozen(self, x, state, start, mask) -> (y, state, affine, kind)

or by `stages()`, a chain of named modules. `mix` is never differentiated forwards: its recurrences have no such rule.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator
from dualform.dual.form import Kind
from dualform.errors import require
from dualform.mixers import AbstractMixer
from dualform.mixers.affine import affine as affine_map
from dualform.models.bidirectional import Bidirectional, last_tokens
from dualform.models.block import Block, present
from dualform.models.mlp import ACTIVATIONS, MLP, GatedMLP
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.stages import stage_states
from dualform.norms import rms_factor

LINEAR: Kind = "linear given its gates"
NONLINEAR: Kind = "frozen nonlinearity"


class Frozen(NamedTuple):
    """What `freeze` gives.

    - y: (time, d_out), the module's own output.  state: what it remembers after the last token.
    - affine: (time, d_in) -> (time, d_out); affine(x) is y up to rounding, and the rows where there is no token are 0.
    - kind: whether the map is the module's own (*linear given its gates*), or one exact decomposition among others.
    """

    y: Float[Array, "time d_out"]
    state: State
    affine: Callable[[Array], Array]
    kind: Kind


def freeze(module: Any, x: Float[Array, "time d_in"], state: State | None = None, *, start=None, mask=None) -> Frozen:
    """A module's output at x, and the affine map that it is with everything that chooses its map frozen there.

    **Arguments:** module: a mixer, a `Bidirectional`, a `Block`, a norm, an MLP, a model with `stages()`, or anything with a
    method `frozen`; x: (time, d_in), for a model what its first stage takes; state, start, mask: as of a mixer's call.

    **Returns:** a `Frozen`.

    **Raises:** `InputError` for a module of another kind, and as the module's call does.
    """
    if hasattr(module, "frozen"):
        return Frozen(*module.frozen(x, state, start, mask))
    if isinstance(module, AbstractMixer):
        return freeze_mixer(module, x, state, start, mask)
    if isinstance(module, Bidirectional):
        return _bidirectional(module, x, start, mask)
    if isinstance(module, Block):
        return _block(module, x, state, start, mask)
    if isinstance(module, RMSNorm | LayerNorm):
        return _pointwise(_norm(module, present(x, mask)), mask)
    if isinstance(module, MLP | GatedMLP):
        return _pointwise((_mlp if isinstance(module, MLP) else _gated_mlp)(module, present(x, mask)), mask)
    require(
        hasattr(module, "stages"),
        f"a {type(module).__name__} cannot be frozen: it is no mixer, block, norm or MLP, and has neither stages() nor a "
        "method frozen(x, state, start, mask). Give it one that returns (y, state, affine, kind).",
    )
    return _chain(module, x, state, start, mask)


def _pointwise(part: tuple[Array, Callable[[Array], Array]], mask) -> Frozen:
    """What looks at one token at a time: its output and affine map, 0 where there is no token."""
    y, affine = part
    return Frozen(present(y, mask), (), lambda other: present(affine(present(other, mask)), mask), NONLINEAR)


def freeze_mixer(mixer: AbstractMixer, x, state=None, start=None, mask=None) -> Frozen:
    """The mixer's context frozen at x: affine(x') = mix(context, v(x')), with v as in `frozen_mix`."""
    x, state, start, mask = mixer.checked(x, state, start, mask)
    mix = frozen_mix(mixer, x, state, start, mask)
    y, after = mixer(x, state, start=start, mask=mask)
    kind = LINEAR if mixer.linear_given_gates else NONLINEAR
    return Frozen(y, after, lambda other: present(mix(other)[0], mask), kind)


def frozen_mix(mixer: AbstractMixer, x, state, start, mask) -> Callable[[Array], tuple[Array, State]]:
    """x' -> mix(context, v(x')), output and state, with the context frozen at x and v(x) the values themselves.

    A value that is not linear in its token follows it by its slope J_s at x_s; what J_s x_s leaves of the value follows the
    token along its own direction, v_s(x') = J_s x'_s + (v_s - J_s x_s) (x_s . x'_s) / (x_s . x_s). So what a token brings
    is all of its value, as in `dual_form`, and a linear value is itself. The value of a token that is 0 is bias.

    **Arguments:** as `AbstractMixer.checked` gives them.
    """
    context, (value, moved) = mixer.context(x, state, start, mask), jax.jvp(mixer.value, (x,), (x,))
    wide = x.astype(accumulator(x.dtype))
    power = jnp.sum(wide * wide, axis=1)
    one = jnp.ones_like(power)

    def values(other):
        _, along = jax.jvp(mixer.value, (x,), (other.astype(x.dtype),))
        part = jnp.sum(wide * other.astype(wide.dtype), axis=1) / jnp.where(power == 0, one, power)
        part = jnp.where(power == 0, one, part)
        own = lambda v, j, a: a + (v - j) * part.astype(v.dtype).reshape(-1, *[1] * (v.ndim - 1))
        return jtu.tree_map(own, value, moved, along)

    return lambda other: mixer.mix(context, values(present(other, mask)), state, start, mask)


def _bidirectional(module: Bidirectional, x, start, mask) -> Frozen:
    turned = lambda a: None if a is None else a[::-1]
    ahead = freeze(module.forward, x, start=start, mask=mask)
    back = freeze(module.backward, x[::-1], start=turned(last_tokens(len(x), start, mask)), mask=turned(mask))
    join = jnp.add if module.join == "sum" else lambda a, b: jnp.concatenate([a, b], axis=1)
    affine = lambda other: join(ahead.affine(other), back.affine(other[::-1])[::-1])
    return Frozen(join(ahead.y, back.y[::-1]), (), affine, _joint((ahead.kind, back.kind)))


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
    behind = lambda other: other + mlp.affine(mlp_norm.affine(other)).astype(other.dtype)
    return BlockParts(norm, mixer, Frozen(h + mlp.y, (), behind, NONLINEAR))


def _block(block: Block, x, state, start, mask) -> Frozen:
    norm, mixer, behind = block_parts(block, x, state, start, mask)

    def affine(other):
        other = present(other, mask)
        return present(behind.affine(other + mixer.affine(norm.affine(other)).astype(other.dtype)), mask)

    kinds = (norm.kind, mixer.kind, behind.kind)
    return Frozen(present(behind.y, mask), mixer.state, affine, _joint(kinds))


def _optional(module: Any, x, mask) -> Frozen:
    """A part that may not be there: then it is the identity."""
    return Frozen(x, (), lambda other: other, LINEAR) if module is None else freeze(module, x, mask=mask)


def _chain(model: Any, x, state, start, mask) -> Frozen:
    frozen = freeze_stages(model, x, state, start=start, mask=mask)

    def affine(other):
        for _, stage in frozen:
            other = stage.affine(other.astype(x.dtype))
        return other

    states = tuple(stage.state for _, stage in frozen)
    return Frozen(frozen[-1][1].y, states, affine, _joint(stage.kind for _, stage in frozen))


def freeze_stages(model: Any, x, state=None, *, start=None, mask=None) -> tuple[tuple[str, Frozen], ...]:
    """Every stage of a model by name, each frozen at what the one before it gives.

    **Arguments:** model: with `stages()`; x: what its first stage takes; state: the model's own, `init_state()` if not given.
    """
    found, dtype = [], x.dtype
    for (name, stage), before in zip(model.stages(), stage_states(model, state), strict=True):
        frozen = freeze(stage, x, before, start=start, mask=mask)
        found.append((name, frozen))
        x = frozen.y.astype(dtype)
    return tuple(found)


def _norm(norm: RMSNorm | LayerNorm, x):
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
    return norm(x), lambda other: (centred(other) * scale + shift).astype(x.dtype)


def _slope(name: str, v: Float[Array, "time n"]) -> tuple[Array, Array]:
    """(f(v) - f(0)) / v, f'(0) where v is 0, and f(0): f(v) is their product with v, and the sum."""
    f = ACTIVATIONS[name]
    at_zero, slope = jax.jvp(f, (jnp.zeros((), v.dtype),), (jnp.ones((), v.dtype),))
    safe = jnp.where(v == 0, jnp.ones_like(v), v)
    return jnp.where(v == 0, slope, (f(safe) - at_zero) / safe), at_zero


def _mlp(mlp: Any, x):
    slope, at_zero = _slope(mlp.activation, affine_map(x, mlp.w_up, mlp.b_up))

    def affine(other):
        hidden = slope * affine_map(other, mlp.w_up, mlp.b_up) + at_zero
        return affine_map(hidden, mlp.w_down, mlp.b_down).astype(x.dtype)

    return mlp(x), affine


def _gated_mlp(mlp: Any, x):
    gate = ACTIVATIONS[mlp.activation](affine_map(x, mlp.w_gate, mlp.b_gate))

    def affine(other):
        hidden = gate * affine_map(other, mlp.w_up, mlp.b_up)
        return affine_map(hidden, mlp.w_down, mlp.b_down).astype(x.dtype)

    return mlp(x), affine


def _joint(kinds) -> Kind:
    """The kind of what is made of parts: linear where each of them is."""
    return LINEAR if all(kind == LINEAR for kind in kinds) else NONLINEAR
