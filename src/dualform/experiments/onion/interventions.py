"""Interventions on the state of a network that repeats: another symbol was read, and the state is mended to say the true one.

- unigram, bigram: orthogonal subspaces for each place, or each pair of neighbours, whose contents come from another run.
- onion: the layer of the false symbol taken off and that of the true one put on, at the scale of the place.
- free: as the onion, but every symbol has another vector at every place: what any sum over places of symbols' vectors can do.
- same: as the onion, at one scale for all places: what a bag of symbols can do.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.experiments.onion.network import Repeated, all_right, drawn, remembered, said
from dualform.lenses.onion import Onion
from dualform.lenses.subspaces import Subspaces
from dualform.tasks.repeat import Repeat

KINDS = ("unigram", "bigram", "onion", "free", "same")
SWAPS = ("unigram", "bigram")
"""Those that take what is true from another run."""


class Case(NamedTuple):
    """A state to be mended; of a batch, each with an axis of it in front.

    - h: (n,), after a sequence with false symbols.  source: (n,), of another run, or h.  moved: (variables,), what of it is true.
    - place, old, new: where one symbol is false, the false one and the true one.
    - inputs, targets: of the true sequence.  noise: of Gumbel, for `Subspaces`, or of no entries.
    """

    h: Float[Array, " n"]
    source: Float[Array, " n"]
    moved: Bool[Array, " variables"]
    place: Int[Array, ""]
    old: Int[Array, ""]
    new: Int[Array, ""]
    inputs: Int[Array, " time"]
    targets: Int[Array, " time"]


class Free(eqx.Module):
    """A vector for each symbol at each place."""

    vectors: Float[Array, "time vocabulary n"]

    def exchanged(self, h, place, old, new):
        """As of `Onion.exchanged`."""
        return h + self.vectors[place, new] - self.vectors[place, old]


class Same(eqx.Module):
    """A vector for each symbol, whatever its place."""

    vectors: Float[Array, "vocabulary n"]

    def exchanged(self, h, place, old, new):
        """As of `Onion.exchanged`."""
        return h + self.vectors[new] - self.vectors[old]


def explaining(kind: str, added: Float[np.ndarray, "time vocabulary n"]) -> Any:
    """An intervention on layers before it is trained: the nearest to what symbols add to the state, in closed form."""
    if kind == "onion":
        return Onion.explaining(added)
    if kind == "free":
        return Free(jnp.asarray(added, jnp.float32))
    return Same(jnp.asarray(np.mean(added, axis=0), jnp.float32))


def mended(intervention: Any, case: Case, noise: Array | None = None) -> Float[Array, " n"]:
    """The state of a case after an intervention."""
    if isinstance(intervention, Subspaces):
        return intervention.exchanged(case.h, case.source, case.moved, noise)
    return intervention.exchanged(case.h, case.place, case.old, case.new)


def cases(kind: str, model: Any, task: Repeat, batch: Repeated, *, key: Array) -> Case:
    """What is to be mended in each of a batch of sequences.

    unigram: each symbol is exchanged for that of the next sequence of the batch with probability 1/2, and the other run has the
    true ones there, the next sequence's elsewhere. bigram: one symbol is false; the other run has it and its neighbours true,
    and random ones elsewhere; moved are both pairs that it is in. Else: one symbol is false.
    """
    for_place, for_symbols, for_flags = jr.split(key, 3)
    count, time = batch.symbols.shape
    places = jnp.arange(time, dtype=jnp.int32)[None]
    place = jnp.floor(jr.uniform(for_place, (count,)) * batch.length.astype(float)).astype(jnp.int32)
    random = jr.randint(for_symbols, (count, time), 1, task.symbols + 1, jnp.int32)
    one = places == place[:, None]
    near = jnp.abs(places - place[:, None]) <= 1
    if kind == "unigram":
        wrong, other = jr.bernoulli(for_flags, 0.5, (count, time)), jnp.roll(batch.symbols, 1, axis=0)
        source, moved = jnp.where(wrong, batch.symbols, other), wrong
    else:
        wrong, other = one, random
        source = jnp.where(near, batch.symbols, jnp.roll(random, 1, axis=0))
        moved = (places[:, :-1] == place[:, None]) | (places[:, :-1] == place[:, None] - 1)
    read = jnp.where(wrong, other, batch.symbols)
    run = jax.vmap(lambda symbols, length: remembered(model, symbols, length))
    h = run(read, batch.length)
    at = lambda symbols: jnp.take_along_axis(symbols, place[:, None], axis=1)[:, 0]
    from_other = run(source, batch.length) if kind in SWAPS else h
    return Case(h, from_other, moved, place, at(read), at(batch.symbols), batch.inputs, batch.targets)


class Cases(eqx.Module):
    """Training's cases: what `fit` calls with a key.

    **Arguments:** model: the network, which is not trained.
    """

    kind: str = eqx.field(static=True)
    task: Repeat
    model: Any

    def __call__(self, key: Array) -> tuple[Any, Array]:
        """Cases with their noise, and their targets."""
        for_data, for_cases, for_noise = jr.split(key, 3)
        batch = cases(self.kind, self.model, self.task, drawn(self.task, for_data), key=for_cases)
        variables = batch.moved.shape[1] + 1
        noise = jr.gumbel(for_noise, (batch.h.shape[1], variables), jnp.float32) if self.kind in SWAPS else None
        return (batch, noise), batch.targets


class Loss(eqx.Module):
    """-log p of what should be said, by the network, from mended states; a loss for `fit`."""

    model: Any

    def __call__(self, intervention: Any, given: Any, targets: Array) -> Array:
        """The mean over all symbols that are to be said."""
        batch, noise = given
        h = jax.vmap(lambda case: mended(intervention, case, noise))(batch)
        return nats(jax.vmap(lambda h, inputs: said(self.model, h, inputs))(h, batch.inputs), targets)


def nats(logits: Float[Array, "batch time vocabulary"], targets: Int[Array, "batch time"]) -> Float[Array, ""]:
    """-log p(target), the mean over the targets that are there."""
    there = targets >= 0
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(there, targets, 0)[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(there, chosen, 0.0)) / jnp.maximum(jnp.sum(there), 1).astype(chosen.dtype)


@eqx.filter_jit
def success(intervention: Any, model: Any, batch: Case) -> Float[Array, ""]:
    """The share of cases of which every symbol of the true sequence is said; without an intervention where that is None."""

    def right(case: Case) -> Array:
        h = case.h if intervention is None else mended(intervention, case)
        return all_right(said(model, h, case.inputs), case.targets)

    return jnp.mean(jax.vmap(right)(batch).astype(jnp.float32))


measured: Callable[..., Case] = eqx.filter_jit(cases)
"""`cases`, compiled: of what is held out."""
