"""A module's own call: what every certificate compares with. No part of it is taken from a frozen map."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import State
from dualform.errors import require
from dualform.models.language_model import LanguageModel, checked_tokens
from dualform.models.walk import run_stage


class OwnCall(NamedTuple):
    """What a module itself gives.

    - y: (time, d_out).  state: what it remembers after the last token.
    - rows: which rows of y the call gave, None for all: a model that pools gives one, at its last token, and 0 stands elsewhere.
    """

    y: Float[Array, "time d_out"]
    state: State
    rows: Bool[Array, " time"] | None = None


def own_call(module: Any, x: Any, state: State | None = None, *, start=None, mask=None) -> OwnCall:
    """What `module` gives when it is called: with state and flags where it has `init_state`, else as what looks at one token.

    **Arguments:** x: (time, d), or a language model's tokens, (time,); state, start, mask: as of the module's call.

    **Raises:** `InputError` as the call does, and for a module that cannot be called.
    """
    require(
        callable(module),
        f"a {type(module).__name__} cannot be called, and a certificate compares with the module's own call. Give it "
        "__call__(x), or, where it has init_state, __call__(x, state, *, start, mask) that returns (y, state).",
    )
    if isinstance(module, LanguageModel) and not are_tokens(x):
        y, after = module.from_embedded(x, state, start=start, mask=mask)
    else:
        y, after = run_stage(module, x, state, start, mask)
    return OwnCall(y, after) if y.ndim == 2 else _pooled(y, after, len(x), mask)


def are_tokens(x: Any) -> bool:
    """Whether x is tokens by number, and not activations."""
    return jnp.issubdtype(jnp.asarray(x).dtype, jnp.integer)


def embedded(module: Any, x: Any, mask=None) -> Array:
    """What a module's frozen map takes: its embedded tokens where x is tokens by number, else x itself, checked.

    **Raises:** `InputError` for tokens that it does not take or does not have, and for what is not one sequence.
    """
    name = type(module).__name__
    require(hasattr(x, "ndim"), f"{name} takes an array; got {type(x).__name__}. Wrap it in jnp.asarray.")
    if are_tokens(x):
        require(hasattr(module, "embed"), f"a {name} takes real tokens, (time, d); got integers of shape {x.shape}.")
        if hasattr(module, "vocabulary"):
            checked_tokens(x, module.vocabulary, mask)
        x = module.embed(jnp.asarray(x), mask)
    x = jnp.asarray(x)
    require(
        x.ndim == 2 and len(x) >= 1,
        f"{name} takes one sequence of at least one token; got shape {x.shape}. For a batch use jax.vmap.",
    )
    require(
        jnp.issubdtype(x.dtype, jnp.floating),
        f"{name} takes real floating-point activations; got {x.dtype}. Embed token ids first, or cast.",
    )
    width = getattr(module, "d_in", getattr(module, "d", x.shape[1]))
    require(x.shape[1] == width, f"{name} takes tokens of width {width}; got {x.shape[1]}.")
    return x


def _pooled(y: Float[Array, " d_out"], after: State, time: int, mask) -> OwnCall:
    """The one output of a model that pools, at the last token that is there."""
    here = jnp.ones(time, bool) if mask is None else mask
    rows = here & (jnp.cumsum(here[::-1])[::-1] == 1)
    return OwnCall(jnp.where(rows[:, None], y[None], jnp.zeros((), y.dtype)), after, rows)
