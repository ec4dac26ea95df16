"""A model's compiled calls, on one text or on several at once: some more tokens read, and the token that follows chosen."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import State
from dualform.errors import require
from dualform.generation.sampling import Settings, choose_token
from dualform.models import LanguageModel
from dualform.models.language_model import checked_tokens
from dualform.token_ids import array_of

CHUNK = 256
"""Tokens that are read in one call, unless told otherwise."""
NARROWEST = 16
"""Tokens of the shortest program that reads several."""


def token_ids(tokens: Any, vocabulary: int) -> Int[np.ndarray, " time"]:
    """The tokens as an array on the host, where there are none of any dtype."""
    require(
        not isinstance(tokens, Tracer),
        "these tokens are traced, and a text is written token by token, on the host. Leave jax.jit and jax.vmap out; for several "
        "prompts there is generate_batch.",
    )
    tokens = tokens if hasattr(tokens, "dtype") else array_of(tokens)
    return (
        np.zeros(0, np.int32)
        if tokens.shape == (0,)
        else np.asarray(checked_tokens(tokens, vocabulary)).astype(np.int32)
    )


def text_keys(key: Array | None, texts: int | None) -> Array | None:
    """The key of each text's draws, (text,); of one text alone, and of the first of several, it is the key itself.

    Token t of a text is drawn with its key folded with t; other texts' keys are folded with numbers that no t comes to.
    """
    if key is None or texts is None:
        return key
    return jnp.stack([key, *(jr.fold_in(key, np.uint32(2**32 - text)) for text in range(1, texts))])


def first_logits(model: LanguageModel, texts: int) -> Float[Array, "text vocabulary"]:
    """Zeros, for texts of which nothing was read."""
    token = jax.ShapeDtypeStruct((1, model.embedding.shape[1]), model.embedding.dtype)
    return jnp.zeros((texts, model.vocabulary), jax.eval_shape(model.logits, token).dtype)


def called(
    model: LanguageModel,
    state: State,
    ids: Int[Array | np.ndarray, "*text time"],
    before: tuple[Int[np.ndarray, " text"], Float[Array, "text vocabulary"]] | None = None,
) -> tuple[Float[Array, "*text vocabulary"], State]:
    """The logits and the state after these tokens; the state that is given is used up.

    A token alone is a step. Several are filled up to the next power of 2, so that few programs are compiled, and which one runs
    depends on the number of tokens alone.

    **Arguments:** before: of several texts, how many of the tokens each has, and its logits, which stay where it has none.
    """
    time = ids.shape[-1]
    counts, logits = (None, None) if before is None else before
    there = None if counts is None else np.arange(time) < counts[:, None]
    if time == 1:
        return _step((model, jnp.asarray(ids), there, logits), state)
    width = max(NARROWEST, 1 << (time - 1).bit_length())
    fill = [(0, 0)] * (ids.ndim - 1) + [(0, width - time)]
    there = np.ones(ids.shape, bool) if there is None else there
    return _chunk((model, np.pad(ids, fill), np.pad(there, fill), logits), state)


def _each(function: Callable[..., Any], several: bool) -> Callable[..., Any]:
    """The function of one text, or of each of several."""
    return jax.vmap(function) if several else function


@eqx.filter_jit(donate="all-except-first")
def _step(
    given: tuple[
        LanguageModel,
        Int[Array, "*text 1"],
        Bool[Array | np.ndarray, "text 1"] | None,
        Float[Array, "text vocabulary"] | None,
    ],
    state: State,
) -> tuple[Float[Array, "*text vocabulary"], State]:
    model, tokens, there, logits = given

    def one(state, token, there, logits):
        found, state = model.step(token[0], state, mask=None if there is None else there[0])
        return found if there is None else jnp.where(there, found, logits), state

    return _each(one, tokens.ndim == 2)(state, tokens, there, logits)


@eqx.filter_jit(donate="all-except-first")
def _chunk(
    given: tuple[
        LanguageModel,
        Int[Array | np.ndarray, "*text time"],
        Bool[Array | np.ndarray, "*text time"],
        Float[Array, "text vocabulary"] | None,
    ],
    state: State,
) -> tuple[Float[Array, "*text vocabulary"], State]:
    model, tokens, there, logits = given

    def one(state, tokens, there, logits):
        x, state = model.read(tokens, state, mask=there)
        last = jnp.maximum(jnp.sum(there, dtype=jnp.int32) - 1, 0)
        found = model.logits(jax.lax.dynamic_slice_in_dim(x, last, 1))[0]
        return found if logits is None else jnp.where(there[0], found, logits), state

    return _each(one, tokens.ndim == 2)(state, tokens, there, logits)


@eqx.filter_jit
def chosen(
    logits: Float[Array, "*text vocabulary"],
    key: Array | None,
    place: Int[Array | np.ndarray, "*text"],
    settings: Settings,
) -> tuple[Int[Array, "*text 1"], Float[Array, "*text"]]:
    """The token at that place of each text, and the logarithm of its probability by the model itself."""
    temperature, top_k, top_p, min_p = settings

    def one(logits, key, place):
        drawn = None if key is None else jr.fold_in(key, place)
        token = choose_token(logits, drawn, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        return token[None], jax.nn.log_softmax(logits)[token]

    return _each(one, logits.ndim == 2)(logits, key, place)
