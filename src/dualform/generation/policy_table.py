"""Which of a bounded set of states is dropped: one pure function for each policy of the literature, and a place for one's own.

A policy looks at one layer, at one token: it gives every state a priority, and the engine
(`dualform.generation.multi_state`) drops the one of the lowest, of equal ones the oldest. Places that are still empty are filled
first. The newest token is among the candidates: it may be dropped at once.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from dualform.errors import require
from dualform.reading import whole


class Seen(NamedTuple):
    """What a policy sees. `source` is the kept states and the newest token behind them; of a prompt, all its tokens in order.

    - weights: (kv_head, group, source), the softmax weights of the newest query, for each query head.
    - scores: (kv_head, source), what the policy itself has kept for each state; 0 at first. Of a prompt read at once: the sum
      of the weights of its last `observed` queries but the newest, and over the group.
    - positions: (kv_head, source), each state's place in the document, -1 where a place is empty.
    - now: the newest token's place.  states: how many are kept.  prompt: whether a prompt is read at once.
    """

    weights: Float[Array, "kv_head group source"]
    scores: Float[Array, "kv_head source"]
    positions: Int[Array, "kv_head source"]
    now: Int[Array, ""]
    states: int
    prompt: bool


Ranked = tuple[Float[Array, "kv_head source"], Float[Array, "kv_head source"]]
"""Priorities, and the scores to keep."""


@dataclass(frozen=True)
class Policy:
    """A policy by name.

    **Arguments:** step: from `Seen` to priorities and scores; observed: how many of a prompt's last queries `scores` sums where
    it is read at once, None for all; sinks: of a policy that keeps the first so many tokens and the newest ones, whatever the
    weights are, so that a sequence needs no loop over time; None for any other; whole: nothing may ever be dropped, and where
    there is no place left all that follows is NaN.
    """

    name: str
    step: Callable[[Seen], Ranked]
    observed: int | None = 1
    sinks: int | None = None
    whole: bool = False


def over_layer(a: Float[Array, "kv_head source"]) -> Float[Array, "kv_head source"]:
    """The mean over the heads, for all of them: one decision for the layer."""
    return jnp.broadcast_to(jnp.mean(a, axis=0, keepdims=True), a.shape)


def newest_kept(priority: Float[Array, "kv_head source"], seen: Seen, count: int = 1) -> Float[Array, "kv_head source"]:
    """The priorities, infinite for the newest `count` tokens."""
    return jnp.where(seen.positions > seen.now - count, jnp.inf, priority)


def dropped_first(
    priority: Float[Array, "kv_head source"], positions: Int[Array, "kv_head source"]
) -> Int[Array, " kv_head"]:
    """The place of the lowest priority, of equal ones that of the oldest token; an empty place before all."""
    priority = jnp.where(positions < 0, jnp.full_like(priority, -jnp.inf), priority)
    lowest = priority == jnp.min(priority, axis=1, keepdims=True)
    return jnp.argmin(jnp.where(lowest, positions, jnp.iinfo(jnp.int32).max), axis=1).astype(jnp.int32)


def _window(seen: Seen, sinks: int) -> Ranked:
    """The newest tokens, and the first `sinks`."""
    places = seen.positions.astype(seen.scores.dtype)
    return jnp.where(seen.positions < sinks, jnp.inf, places), seen.scores


def _tova(seen: Seen) -> Ranked:
    """The weight of the newest query, averaged over all heads of the layer."""
    return over_layer(jnp.mean(seen.weights, axis=1)), seen.scores


def _tova_head(seen: Seen) -> Ranked:
    """The weight of the newest query, averaged over the heads that share the keys."""
    return jnp.mean(seen.weights, axis=1), seen.scores


def _tova_newest(seen: Seen) -> Ranked:
    """As TOVA, but the newest token is never dropped."""
    priority, scores = _tova(seen)
    return newest_kept(priority, seen), scores


def _h2o(seen: Seen) -> Ranked:
    """The newest half; of the others those with the largest sum of weights over all queries so far."""
    scores = seen.scores + jnp.sum(seen.weights, axis=1)
    return newest_kept(scores, seen, seen.states - seen.states // 2), scores


def _h2o_layer(seen: Seen) -> Ranked:
    """As H2O, with the sums averaged over the layer."""
    _, scores = _h2o(seen)
    return newest_kept(over_layer(scores), seen, seen.states - seen.states // 2), scores


OBSERVED, POOLED = 32, 7


def _snapkv(seen: Seen) -> Ranked:
    """The newest queries' window, and the tokens that it looks at, of a prompt with their neighbours."""
    observed = max(min(OBSERVED, seen.states // 2), 1)
    scores = seen.scores * (1.0 if seen.prompt else 1 - 1 / observed) + jnp.sum(seen.weights, axis=1)
    votes = scores
    if seen.prompt:
        votes = jax.lax.reduce_window(scores, -jnp.inf, jax.lax.max, (1, POOLED), (1, 1), "SAME")
    return newest_kept(votes, seen, observed), scores


def _random(seen: Seen) -> Ranked:
    """A number drawn for each state at each token, the same for all heads, layers and runs."""
    drawn = jr.uniform(jr.fold_in(jr.key(0), seen.now), seen.positions.shape[1:], seen.scores.dtype)
    return jnp.broadcast_to(drawn[None], seen.positions.shape), seen.scores


_POLICIES: dict[str, Policy] = {
    "full": Policy("full", functools.partial(_window, sinks=0), sinks=0, whole=True),
    "window": Policy("window", functools.partial(_window, sinks=0), sinks=0),
    "tova": Policy("tova", _tova),
    "tova-head": Policy("tova-head", _tova_head),
    "tova-newest": Policy("tova-newest", _tova_newest),
    "h2o": Policy("h2o", _h2o, observed=None),
    "h2o-layer": Policy("h2o-layer", _h2o_layer, observed=None),
    "snapkv": Policy("snapkv", _snapkv, observed=OBSERVED),
    "random": Policy("random", _random),
}


def policies() -> dict[str, Policy]:
    """Every policy by name; "window+i", for any number i, is there, too.

    - full: nothing is dropped. window: the newest. window+i: the first i and the newest (Xiao et al. 2023, arXiv 2309.17453).
    - tova: the state with the lowest softmax weight of the newest query, averaged over the layer's heads, goes (Oren et al.
      2024, arXiv 2401.06104). tova-head: each key-value head decides by itself. tova-newest: the newest token always stays, as
      in kvpress.
    - h2o: the newest half and, of the others, those that got most attention in all, for each key-value head (Zhang et al. 2023,
      arXiv 2306.14048). h2o-layer: one decision for the layer.
    - snapkv: the newest tokens (32, at most half of the states) and those that the last 32 queries look at, pooled over 7
      neighbours in a prompt that is read at once (Li et al. 2024, arXiv 2404.14469); it drops while decoding too, by a sum that
      decays, where the published one only grows.
    - random: any.
    """
    return dict(_POLICIES)


def register(policy: Policy) -> Policy:
    """Add a policy of one's own, under its name.

    **Raises:** `InputError` where the name is taken by another.
    """
    require(policy.name not in _POLICIES, f"there is a policy {policy.name!r} already. Call yours otherwise.")
    _POLICIES[policy.name] = policy
    return policy


def policy(name: str | Policy) -> Policy:
    """The policy of that name.

    **Raises:** `InputError` where there is none.
    """
    if isinstance(name, Policy):
        return name
    first, _, sinks = name.partition("+")
    if first == "window" and (count := whole(sinks)) is not None:
        return _sinks(count)
    require(name in _POLICIES, f"there is no policy {name!r}; there are {', '.join(_POLICIES)}, and window+i.")
    return _POLICIES[name]


@functools.cache
def _sinks(count: int) -> Policy:
    return Policy(f"window+{count}", functools.partial(_window, sinks=count), sinks=count)
