"""How well a language model predicts a text, passage by passage, with an interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.counts import count_of
from dualform.errors import require
from dualform.generation.places import check_places
from dualform.intervals import mean_interval
from dualform.models import LanguageModel
from dualform.models.language_model import checked_tokens
from dualform.token_ids import array_of

BLOCK = 128


class Perplexity(NamedTuple):
    """exp of the mean loss of a token.

    - value; low, high: an interval of 95% for the text that the passages are drawn from, from their spread, by Student's t; of
      one passage, which has no spread, from 0 to infinity.
    - losses: (passage,), the mean loss of each passage's tokens, in nats.
    """

    value: float
    low: float
    high: float
    losses: Float[np.ndarray, " passage"]

    @classmethod
    def of(cls, losses: Float[np.ndarray, " passage"]) -> "Perplexity":
        """From the losses: their mean, and the interval in which it is known.

        See `dualform.intervals.mean_interval`.
        """
        mean, low, high = mean_interval(losses)
        return cls(_exp(mean), _exp(low), _exp(high), losses)

    @property
    def nats(self) -> tuple[float, float, float]:
        """The logarithms of value, low and high: nats a token, also where they themselves are beyond all numbers."""
        return mean_interval(self.losses)


def _exp(exponent: float) -> float:
    """exp, infinite where it has no number."""
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf


def perplexity(
    model: LanguageModel, passages: Int[Array | np.ndarray, "passage time"], given: SupportsIndex = 1
) -> Perplexity:
    """The perplexity of passages, each read from its own beginning: of every token but the first, given those before it.

    A bounded model reads token by token: what it has dropped is not there for what follows.

    **Arguments:** given: how many of the first tokens are only read, such as those that stand before every text.

    **Raises:** `InputError` for passages that are not longer than what is given, have a token that the model has not, or more
    tokens than the policy "full" has places.
    """
    given = count_of("given", given, 1, "at least the first token of a passage is only read")
    passages = array_of(passages)
    require(
        passages.ndim == 2 and len(passages) >= 1 and passages.shape[1] > given,
        f"passages have shape {passages.shape}; give (passage, time), each of at least {given + 1} tokens.",
    )
    check_places(model, passages.shape[1] - 1, what="a passage, but for its last token,")
    for passage in passages:
        checked_tokens(passage, model.vocabulary)
    return Perplexity.of(np.array([float(_loss(model, jnp.asarray(passage), given)) for passage in passages]))


def passages_of(
    tokens: Int[np.ndarray, " time"], count: int, length: int, begin: Sequence[int] = ()
) -> Int[np.ndarray, "passage length"]:
    """As many as `count` passages, evenly spread over the text, the first at its beginning, none upon another.

    **Arguments:** begin: what stands before each, as before every text; it counts among its `length` tokens.

    **Raises:** `InputError` where the text has not even one.
    """
    require(count >= 1 and length >= 2, f"{count} passages of {length} tokens: give at least 1 of at least 2.")
    require(
        length > len(begin),
        f"passages of {length} tokens have no place behind the {len(begin)} that stand before a text. Give longer ones.",
    )
    length -= len(begin)
    require(
        len(tokens) >= length,
        f"the text has {len(tokens):,} tokens; a passage needs {length:,}. Give a longer text, or shorter passages.",
    )
    count = min(count, len(tokens) // length)
    begins = np.linspace(0, len(tokens) - length, count).astype(int) if count > 1 else np.zeros(1, int)
    found = np.stack([tokens[at : at + length] for at in begins])
    return np.concatenate([np.tile(np.array(begin, found.dtype), (count, 1)), found], axis=1)


@eqx.filter_jit
def _loss(model: LanguageModel, tokens: Int[Array, " time"], given: int) -> Float[Array, ""]:
    """The mean of -log p of a passage's tokens behind those given."""
    x, _ = model.read(tokens[:-1])
    return loss_of(model, x[given - 1 :], tokens[given:])


def loss_of(model: LanguageModel, x: Float[Array, "time d"], targets: Int[Array, " time"]) -> Float[Array, ""]:
    """The mean of -log p of tokens, in nats, from what `read` gives of the token before each.

    Logits are made by blocks, since those of all tokens may not fit into memory.
    """

    def one(inputs):
        x, target = inputs
        return -jax.nn.log_softmax(model.logits(x[None])[0])[target]

    return jnp.mean(jax.lax.map(one, (x, targets), batch_size=min(BLOCK, len(x))))
