"""NaN and infinity stay where they are: in their document, and out of absent tokens, in every form of every recurrence."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

from dualform.recurrences import many_to_one, outer
from tests.laws.laws import EXACT, check_close
from tests.recurrences.every import RECURRENCES, numbers, program
from tests.tiers import tiers

TIME, START, ABSENT = 7, 4, (2, 5)
"""A document begins at token 4; tokens 2 and 5 are not there."""


def given(name: str) -> Any:
    """Numbers in (0.1, 0.9), which serve as shares, too."""
    random = np.random.default_rng(0)
    return numbers(name, TIME, lambda shape, part: jnp.asarray(random.uniform(0.1, 0.9, shape)))


AGAIN = ("outer columns chunked", "outer head chunked")
"""Siblings of the outer product with a decay of rows, for the thorough tier."""
QUICK = [name for name in RECURRENCES if not name.endswith(("naive", "parallel")) and name not in AGAIN]


@pytest.mark.parametrize("name", tiers(RECURRENCES, *QUICK))
def test_nothing_crosses_a_start(name):
    """NaN or infinity in the state and in tokens before a start changes no output, state or gradient behind it."""
    shared, tokens, state = given(name)
    flags = (jnp.arange(TIME) == START, jnp.ones(TIME, bool), jnp.arange(TIME) >= START)
    (_, expected), expected_gradients = program(name)((shared, tokens, state), *flags)
    assert all(np.isfinite(np.asarray(a)).all() for a in jtu.tree_leaves((expected, expected_gradients)))
    for value in (jnp.nan, jnp.inf):
        for only in (0, START - 1, None):  # in one token, in the last before the start, in all and in the state
            hit = jnp.arange(TIME) < START if only is None else jnp.arange(TIME) == only
            put = lambda a, hit=hit, value=value: jnp.where(hit.reshape(-1, *[1] * (a.ndim - 1)), value, a)
            full = lambda a, value=value, only=only: a if only is not None else jnp.full_like(a, value)
            hurt = shared, jtu.tree_map(put, tokens), jtu.tree_map(full, state)
            (_, found), found_gradients = program(name)(hurt, *flags)
            check_close(found, expected, EXACT, f"{value} in {only}: outputs and state")
            check_close(found_gradients, expected_gradients, EXACT, f"{value} in {only}: gradients")


@pytest.mark.parametrize(
    "name", tiers([name for name in RECURRENCES if name != "attend"], *(name for name in QUICK if name != "attend"))
)
def test_absent_tokens_reach_no_gradient(name):
    """NaN in absent tokens changes no output, no state and no gradient, and theirs is 0."""
    shared, tokens, state = given(name)
    mask = ~jnp.isin(jnp.arange(TIME), jnp.asarray(ABSENT))
    flags = jnp.zeros(TIME, bool), mask, jnp.ones(TIME, bool)
    expected = program(name)((shared, tokens, state), *flags)
    put = lambda a: jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, jnp.nan)
    found = program(name)((shared, jtu.tree_map(put, tokens), state), *flags)
    check_close(found, expected, EXACT, "NaN in absent tokens")
    assert not any(np.asarray(a)[~np.asarray(mask)].any() for a in found[1][1])


def test_a_single_absent_token():
    """One absent token, for which the default form is naive: the gradient of the state is 1, whatever the token holds."""
    nothing, token = jnp.zeros(1, bool), jnp.full((1, 4), jnp.nan)
    after = lambda state: outer(token, token, token, state, decay=token, mask=nothing)[1].sum()
    assert (np.asarray(jax.grad(after)(jr.normal(jr.key(0), (4, 4)))) == 1).all()


@pytest.mark.parametrize("form", ["blocks", "associative", "naive"])
def test_absent_sources_reach_no_gradient(form):
    """One query's sources: NaN in those that are absent changes neither the average nor a gradient."""
    scores, values = jr.normal(jr.key(0), (7, 2)), jr.normal(jr.key(1), (7, 2, 3))
    mask = jnp.arange(7) % 3 != 0
    run = jax.jit(
        jax.value_and_grad(lambda s, v: many_to_one(s, v, mask=mask, form=form, block=4)[0].sum(), argnums=(0, 1))
    )
    put = lambda a: jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, jnp.nan)
    check_close(run(put(scores), put(values)), run(scores, values), EXACT, "NaN in absent sources")
