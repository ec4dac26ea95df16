"""Block chain of thought: every few tokens a model reads what it said itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.errors import require


def with_feedback(
    model: Any,
    x: Float[Array, "time d_in"],
    block: int,
    said: Callable[[Float[Array, " d_out"]], Float[Array, " fed"]],
) -> Float[Array, "time d_out"]:
    """What a model gives where the first token of each block, but the first block's, also reads what it said at the token before.

    The last entries of a token, as many as `said` gives, are the place for it, and 0 elsewhere. The model keeps its state
    from block to block: all is one pass, in as many parts as there are blocks. No gradient goes through what is fed back.

    **Arguments:** model: with a state, from vectors to vectors; x: tokens, whose last entries are 0; block: tokens of a block;
    said: what is fed back of an output.

    **Raises:** `InputError` where a block has no token.

    **Source:** the block chain of thought of Hu et al. 2024 (arXiv 2406.04089), whose output is fed back every b steps.
    """
    require(block >= 1, f"feedback is every {block} tokens; it must be at least 1.")
    time, width = x.shape
    blocks = jnp.concatenate([x, jnp.zeros((-time % block, width), x.dtype)]).reshape(-1, block, width)
    fed = jax.eval_shape(said, jax.ShapeDtypeStruct((model.d_out,), x.dtype)).shape[0]

    def step(carried: tuple[Any, Array], tokens: Array) -> tuple[tuple[Any, Array], Array]:
        state, before = carried
        y, state = model(tokens.at[0, width - fed :].add(before), state)
        return (state, jax.lax.stop_gradient(said(y[-1])).astype(x.dtype)), y

    _, y = jax.lax.scan(step, (model.init_state(), jnp.zeros(fed, x.dtype)), blocks)
    return y.reshape(-1, y.shape[-1])[:time]
