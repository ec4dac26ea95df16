"""Texts that go on from prompts: each of these is a `Session` that reads and writes."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, SupportsIndex

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dualform.arrays import State
from dualform.counts import count_of
from dualform.errors import require
from dualform.generation.bounding import read_prompt
from dualform.generation.calls import CHUNK, token_ids
from dualform.generation.places import check_places, read_before
from dualform.generation.room import check_room
from dualform.generation.sampling import settings_of
from dualform.generation.session import Session
from dualform.generation.snapshot import Written
from dualform.models import LanguageModel
from dualform.models.language_model import check_context


def generate(
    model: LanguageModel, prompt: Any, length: SupportsIndex, *, state: State | None = None, **sampling: Any
) -> tuple[Int[Array, " length"], State]:
    """`length` tokens that go on from `prompt`.

    **Arguments:**

    - prompt: (time,), integers from 0 to vocabulary - 1.  length: how many tokens to add.
    - state: of what was read before the prompt; nothing was if not given.
    - sampling: key, temperature, top_k, top_p, min_p, as of `choose_token`; a temperature of 0 needs no key.

    **Returns:** the new tokens, and the state after all of them but the last: `generate(model, tokens[-1:], more,
    state=state)` goes on, at temperature 0 as if it had never stopped.

    **Raises:** `InputError` for an empty prompt, tokens that are no integers or out of the vocabulary, a length below 1, more
    tokens than the model's context or than the policy "full" has places, sampling that makes no sense, and under `jax.jit`.
    """
    length = count_of("length", length, 1, "give a whole number of tokens, at least 1")
    before = read_before(state)
    [prompt] = _checked(model, [prompt], length, before, sampling)
    session = Session(model, history=0) if state is None else Session.after(model, before, state)
    session.read(prompt)
    [text] = session.written(length, read_last=False, **sampling)
    return jnp.asarray(text.tokens), session.state


def stream(
    model: LanguageModel, prompt: Any, *, chunk: SupportsIndex = CHUNK, at_once: bool = False, **sampling: Any
) -> Iterator[int]:
    """Tokens that go on from `prompt`, one by one, without an end; each was read when it is given.

    **Arguments:** prompt, sampling: as of `generate`; chunk: tokens of the prompt read at once; at_once: the whole prompt by
    `read_prompt`, for a bounded model.

    **Raises:** `InputError` as `generate` does, at once; for more tokens than there are places where the first of them comes.
    """
    [prompt] = _checked(model, [prompt], 0, 0, sampling)
    if at_once:
        logits, state = _read_at_once(model, jnp.asarray(prompt))
        session = Session.after(model, len(prompt), state, logits)
    else:
        session = Session(model, chunk=chunk, history=0)
        session.read(prompt)
    return session.stream(**sampling)


def generate_batch(
    model: LanguageModel,
    prompts: Sequence[Any],
    length: SupportsIndex,
    *,
    ends: Collection[int] = (),
    chunk: SupportsIndex = CHUNK,
    **sampling: Any,
) -> list[Written]:
    """At most `length` tokens that go on from each of `prompts`, which may be of different lengths.

    Each text has the tokens that `generate` gives it alone with its key, of `generation.text_keys`, which is the key itself for
    the first one; but for rounding: a product over several texts may sum in another order. It stops where all texts have ended.

    **Arguments:** prompts, length, sampling: as of `generate`; ends: tokens that end a text, and are no part of it; chunk: tokens
    of a prompt read at once.

    **Raises:** `InputError` as `generate` does, and where the states of all texts do not fit into memory.
    """
    require(len(prompts) >= 1, "there are no prompts; give at least one.")
    length = count_of("length", length, 1, "give at least 1 token")
    given = _checked(model, prompts, length, 0, sampling)
    session = Session(model, texts=len(given), chunk=chunk, history=0)
    session.read(given)
    texts = session.written(length, ends=ends, read_last=False, **sampling)
    return [Written(each.tokens[:-1], each.logprobs[:-1], True) if each.ended else each for each in texts]


def _checked(
    model: LanguageModel, prompts: Sequence[Any], length: int, before: int, sampling: dict[str, Any]
) -> list[Any]:
    """The prompts as arrays, where nothing that is asked for has to be refused later."""
    found = []
    for number, prompt in enumerate(prompts, start=1):
        what = "the prompt" if len(prompts) == 1 else f"prompt {number}"
        ids = token_ids(prompt, model.vocabulary)
        require(len(ids) >= 1, f"{what} is empty; give at least one token, such as the one that begins a document.")
        check_context(model, before + len(ids) + max(length - 1, 0))
        check_places(model, len(ids), length, before=before, what=what)
        found.append(ids)
    settings_of(model.vocabulary, **sampling)
    if length and not before:
        check_room(model, len(found), max(map(len, found)) + length)
    return found


@eqx.filter_jit
def _read_at_once(model: LanguageModel, prompt: Array) -> tuple[Float[Array, " vocabulary"], State]:
    return read_prompt(model, prompt)
