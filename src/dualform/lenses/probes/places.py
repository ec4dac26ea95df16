"""What stands at a token of each of many texts, at some places of a model."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.lenses.traces import trace
from dualform.models.chain import remembers
from dualform.models.walk import places

STATE = ".state"


def layers_of(model: Any) -> tuple[str, ...]:
    """The stages of a model by name, but for the last, whose outputs are the model's own."""
    return tuple(name for name, _ in model.stages())[:-1]


def checked_layer(model: Any, layer: str) -> str:
    """The place that a name stands for: of a stage its output; "STAGE.state" is what it remembers; else a place of `trace`.

    **Raises:** `InputError` where there is none of that name.
    """
    stages, known = dict(model.stages()), places(model)
    if layer in stages:
        return f"{layer}.out"
    name = layer.removesuffix(STATE)
    remembering = [stage for stage in stages if remembers(stages[stage])]
    there = layer in known or (layer.endswith(STATE) and name in remembering)
    require(
        there,
        f"there is no layer {layer!r}; there are {', '.join(stages)}, what they remember, such as "
        f"{(remembering or ['block 1'])[0]}{STATE}, and what they are made of, such as {known[min(1, len(known) - 1)]}.",
    )
    return layer


def activations(
    model: Any, texts: Sequence[Int[np.ndarray, " time"]], at: Sequence[int], layers: Sequence[str]
) -> dict[str, Float[np.ndarray, "row d"]]:
    """At each place, what stands at one token of each text: a row for each text; a state as one vector.

    Texts are padded to lengths of powers of two, at their end: what is causal does not see it.

    **Arguments:** at: the token of each text, from 0; layers: names as of `checked_layer`.

    **Raises:** `InputError` for a layer or token that there is not.
    """
    named = {layer: checked_layer(model, layer) for layer in layers}
    found: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    wanted = tuple(dict.fromkeys(named.values()))
    for number, (ids, place) in enumerate(zip(texts, at, strict=True)):
        require(
            0 <= place < len(ids),
            f"text {number} has {len(ids)} tokens, from 0 to {len(ids) - 1}, and none at {place}.",
        )
        read = np.asarray(ids[: place + 1], np.int32)
        size = 1 << max(2, (len(read) - 1).bit_length())
        padded = np.concatenate([read, np.zeros(size - len(read), np.int32)])
        rows = _at(model, jnp.asarray(padded), jnp.asarray(place, jnp.int32), wanted)
        for layer, name in named.items():
            found[layer].append(np.asarray(rows[name], np.float64))
    return {layer: np.stack(rows) for layer, rows in found.items()}


@eqx.filter_jit
def _at(model: Any, ids: Int[Array, " time"], place: Int[Array, ""], wanted: tuple[str, ...]) -> dict[str, Array]:
    """What stands at one place of one text; the state is that after it, since nothing behind it is read."""
    record = [name for name in wanted if not name.endswith(STATE)]
    run = trace(model, ids, record=record, mask=jnp.arange(len(ids), dtype=place.dtype) <= place)
    names, states = [name for name, _ in model.stages()], model.split(run.state)
    wide = lambda value: value.astype(accumulator(value.dtype))
    rows = {name: wide(run.recorded[name][place]) for name in record}
    for name in wanted:
        if name.endswith(STATE):
            parts = _arrays(states[names.index(name.removesuffix(STATE))])
            rows[name] = jnp.concatenate([wide(part).ravel() for part in parts])
    return rows


def _arrays(state: Any) -> list[Array]:
    """The real arrays of a state: not how many tokens were read, say."""
    return [leaf for leaf in jtu.tree_leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
