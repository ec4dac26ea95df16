"""A bounded attention's map over all that it has read, from what it did: its weights over places, and where tokens were put."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def held_in_places(slots: Int[Array, "time kv_head"], states: int) -> Int[Array, "time+1 kv_head states"]:
    """Which source lies in each place before each token, and after the last one.

    Sources below `states` are what the places held at first, each its own; source `states` + s is token s.

    **Arguments:** slots: the place that each token is put in, `states` where it is put nowhere.
    """
    time, heads = slots.shape
    places, tokens = jnp.arange(states, dtype=jnp.int32), jnp.arange(time, dtype=jnp.int32)
    put = jnp.where(slots[:, :, None] == places[None, None], states + tokens[:, None, None], places[None, None])
    first = jnp.broadcast_to(places[None, None], (1, heads, states))
    # A later token has a larger number, and stays until another is put there.
    return jax.lax.cummax(jnp.concatenate([first, put]), axis=0)


def weights_over_sources(
    weights: Float[Array, "time kv_head group places"], slots: Int[Array, "time kv_head"]
) -> Float[Array, "time kv_head group source"]:
    """The weights of each token over sources, `held_in_places` and tokens, rather than over places and itself."""
    (time, heads, _, places) = weights.shape
    itself = jnp.broadcast_to(places - 1 + jnp.arange(time, dtype=jnp.int32)[:, None, None], (time, heads, 1))
    of = jnp.concatenate([held_in_places(slots, places - 1)[:-1], itself], axis=2)
    spread = lambda weights, of: jnp.zeros(places - 1 + time, weights.dtype).at[of].set(weights)
    over_group = jax.vmap(spread, (0, None))
    return jax.vmap(jax.vmap(over_group))(weights, of)
