"""The logit lens: what each layer of a model would already say, read through the model's own final norm and unembedding."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.arrays import State, accumulator
from dualform.compiled import compiled
from dualform.counts import count_of
from dualform.lenses.lens_layers import LensLayers, hidden_states, lens_layers
from dualform.lenses.tuned_lens import TunedLens, translated
from dualform.maps import present

BITS = 1 / math.log(2)
"""A nat in bits."""


class LensReading(NamedTuple):
    """What each layer would already say of each token's successor.

    - layers: their names; the last is what the model says in the end.
    - kl: (layer, time), KL(final || lens), how far the lens is from what the model says in the end, in nats; 0 where they agree.
    - entropy: (layer, time), of what the lens says, in nats, from 0 to log(outputs).
    - top: (layer, time, rank), the outputs that the lens holds for the likeliest, the first one first.
    - log_probability: (layer, time, rank), of each of these, in nats.

    Where there is no token, all but `top` is 0.
    """

    layers: tuple[str, ...]
    kl: Float[np.ndarray, "layer time"]
    entropy: Float[np.ndarray, "layer time"]
    top: Int[np.ndarray, "layer time rank"]
    log_probability: Float[np.ndarray, "layer time rank"]

    @property
    def kl_bits(self) -> Float[np.ndarray, "layer time"]:
        """The KL in bits."""
        return self.kl * BITS

    @property
    def entropy_bits(self) -> Float[np.ndarray, "layer time"]:
        """The entropy in bits."""
        return self.entropy * BITS


def logit_lens(
    model: Any,
    x: Any,
    *,
    tuned: TunedLens | None = None,
    top: int = 10,
    state: State | None = None,
    start=None,
    mask=None,
) -> LensReading:
    """What every layer of a model would already say, if the model ended there.

    What a layer gives is read by all that stands behind the last layer, the final norm and the unembedding as they are:

        lens_l = log softmax(readout(h_l)),        KL_l = sum_v final(v) (log final(v) - lens_l(v)),

    with final the model's own answer, the last layer's. So KL is 0 at the last layer, and wherever nothing changes any more. A
    tuned lens reads h_l + A_l h_l + b_l in place of h_l.

    **Arguments:** model: with `stages()` that end in norms and a linear readout, whose outputs are the logits of one choice; x:
    its tokens, (time,), or what its first stage takes; tuned: translators that were trained for this model; top: how many of the
    likeliest outputs to give, as many as there are if fewer; state, start, mask: as of the model's call.

    **Returns:** a `LensReading`.

    **Raises:** `InputError` for a model without an unembedding, translators of another model, and as the model's call does.

    **Source:** nostalgebraist 2020, "interpreting GPT: the logit lens"; the direction of KL is that of Belrose et al. 2023
    (arXiv 2303.08112). Layer 0, "embedding", is what the first block reads.

        >>> import jax
        >>> from dualform import lenses, mixers, models
        >>> block = models.Block.make(mixers.GLA.make(8, key=jax.random.key(0)), key=jax.random.key(1))
        >>> model = models.LanguageModel.make((block,), 16, key=jax.random.key(2))
        >>> reading = lenses.logit_lens(model, jax.numpy.arange(6))
        >>> reading.layers, reading.kl.shape, bool((reading.kl[-1] == 0).all())
        (('embedding', 'block 1'), (2, 6), True)
    """
    top = count_of("top", top, 1, "give how many of the likeliest outputs to name, at least 1")
    layers = lens_layers(model)
    given = _given(model, layers, x, tuned, state, start, mask)
    return LensReading(layers.names, *map(np.asarray, _reading(min(top, layers.outputs), *given)))


def lens_log_probabilities(
    model: Any,
    x: Any,
    layer: str,
    *,
    tuned: TunedLens | None = None,
    state: State | None = None,
    start=None,
    mask=None,
) -> Float[Array, "time outputs"]:
    """All that one layer would say: the logarithm of the probability of every output, in nats.

    **Arguments:** layer: a name of `LensReading.layers`; the others, and errors, as of `logit_lens`.

    **Raises:** `InputError` for a layer that there is not.
    """
    layers = lens_layers(model)
    number = layers.number(layer)
    readout, hidden, translators, start, mask = _given(model, layers, x, tuned, state, start, mask)
    parts = tuple(each[number] for each in translators)
    return _one_layer(readout, hidden[number], parts, start, mask)


def _given(model: Any, layers: LensLayers, x: Any, tuned: TunedLens | None, state: Any, start: Any, mask: Any) -> Any:
    """What the programs below take: the readout, what the layers give, a translator for each, the flags."""
    hidden = hidden_states(model, layers, x, state, start, mask)
    translators = ()
    if tuned is not None:
        tuned.check(model)
        translators = tuned.padded(len(layers.names))
    flags = (None if flag is None else jnp.asarray(flag, bool) for flag in (start, mask))
    return layers.readout, hidden, translators, *flags


def said(readout: Any, h: Float[Array, "time d"], translator: tuple[Array, ...], start: Any, mask: Any):
    """The log-probabilities that a readout gives of what a layer gave, translated where there is a translator."""
    logits, _ = readout(translated(h, *translator), start=start, mask=mask)
    return jax.nn.log_softmax(logits.astype(accumulator(logits.dtype)))


def divergence(final: Float[Array, "*time outputs"], lens: Float[Array, "*time outputs"]) -> Float[Array, "*time"]:
    """KL(final || lens) of log-probabilities, in nats."""
    return jnp.sum(jnp.exp(final) * (final - lens), axis=-1)


@compiled
def _reading(top: int, readout: Any, hidden: Any, translators: Any, start: Any, mask: Any):
    """For each layer KL, entropy and the likeliest outputs; one layer after the other, since logits of all may not fit."""
    final = said(readout, hidden[-1], (), start, mask)

    def one(given):
        lens = said(readout, given[0], given[1], start, mask)
        likely, numbers = jax.lax.top_k(lens, top)
        there = lambda a: present(a.reshape(len(a), -1), mask).reshape(a.shape)
        return there(divergence(final, lens)), there(-jnp.sum(jnp.exp(lens) * lens, -1)), numbers, there(likely)

    return jax.lax.map(one, (hidden, translators))


@compiled
def _one_layer(readout: Any, h: Any, translator: Any, start: Any, mask: Any) -> Array:
    return said(readout, h, translator, start, mask)
