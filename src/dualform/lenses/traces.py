"""Running a model while looking at what passes its places, and changing it."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from dualform.arrays import State
from dualform.dual.model_forms import first_activations
from dualform.errors import require
from dualform.models.chain import remembers
from dualform.models.walk import places, walk

STATE = re.compile(r"(?P<stage>.+)\.state@(?P<t>\d+)")
"""The place of a state: a stage's, after token t."""


class Trace(NamedTuple):
    """What `trace` gives.

    - y: (time, d_out), what the model gives with the edits in place.
    - recorded: what went on from every place that was asked for, after its edit.
    - state: what the model remembers after the last token, as its call returns it: it can be handed to the next one.
    """

    y: Float[Array, "time d_out"]
    recorded: dict[str, Any]
    state: State


def trace(
    model: Any,
    x: Any,
    edits: Mapping[str, Callable[[Any], Any]] | None = None,
    *,
    record: Iterable[str] | None = None,
    state: State | None = None,
    start=None,
    mask=None,
) -> Trace:
    """A model's run with what passes some places changed, and recorded.

    Places are named after the model's stages (`model.stages()`) and what these are made of: "block 2.in", "block 2.mixer.in",
    "block 2.mixer.out", "block 2.mlp.out", "block 2.out"; and "block 2.state@5", the state after token 5. An edit is a pure
    function: it takes what passes, activations of (time, d) or a state, and returns what shall go on, of the same shape. Nothing
    is hooked into the model, so that a trace can be compiled, batched and differentiated like any function.

    **Arguments:** model: with `stages()`; x: its tokens or what its first stage takes; edits: a function for each place;
    record: the places to record, every activation but no state if not given; state, start, mask: as of the model's call.

    **Returns:** a `Trace`.

    **Raises:** `InputError` for a place that there is not.

        >>> import jax, jax.random as jr
        >>> from dualform import lenses, mixers, models
        >>> block = models.Block.make(mixers.GLA.make(8, key=jr.key(0)), key=jr.key(1))
        >>> model = models.LanguageModel.make((block,), 16, key=jr.key(2))
        >>> silent = lenses.trace(model, jax.numpy.arange(6), {"block 1.mixer.out": lambda y: 0 * y})
        >>> sorted(silent.recorded)[:3]
        ['block 1.in', 'block 1.mixer.in', 'block 1.mixer.out']
    """
    x, start, mask = first_activations(model, x, start, mask)
    edits, known = dict(edits or {}), places(model)
    wanted = set(known if record is None else record)
    cuts: dict[str, set[int]] = {}
    for place in [*edits, *wanted]:
        _check(place, model, known, len(x), cuts)
    recorded: dict[str, Any] = {}

    def at(place: str, value: Any) -> Any:
        if place in edits:
            value = _kept(place, value, edits[place](value))
        if place in wanted:
            recorded[place] = value
        return value

    in_order = {name: sorted(ends) for name, ends in cuts.items()}
    y, states = walk(model, x, state, start=start, mask=mask, at=at, cuts=in_order)
    return Trace(y, recorded, model.joined(states))


def _kept(place: str, before: Any, value: Any) -> Any:
    """What an edit returned, in the dtypes of what it was given.

    **Raises:** `InputError` unless it has the shapes of that, and is put together in the same way.
    """
    form = lambda tree: jtu.tree_map(jnp.shape, tree)
    same = jtu.tree_structure(value) == jtu.tree_structure(before) and form(value) == form(before)
    require(same, f"the edit at {place!r} returned shape {form(value)} for {form(before)}; it must keep it.")
    return jtu.tree_map(lambda a, b: jnp.asarray(a).astype(b.dtype), value, before)


def _check(place: str, model: Any, known: tuple[str, ...], time: int, cuts: dict[str, set[int]]) -> None:
    """Raise `InputError` unless there is such a place; note where a state is one."""
    if place in known:
        return
    match = STATE.fullmatch(place)
    require(
        match is not None,
        f"there is no place {place!r}; there are {', '.join(known)}, and states such as {known[0].split('.')[0]}.state@0.",
    )
    assert match is not None
    stateful = {name for name, stage in model.stages() if remembers(stage)}
    stage, t = match["stage"], int(match["t"])
    require(
        stage in stateful, f"there is no stage {stage!r} that has a state; there are {', '.join(sorted(stateful))}."
    )
    require(t < time, f"{place!r} lies beyond the last token, {time - 1}.")
    cuts.setdefault(stage, set()).add(t)
