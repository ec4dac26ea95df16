"""Several texts at once: prompts of different lengths, one compiled step for all of them, and what each token was worth."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import State
from dualform.counts import count_of, whole_numbers
from dualform.errors import require
from dualform.generation.places import check_places
from dualform.generation.room import check_room
from dualform.generation.sampling import Settings, Temperature, choose_token, settings_of
from dualform.generation.stream import CHUNK
from dualform.models import LanguageModel
from dualform.models.language_model import check_context, checked_tokens


class Written(NamedTuple):
    """One of the texts of a batch.

    - tokens: (length,), those before the one that ended it.
    - logprobs: (length,), the natural logarithm of each one's probability by the model, whatever the sampling made of it.
    - ended: whether one of `ends` came.
    """

    tokens: Int[np.ndarray, " length"]
    logprobs: Float[np.ndarray, " length"]
    ended: bool


def generate_batch(
    model: LanguageModel,
    prompts: Sequence[Any],
    length: SupportsIndex,
    *,
    key: Array | None = None,
    temperature: Temperature = 1.0,
    top_k: SupportsIndex | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
    ends: Collection[int] = (),
    chunk: SupportsIndex = CHUNK,
) -> list[Written]:
    """At most `length` tokens that go on from each of `prompts`, which may be of different lengths.

    Text i has the tokens that `stream(model, prompts[i], key=jax.random.fold_in(key, i))` gives it alone, but for rounding:
    a product over several texts may sum in another order. It stops where all texts have ended.

    **Arguments:** prompts: each (time,), from 0 to vocabulary - 1; key, temperature, top_k, top_p, min_p: as of `choose_token`;
    ends: tokens that end a text; chunk: tokens of a prompt read at once.

    **Raises:** `InputError` as `generate` does, where the states of all texts do not fit into memory, and for more tokens than
    the policy "full" has places.
    """
    require(len(prompts) >= 1, "there are no prompts; give at least one.")
    length = count_of("length", length, 1, "give at least 1 token")
    chunk = count_of("chunk", chunk, 1, "read at least 1 token of the prompts at once")
    given = [np.asarray(checked_tokens(prompt, model.vocabulary)) for prompt in prompts]
    for i, prompt in enumerate(given):
        require(len(prompt) >= 1, f"prompt {i + 1} is empty; give at least one token.")
    stops = np.array([end for end in whole_numbers("ends", ends) if 0 <= end < model.vocabulary], np.int32)
    settings = settings_of(key, temperature, top_k, top_p, min_p, model.vocabulary)
    check_context(model, max(map(len, given)) + length - 1)
    for i, prompt in enumerate(given):
        check_places(model, len(prompt), length, what=f"prompt {i + 1}")
    check_room(model, len(given))
    keys = jax.vmap(lambda i: jr.fold_in(jr.key(0) if key is None else key, i))(jnp.arange(len(given)))
    state, logits = _read(model, given, chunk)
    return _write(model, state, logits, keys, length, settings, stops)


def _read(model: LanguageModel, prompts: list[np.ndarray], chunk: int) -> tuple[State, Array]:
    """The states and the logits after the prompts, chunk by chunk; a prompt that has ended waits for the others."""
    lengths = np.array([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    chunk = min(chunk, max(16, 1 << (longest - 1).bit_length()))
    padded = np.zeros((len(prompts), -(-longest // chunk) * chunk), np.int32)
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = prompt
    state, logits = fresh(model, len(prompts))
    for begin in range(0, padded.shape[1], chunk):
        here = begin + np.arange(chunk)[None] < lengths[:, None]
        part = jnp.asarray(padded[:, begin : begin + chunk])
        state, logits = read_chunk(model, (state, logits), part, jnp.asarray(here))
    return state, logits


def fresh(model: LanguageModel, batch: int) -> tuple[State, Float[Array, "batch vocabulary"]]:
    """The states of so many texts of which nothing was read, and logits of 0."""
    several = lambda a: jnp.broadcast_to(jnp.asarray(a)[None], (batch, *jnp.shape(a)))
    token = jax.ShapeDtypeStruct((1, model.embedding.shape[1]), model.embedding.dtype)
    logits = jnp.zeros((batch, model.vocabulary), jax.eval_shape(model.logits, token).dtype)
    return jax.tree_util.tree_map(several, model.init_state()), logits


@eqx.filter_jit
def read_chunk(
    model: LanguageModel,
    before: tuple[State, Float[Array, "batch vocabulary"]],
    tokens: Int[Array, "batch time"],
    mask: Bool[Array, "batch time"],
) -> tuple[State, Float[Array, "batch vocabulary"]]:
    """States and logits after the next chunk of every text; what is not there comes last in it, and all of it may be absent."""

    def one(state, logits, tokens, mask):
        x, state = model.read(tokens, state, mask=mask)
        last = jnp.maximum(jnp.sum(mask, dtype=jnp.int32) - 1, 0)
        found = model.logits(jax.lax.dynamic_slice_in_dim(x, last, 1))[0]
        return state, jnp.where(mask[0], found, logits)

    return jax.vmap(one)(*before, tokens, mask)


@eqx.filter_jit(donate="all-except-first")
def _steps(
    model: LanguageModel, carried: tuple[State, Array, Array], number: Int[Array, ""], settings: Settings
) -> tuple[State, Array, Array, Array, Array]:
    """States, logits and keys after one more token of each text; that token, and the logarithm of its probability."""
    temperature, top_k, top_p, min_p = settings

    def one(state, logits, key):
        token = choose_token(
            logits, jr.fold_in(key, number), temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
        )
        following, state = model.step(token, state)
        return state, following, key, token, jax.nn.log_softmax(logits)[token]

    return jax.vmap(one)(*carried)


def _write(
    model: LanguageModel, state: State, logits: Array, keys: Array, length: int, settings: Settings, ends: np.ndarray
) -> list[Written]:
    tokens, logprobs = [], []
    alive = np.ones(len(keys), bool)
    for number in range(length):
        state, logits, keys, chosen, worth = _steps(model, (state, logits, keys), jnp.asarray(number), settings)
        tokens.append(np.asarray(chosen))
        logprobs.append(np.asarray(worth))
        alive &= ~np.isin(tokens[-1], ends)
        if not alive.any():
            break
    found, worth = np.stack(tokens, axis=1), np.stack(logprobs, axis=1)
    ended = [np.flatnonzero(np.isin(row, ends)) for row in found]
    until = [int(at[0]) if len(at) else found.shape[1] for at in ended]
    return [Written(found[i, :n], worth[i, :n], len(ended[i]) > 0) for i, n in enumerate(until)]
