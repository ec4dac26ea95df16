"""Contrastive activation addition: the mean difference between two sets of texts, added to activations or to states.

    v = mean over texts toward of f(text)  -  mean over texts away of f(text)

f is what a block gives, over all tokens of a text or at its last one, or what a block remembers after the last token. A dose of v
is added from a prompt's last token on: to what the block gives at each token; to what the block remembers before each token,
or once. Steering a state is for memories of a fixed size: attention that keeps its keys and values has none to add to.

**Source:** Rimsky et al. 2023 (arXiv 2312.06681) for activations. Paulo et al. 2024 (arXiv 2404.05971) for states; the code that
they published adds to the state once, before the prompt's last token, and reads the one token behind it, the answer. What is
added once to a memory that forgets is soon forgotten; what is added before each token piles up in one that does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from dualform.arrays import State
from dualform.errors import require
from dualform.generation.calls import token_ids
from dualform.generation.fingerprints import fingerprint
from dualform.generation.session import Session
from dualform.generation.surprise import Perplexity, loss_of
from dualform.lenses.added import Added, plus, with_behind, with_states_added
from dualform.lenses.steering_vector import SteeringVector, check_place, stage_and_what
from dualform.lenses.traces import trace
from dualform.models import LanguageModel, with_context
from dualform.token_ids import array_of

Over = Literal["all", "last"]
Adding = Literal["each", "once"]
_NARROWEST = 16


def difference(toward: Sequence[PyTree], away: Sequence[PyTree]) -> PyTree:
    """The mean of `toward` less the mean of `away`, array by array, worked out in float64; None for what is no real number.

    **Arguments:** toward, away: trees of one structure and shapes, at least one of each.

    **Raises:** `InputError` where there are none of one kind.
    """
    for name, each in (("toward", toward), ("away", away)):
        require(len(each) >= 1, f"there are no texts {name}; give at least one.")

    def mean(trees: Sequence[PyTree]) -> PyTree:
        return jtu.tree_map(lambda *leaves: np.mean([np.asarray(a, float) for a in leaves], axis=0), *trees)

    real = [[eqx.filter(tree, eqx.is_inexact_array) for tree in trees] for trees in (toward, away)]
    like = real[0][0]
    return jtu.tree_map(lambda a, b, one: jnp.asarray(a - b, one.dtype), mean(real[0]), mean(real[1]), like)


def contrast(
    model: LanguageModel,
    toward: Iterable[Any],
    away: Iterable[Any],
    places: Sequence[str],
    *,
    over: Over = "all",
) -> SteeringVector:
    """The steering vector from one set of texts to another.

    **Arguments:** toward, away: texts as tokens, each (time,), each of the same weight; places: of `steerable(model)`; over: of
    activations, the mean over all tokens of a text ("all") or the one at the last token ("last"). A state is that after the
    last token.

    **Raises:** `InputError` for no texts, an empty one, tokens out of the vocabulary, a place that there is not, a state that
    cannot be added to, and a difference that is not finite.

        >>> import jax
        >>> from dualform import lenses, models
        >>> model = models.gla(key=jax.random.key(0), vocabulary=7, d=8, layers=2, heads=2)
        >>> vector = lenses.contrast(model, [[1, 2, 3]], [[4, 5]], ["block 2.out", "block 2.state"])
        >>> vector.values["block 2.out"].shape
        (8,)
    """
    require(over in ("all", "last"), f"over is {over!r}; it must be all or last.")
    require(len(places) >= 1, "there are no places; give at least one, such as 'block 1.out'.")
    for place in places:
        check_place(model, place)
    found = []
    for name, texts in (("toward", toward), ("away", away)):
        ids = [token_ids(text, model.vocabulary) for text in texts]
        for number, text in enumerate(ids, start=1):
            require(len(text) >= 1, f"text {number} {name} is empty; give at least one token.")
        found.append([_read(model, text, tuple(places), over) for text in ids])
    values = difference(*found)
    require(
        all(bool(jnp.isfinite(leaf).all()) for leaf in jtu.tree_leaves(values)),
        "the difference of these texts is not finite: an activation or state of them is not.",
    )
    return SteeringVector(values, fingerprint(model), (len(found[0]), len(found[1])))


def random_like(vector: SteeringVector, *, key: Array) -> SteeringVector:
    """A vector in a random direction, each of its arrays of the norm that it has in `vector`: a control."""
    leaves, structure = jtu.tree_flatten(vector.values)
    drawn = [jr.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(jr.split(key, len(leaves)), leaves, strict=True)]
    norm = lambda a: jnp.sqrt(jnp.sum(a * a))
    scaled = [a * (norm(leaf) / norm(a)) for a, leaf in zip(drawn, leaves, strict=True)]
    return SteeringVector(jtu.tree_unflatten(structure, scaled), vector.of, vector.texts)


def steered(
    model: LanguageModel, vector: SteeringVector, times: float | int, *, states: Adding = "each"
) -> LanguageModel:
    """The model with `times` the vector added to what its blocks give, at every token, in every form.

    At 0 it is the model to the bit; with states "each" but for rounding, since they are read token by token.

    **Arguments:** states: the vector's states are added before each token ("each"), or left to `steered_state` ("once").

    **Raises:** `InputError` for a vector of another model, and a dose that is not finite.
    """
    require(states in ("each", "once"), f"states is {states!r}; it must be each or once.")
    vector.check(model)
    outputs, changes = _parted(vector.scaled(times))
    model = with_behind(model, {place: Added(value) for place, value in outputs.items()})
    return model if states == "once" else with_states_added(model, changes)


def steered_state(model: LanguageModel, state: State, vector: SteeringVector, times: float | int) -> State:
    """The state with `times` the vector's states added; counts and flags in it stay, and so do the states of other blocks.

    **Arguments:** state: of a text, or of several, with an axis of texts in front, as a call or a session gives it.

    **Raises:** `InputError` as `steered`.
    """
    vector.check(model)
    return _states_plus(model, state, _parted(vector.scaled(times))[1])


def steered_session(
    model: LanguageModel,
    prompts: Any,
    vector: SteeringVector,
    times: float | int,
    *,
    states: Adding = "each",
    texts: int | None = None,
) -> Session:
    """A session that has read a prompt, and goes on steered from its last token on.

    All but the last token of the prompt is read by the model as it is; the last one, and what is written behind it, go through
    the model of `steered`. At 0 it writes what the model writes at the same key.

    **Arguments:** prompts: a text's tokens, (time,), or with `texts` those of so many, (texts, time), all of one length; states:
    the vector's states are added before each token ("each"), or once, before the prompt's last.

    **Raises:** `InputError` as `steered`, for tokens out of the vocabulary, an empty prompt, and prompts of several lengths.
    """
    changed = steered(model, vector, times, states=states)
    rows = [token_ids(each, model.vocabulary) for each in ([prompts] if texts is None else prompts)]
    lengths = sorted({len(row) for row in rows})
    require(
        len(lengths) == 1, f"the prompts have {' and '.join(map(str, lengths))} tokens; several must be of one length."
    )
    require(lengths[0] >= 1, "the prompt is empty; give at least one token, such as the one that begins a document.")
    of = lambda parts: parts[0] if texts is None else parts
    plain = Session(model, texts=texts, history=0)
    plain.read(of([row[:-1] for row in rows]))
    state = plain.state if states == "each" else steered_state(model, plain.state, vector, times)
    session = Session.after(changed, lengths[0] - 1, state, texts=texts)
    session.read(of([row[-1:] for row in rows]))
    return session


def steered_perplexity(
    model: LanguageModel,
    passages: Int[Array | np.ndarray, "passage time"],
    vector: SteeringVector,
    times: float | int,
    *,
    given: int = 1,
    states: Adding = "each",
) -> Perplexity:
    """What steering costs: the perplexity of passages whose first `given` tokens are read as a prompt is by `steered_session`.

    **Raises:** `InputError` as `steered_session`, and for passages that are no longer than what is given.
    """
    passages = array_of(passages)
    require(
        passages.ndim == 2 and len(passages) >= 1 and 1 <= given < passages.shape[1],
        f"passages have shape {passages.shape}; give (passage, time), each of at least {given + 1} tokens.",
    )
    changed = steered(model, vector, times, states=states)
    near = lambda model: with_context(model, passages.shape[1])
    once = _parted(vector.scaled(times))[1] if states == "once" else {}
    rows = [token_ids(row, model.vocabulary) for row in passages]
    losses = [float(_loss(near(model), near(changed), jnp.asarray(row), once, given)) for row in rows]
    return Perplexity.of(np.array(losses))


@eqx.filter_jit
def _loss(
    model: LanguageModel, changed: LanguageModel, tokens: Int[Array, " time"], once: Any, given: int
) -> Float[Array, ""]:
    """The mean of -log p of the tokens behind those given."""
    state = model.init_state() if given == 1 else model.read(tokens[: given - 1])[1]
    x, _ = changed.read(tokens[given - 1 : -1], _states_plus(model, state, once))
    return loss_of(changed, x, tokens[given:])


def _read(model: LanguageModel, ids: Int[np.ndarray, " time"], places: tuple[str, ...], over: Over) -> dict[str, Any]:
    """What the places have of one text: filled up to a power of 2, so that few programs are compiled."""
    width = max(_NARROWEST, 1 << (len(ids) - 1).bit_length())
    there = np.arange(width) < len(ids)
    return _looked_at(with_context(model, width), np.pad(ids, (0, width - len(ids))), there, places, over)


@eqx.filter_jit
def _looked_at(
    model: LanguageModel,
    ids: Int[Array | np.ndarray, " time"],
    there: Bool[Array | np.ndarray, " time"],
    places: tuple[str, ...],
    over: Over,
) -> dict[str, Any]:
    ids, there = jnp.asarray(ids), jnp.asarray(there)
    outputs = [place for place in places if stage_and_what(place)[1] == "out"]
    run = trace(model, ids, record=outputs, mask=there)
    count = jnp.sum(there, dtype=jnp.int32)

    def of_text(y: Float[Array, "time d"]) -> Float[Array, " d"]:
        if over == "last":
            return y[count - 1]
        return jnp.sum(jnp.where(there[:, None], y, jnp.zeros_like(y)), axis=0) / count.astype(y.dtype)

    states = dict(zip((name for name, _ in model.stages()), model.split(run.state), strict=True))
    return {
        place: of_text(run.recorded[place]) if place in outputs else states[stage_and_what(place)[0]]
        for place in places
    }


def _parted(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is added to outputs, and what to states."""
    of = lambda what: {place: value for place, value in values.items() if stage_and_what(place)[1] == what}
    return of("out"), of("state")


def _states_plus(model: LanguageModel, state: State, changes: Mapping[str, Any]) -> State:
    """A model's state with so much added to those of some blocks."""
    parts = dict(zip((name for name, _ in model.stages()), model.split(state), strict=True))
    for place, change in changes.items():
        stage = stage_and_what(place)[0]
        parts[stage] = plus(parts[stage], change)
    return model.joined(parts.values())
