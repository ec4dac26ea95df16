"""The next token, chosen from its logits."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from dualform.errors import require

Settings = tuple[float, int | None, float | None, float | None]
"""Temperature, top_k, top_p and min_p, as a compiled step takes them."""


def settings_of(
    key: Array | None,
    temperature: float | int,
    top_k: int | None,
    top_p: float | int | None,
    min_p: float | int | None,
    vocabulary: int,
) -> Settings:
    """The settings; a whole number and the same with a point are one program.

    **Raises:** `InputError` as `check_sampling` does, and for a top_k above the vocabulary.
    """
    check_sampling(key, temperature, top_k, top_p, min_p)
    require(
        top_k is None or top_k <= vocabulary,
        f"top_k is {top_k}; the vocabulary has {vocabulary} tokens. Give fewer, or None for all.",
    )
    share = lambda given: None if given is None else float(given)
    return float(temperature), top_k, share(top_p), share(min_p)


def choose_token(
    logits: Float[Array, " vocabulary"],
    key: Array | None,
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
) -> Int[Array, ""]:
    """One token from softmax(logits / temperature), of those that `top_k`, `top_p` and `min_p` leave.

    **Arguments:** temperature: 0 for the likeliest token; top_k: how many tokens are left, the likeliest ones; top_p: as few
    of the likeliest tokens are left as together have this share or more; the likeliest always is; min_p: tokens are left that
    have at least this share of the likeliest one's probability.

    **Raises:** `InputError` for a number out of its range, or no key where one is needed.
    """
    check_sampling(key, temperature, top_k, top_p, min_p)
    if temperature == 0 or key is None:
        return jnp.argmax(logits).astype(jnp.int32)
    logits = kept(logits / temperature, top_k, top_p, min_p)
    return jr.categorical(key, logits).astype(jnp.int32)


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
    temperature: float | int,
    top_k: int | None,
    top_p: float | int | None,
    min_p: float | int | None = None,
) -> None:
    """Raise `InputError` unless the settings can be used."""
    require(
        0 <= temperature < float("inf"),
        f"temperature is {temperature}; give 0 for the likeliest token, or a finite number above it.",
    )
    require(top_k is None or top_k >= 1, f"top_k is {top_k}; at least 1 token must be left, or give None for all.")
    require(
        top_p is None or 0 < top_p <= 1,
        f"top_p is {top_p}; it is a share of probability, above 0 and at most 1, or None.",
    )
    require(
        min_p is None or 0 < min_p <= 1,
        f"min_p is {min_p}; it is a share of the likeliest token's probability, above 0 and at most 1, or None.",
    )
    require(
        temperature == 0 or key is not None,
        f"tokens are drawn at temperature {temperature}, and no key is given. Pass key=jax.random.key(seed), or temperature=0.",
    )
