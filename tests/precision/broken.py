"""Recurrences with known faults, which the law must find."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp

from dualform.recurrences import chunks
from dualform.recurrences.outer_product import outer
from tests.precision import of_recurrences
from tests.precision.measure import Case, measure


def squared(shared, tokens, state):
    """Rows of the outer product by quotients whose gradient holds 1 / before^2, at any decay: what float32 cannot hold."""
    (q, k, v, decay), size = tokens, 64

    def inside(q, k, v, decay):
        before = jnp.cumprod(decay, axis=1)
        left = jnp.tril(jnp.einsum("ctk,csk->cts", q * before, k / before))
        return left @ v

    del state
    cut = lambda a: jnp.pad(a, ((0, -len(a) % size), (0, 0)), constant_values=1).reshape(-1, size, a.shape[1])
    return inside(*(cut(a) for a in (q, k, v, decay))).reshape(-1, v.shape[1])[: len(q)]


def wrong(name: str, dtype: str, time: int) -> list[str]:
    """What the law says about a broken form: "squared", or "neighbours", which asks whether a whole batch is moderate."""
    given = of_recurrences.case("outer rows chunked", time)
    if name == "squared":

        def good(low, wide):
            q, k, v, decay = low[1]
            return outer(q, k, v, jnp.zeros_like(wide[0]), decay=decay, form="naive")[0][:64]

        bad = lambda low, wide: squared(low[0], low[1], wide)[:64]
        return measure(Case(bad, good, given.low, given.wide), dtype)
    judged = jax.custom_batching.custom_vmap(chunks.moderate)
    judged.def_vmap(lambda size, batched, decay: (chunks.moderate(decay), False))
    of_all = lambda first, second, decay, *a: jax.lax.cond(judged(decay), first, second, *a)
    kept = chunks.by_moderation
    outer_module: Any = importlib.import_module("dualform.recurrences.outer_product")
    try:
        outer_module.by_moderation = of_all
        return measure(given, dtype)
    finally:
        outer_module.by_moderation = kept
