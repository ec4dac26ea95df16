"""The next token, chosen from its logits."""

import math
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from dualform.counts import counted
from dualform.errors import require
from dualform.reading import shown

Temperature = float | int | Float[Array, ""]
"""A number; or an argument of a compiled function, which is then not checked to be 0 or more."""
Settings = tuple[Temperature, int | None, float | None, float | None]
"""Temperature, top_k, top_p and min_p, as a compiled step takes them."""


def settings_of(
    vocabulary: int,
    *,
    key: Array | None = None,
    temperature: Temperature = 1.0,
    top_k: SupportsIndex | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
) -> Settings:
    """The settings; a whole number and the same with a point are one program.

    **Raises:** `InputError` as `check_sampling` does, and for a top_k above the vocabulary.
    """
    check_sampling(key, temperature, top_k, top_p, min_p)
    top_k = counted(top_k)
    require(
        top_k is None or top_k <= vocabulary,
        f"top_k is {top_k}; the vocabulary has {vocabulary} tokens. Give fewer, or None for all.",
    )
    share = lambda given: None if given is None else float(given)
    return temperature if _traced(temperature) else float(temperature), top_k, share(top_p), share(min_p)


def choose_token(
    logits: Float[Array, " vocabulary"],
    key: Array | None,
    *,
    temperature: Temperature = 1.0,
    top_k: SupportsIndex | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
) -> Int[Array, ""]:
    """One token from softmax(logits / temperature), of those that `top_k`, `top_p` and `min_p` leave.

    **Arguments:** temperature: 0 for the likeliest token, as the smallest numbers above it; top_k: how many tokens are left, the
    likeliest ones; top_p: as few of the likeliest tokens are left as together have this share or more; the likeliest always is;
    min_p: tokens are left that have at least this share of the likeliest one's probability.

    **Raises:** `InputError` for a number out of its range, or no key where one is needed.
    """
    check_sampling(key, temperature, top_k, top_p, min_p)
    likeliest = jnp.argmax(logits).astype(jnp.int32)
    if key is None or (not _traced(temperature) and temperature == 0):
        return likeliest
    drawn = jr.categorical(key, kept(_cooled(logits, temperature), counted(top_k), top_p, min_p)).astype(jnp.int32)
    return jnp.where(jnp.asarray(temperature) == 0, likeliest, drawn) if _traced(temperature) else drawn


def _traced(temperature: Any) -> bool:
    """Whether it is an argument of a compiled function, whose value is not known."""
    return isinstance(temperature, Tracer)


def _cooled(logits: Float[Array, " vocabulary"], temperature: Any) -> Float[Array, " vocabulary"]:
    """logits / temperature; where no number may hold that, their distances to the largest, of which that is 0."""
    largest = float(jnp.finfo(logits.dtype).max)
    highest = largest**0.9  # all are alike there, and its reciprocal is still a number
    if not _traced(temperature) and float(temperature) * largest > 1e6:
        return logits / min(float(temperature), highest)
    below = logits - jnp.max(logits)
    divided = below / jnp.minimum(jnp.asarray(temperature), highest).astype(logits.dtype)
    return jnp.where(below == 0, jnp.zeros_like(below), divided)


def kept(
    logits: Float[Array, " vocabulary"],
    top_k: int | None,
    top_p: float | int | None,
    min_p: float | int | None = None,
) -> Float[Array, " vocabulary"]:
    """The logits with -inf where a token is left out."""
    if min_p is not None:
        likely = logits >= jnp.max(logits) + math.log(min_p)
        logits = jnp.where(likely, logits, jnp.full_like(logits, -jnp.inf))
    if top_k is None and top_p is None:
        return logits
    # By rank, not by value: of equal logits no more are kept than asked for.
    order = jnp.argsort(-logits, stable=True)
    keep = jnp.ones(len(logits), bool)
    if top_k is not None:
        keep = keep & (jnp.arange(len(logits)) < top_k)
    if top_p is not None:
        share = jax.nn.softmax(jnp.where(keep, logits[order], -jnp.inf))
        before = jnp.cumsum(share) - share
        keep = keep & ((before < top_p) | (jnp.arange(len(logits)) == 0))
    return jnp.where(jnp.zeros_like(keep).at[order].set(keep), logits, -jnp.inf)


def check_sampling(
    key: Array | None,
    temperature: Temperature,
    top_k: SupportsIndex | None,
    top_p: float | int | None,
    min_p: float | int | None = None,
) -> None:
    """Raise `InputError` unless the settings can be used."""
    require(
        _traced(temperature) or (_is_number(temperature) and bool(0 <= temperature < float("inf"))),
        f"temperature is {temperature}; give 0 for the likeliest token, or a finite number above it.",
    )
    require(
        top_k is None or (counted(top_k) or 0) >= 1,
        f"top_k is {top_k}; at least 1 token must be left, or give None for all.",
    )
    require(
        top_p is None or (_is_number(top_p) and 0 < top_p <= 1),
        f"top_p is {top_p}; it is a share of probability, above 0 and at most 1, or None.",
    )
    require(
        min_p is None or (_is_number(min_p) and 0 < min_p <= 1),
        f"min_p is {min_p}; it is a share of the likeliest token's probability, above 0 and at most 1, or None.",
    )
    require(
        key is not None or (not _traced(temperature) and bool(temperature == 0)),
        f"tokens are drawn at temperature {temperature}, and no key is given. Pass key=jax.random.key(seed), or temperature=0.",
    )
    require(
        key is None or _is_key(key),
        f"the key is {shown(key)}, which is not one PRNG key. Pass key=jax.random.key(seed).",
    )


def _is_number(value: Any) -> bool:
    """Whether a value is one real number, NumPy's and JAX's too."""
    array = value if hasattr(value, "dtype") else np.asarray(value)
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    return array.ndim == 0 and real


def _is_key(key: Any) -> bool:
    """Whether a value is one key, of the newer kind or, as an array of numbers, the older."""
    if not isinstance(key, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.ndim == 0
    return key.dtype == np.uint32 and key.shape == jr.key_data(jr.key(0)).shape
