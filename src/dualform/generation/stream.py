"""Text as it is written: the prompt read in chunks, then a compiled step for each token, its state's memory used again."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import State
from dualform.checkpoints.growing_text import GrowingText
from dualform.checkpoints.tokens import Tokens
from dualform.counts import count_of, whole_numbers
from dualform.errors import require
from dualform.generation.bounded import read_prompt
from dualform.generation.places import check_places
from dualform.generation.room import check_room
from dualform.generation.sampling import Settings, Temperature, choose_token, settings_of
from dualform.models import LanguageModel
from dualform.models.language_model import check_context, checked_tokens
from dualform.models.token_ids import checked_text

CHUNK = 256


def stream(
    model: LanguageModel,
    prompt: Any,
    *,
    key: Array | None = None,
    temperature: Temperature = 1.0,
    top_k: SupportsIndex | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
    chunk: SupportsIndex = CHUNK,
    at_once: bool = False,
) -> Iterator[int]:
    """Tokens that go on from `prompt`, one by one, without an end.

    Two programs are compiled, whatever the prompt's length: one for a chunk of it, one for a token. The state is handed from
    step to step in the same memory. The same key gives the same tokens, which are not those of `generate`.

    **Arguments:** prompt: (time,), from 0 to vocabulary - 1; key, temperature, top_k, top_p, min_p: as of `choose_token`; chunk:
    tokens of the prompt read at once; at_once: the whole prompt by `read_prompt`, for a bounded model.

    **Raises:** `InputError` as `generate` does, at once; for more tokens than there are places where the first of them comes.
    """
    prompt = checked_tokens(prompt, model.vocabulary)
    require(len(prompt) >= 1, "the prompt is empty; give at least one token.")
    chunk = count_of("chunk", chunk, 1, "read at least 1 token of the prompt at once")
    settings = settings_of(key, temperature, top_k, top_p, min_p, model.vocabulary)
    check_context(model, len(prompt))
    check_places(model, len(prompt), what="the prompt")
    check_room(model, 1)
    logits, state = _read_at_once(model, prompt) if at_once else read_in_chunks(model, prompt, chunk)
    return _tokens(model, len(prompt), logits, state, jr.key(0) if key is None else key, settings)


def read_in_chunks(
    model: LanguageModel, prompt: Int[Array, " time"], chunk: int = CHUNK
) -> tuple[Float[Array, " vocabulary"], State]:
    """The logits after the prompt, and the state: the last chunk is filled with tokens that are not there."""
    state, chunk = model.init_state(), min(chunk, max(16, 1 << (len(prompt) - 1).bit_length()))
    logits = jnp.zeros(model.vocabulary)
    for begin in range(0, len(prompt), chunk):
        part = prompt[begin : begin + chunk]
        padded = jnp.pad(part, (0, chunk - len(part)))
        logits, state = _chunk(model, state, padded, jnp.arange(chunk) < len(part))
    return logits, state


@eqx.filter_jit
def _read_at_once(model: LanguageModel, prompt: Array) -> tuple[Float[Array, " vocabulary"], State]:
    return read_prompt(model, prompt)


@eqx.filter_jit
def _chunk(
    model: LanguageModel, state: State, tokens: Int[Array, " time"], mask: Bool[Array, " time"]
) -> tuple[Float[Array, " vocabulary"], State]:
    x, state = model.read(tokens, state, mask=mask)
    last = jax.lax.dynamic_slice_in_dim(x, jnp.sum(mask, dtype=jnp.int32) - 1, 1)
    return model.logits(last)[0], state


@eqx.filter_jit(donate="all-except-first")
def _step(model: LanguageModel, carried: tuple[State, Array, Array], settings: Settings) -> tuple[State, Array, Array]:
    """The state and the logits after one more token; and that token, chosen from the logits before it."""
    state, logits, key = carried
    temperature, top_k, top_p, min_p = settings
    token = choose_token(logits, key, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits, state = model.step(token, state)
    return state, logits, token


def _tokens(
    model: LanguageModel, read: int, logits: Array, state: State, key: Array, settings: Settings
) -> Iterator[int]:
    number = 0
    while True:
        check_context(model, read + number)
        check_places(model, read, number + 1, what="the prompt")
        state, logits, token = _step(model, (state, logits, jr.fold_in(key, number)), settings)
        number += 1
        yield int(token)


def written(
    tokens: Tokens | None,
    ids: Iterable[int],
    length: SupportsIndex,
    stop: Sequence[str] = (),
    ends: Collection[int] = (),
) -> Iterator[str]:
    """The text of tokens that go on from another text, piece by piece, each as soon as it is certain.

    Characters are whole, even where one is of several tokens. What was given is not decoded again.

    **Arguments:** tokens: of the model; None for numbers; length: how many tokens at most; stop: texts before which it ends;
    ends: tokens before which it ends.

    **Raises:** `InputError` for an empty stop, or a length below 1.
    """
    length = count_of("length", length, 1, "give at least 1 token")
    ends = whole_numbers("ends", ends)
    require("" not in stop, "a text to stop at is empty; leave it out.")
    for each in stop:
        checked_text(each)
    growing, held, longest = GrowingText(tokens), "", max((len(each) for each in stop), default=1) - 1
    for place, token in enumerate(ids, start=1):
        if token in ends:
            break
        held += growing.add(token)
        if (at := _first(stop, held)) is not None:
            yield held[:at]
            return
        if len(held) > longest:
            yield held[: len(held) - longest]
            held = held[len(held) - longest :]
        if place == length:
            break
    held += growing.end()
    yield held[: _first(stop, held)]


def _first(stop: Sequence[str], text: str) -> int | None:
    """Where the first of these begins in a text, None where there is none."""
    return min((at for each in stop if (at := text.find(each)) >= 0), default=None)
