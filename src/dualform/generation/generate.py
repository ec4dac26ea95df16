"""Text from a language model: the prompt read in parallel, then one step for each token."""

from typing import Any, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from dualform.arrays import State
from dualform.counts import count_of
from dualform.errors import require
from dualform.generation.places import check_places, read_before
from dualform.generation.room import check_room
from dualform.generation.sampling import Settings, Temperature, choose_token, settings_of
from dualform.models import LanguageModel
from dualform.models.language_model import check_context, checked_tokens
from dualform.models.token_ids import array_of


def generate(
    model: LanguageModel,
    prompt: Any,
    length: SupportsIndex,
    *,
    key: Array | None = None,
    temperature: Temperature = 1.0,
    top_k: SupportsIndex | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
    state: State | None = None,
) -> tuple[Int[Array, " length"], State]:
    """`length` tokens that go on from `prompt`.

    The prompt is read in parallel; then each token is one step, in constant memory. Both are compiled once for each length.

    **Arguments:**

    - prompt: (time,), integers from 0 to vocabulary - 1.  length: how many tokens to add.
    - key, temperature, top_k, top_p, min_p: as of `choose_token`; a temperature of 0 needs no key.
    - state: of what was read before the prompt; nothing was if not given.

    **Returns:** the new tokens, and the state after all of them but the last: `generate(model, tokens[-1:], more,
    state=state)` goes on, at temperature 0 as if it had never stopped.

    **Raises:** `InputError` for an empty prompt, tokens that are no integers or out of the vocabulary, a length below 1, more
    tokens than the model's context or than the policy "full" has places, and sampling that makes no sense.
    """
    prompt = prompt if hasattr(prompt, "dtype") else array_of(prompt)
    require(
        0 not in prompt.shape,
        "the prompt is empty; give at least one token, such as the one that begins a document.",
    )
    prompt = checked_tokens(prompt, model.vocabulary)
    length = count_of("length", length, 1, "give a whole number of tokens, at least 1")
    settings = settings_of(key, temperature, top_k, top_p, min_p, model.vocabulary)
    before = read_before(model, state)
    if state is not None or length > 1:
        check_context(model, before + len(prompt) + length - 1)
    check_places(model, len(prompt), length, before=before, what="the prompt")
    check_room(model, 1)
    key = jr.key(0) if key is None else key  # at temperature 0 it is not read
    first, state = _read(model, prompt, model.init_state() if state is None else state)
    return _write(model, first, state, key, length, settings)


@eqx.filter_jit
def _read(model: LanguageModel, prompt: Array, state: State) -> tuple[Float[Array, " vocabulary"], State]:
    """The logits after the prompt: of its last token alone, since all of them may not fit into memory."""
    x, state = model.read(prompt, state)
    return model.logits(x[-1:])[0], state


@eqx.filter_jit
def _write(
    model: LanguageModel,
    logits: Float[Array, " vocabulary"],
    state: State,
    key: Array,
    length: int,
    settings: Settings,
) -> tuple[Int[Array, " length"], State]:
    """The tokens, one after the other."""
    temperature, top_k, top_p, min_p = settings
    choose = lambda logits, key: choose_token(
        logits, key, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )

    def step(carried, key):
        token, state = carried
        logits, state = model.step(token, state)
        following = choose(logits, key)
        return (following, state), following

    keys = jr.split(key, length)
    first = choose(logits, keys[0])
    (_, state), rest = jax.lax.scan(step, (first, state), keys[1:])
    return jnp.concatenate([first[None], rest]), state
