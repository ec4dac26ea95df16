"""A model run place by place: what passes each named place may be looked at, and changed.

The places of a stage NAME: `NAME.in`, `NAME.out`; of a block also `NAME.mixer.in`, `NAME.mixer.out` and, with an MLP,
`NAME.mlp.out`; and, of a stage that remembers, `NAME.state@t`, its state after token t.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import State
from dualform.maps import present
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.stages import stage_states

At = Callable[[str, Any], Any]
"""Called at every place with its name and what passes there; what it returns goes on."""


def walk(
    model: Any,
    x: Float[Array, "time d"],
    state: State | None = None,
    *,
    start=None,
    mask=None,
    at: At,
    cuts: Mapping[str, Sequence[int]] | None = None,
) -> tuple[Float[Array, "time d_out"], tuple[State, ...]]:
    """What a model gives, with `at` called at every place on the way.

    **Arguments:** x: what its first stage takes; state, start, mask: as of its call; cuts: for a stage's name, the tokens
    after which its state is a place, too, in order.

    **Returns:** the last stage's output, and every stage's state.
    """
    states, dtype, stages = [], x.dtype, model.stages()
    for number, ((name, stage), before) in enumerate(zip(stages, stage_states(model, state), strict=True)):
        x = at(f"{name}.in", present(x, mask))
        if isinstance(stage, Block):
            x, after = _block(name, stage, x, before, start, mask, at, (cuts or {}).get(name, ()))
        else:
            x, after = _in_parts(name, stage, x, before, start, mask, at, (cuts or {}).get(name, ()))
        # Each stage reads what the one before it gives in the dtype of x; only a language model's logits stay wider.
        logits = number == len(stages) - 1 and isinstance(model, LanguageModel)
        x = at(f"{name}.out", present(x if logits else x.astype(dtype), mask))
        states.append(after)
    return x, tuple(states)


def places(model: Any) -> tuple[str, ...]:
    """The names of a model's places, in order, but for those of states."""
    found = []
    for name, stage in model.stages():
        inside = ()
        if isinstance(stage, Block):
            inside = ("mixer.in", "mixer.out") if stage.mlp is None else ("mixer.in", "mixer.out", "mlp.out")
        found += [f"{name}.{place}" for place in ("in", *inside, "out")]
    return tuple(found)


def _block(name, block: Block, x, state, start, mask, at: At, cuts) -> tuple[Array, State]:
    inside = at(f"{name}.mixer.in", x if block.norm is None else block.norm(x))
    y, state = _in_parts(name, block.mixer, inside, state, start, mask, at, cuts)
    x = x + at(f"{name}.mixer.out", y)
    if block.mlp is not None:
        x = x + at(f"{name}.mlp.out", present(block.mlp(x if block.mlp_norm is None else block.mlp_norm(x)), mask))
    return x, state


def _in_parts(name, stage, x, state, start, mask, at: At, cuts) -> tuple[Array, State]:
    """The whole sequence, or stretch by stretch with the state handed on through its place."""
    outputs, first = [], 0
    for end in [*(cut + 1 for cut in cuts), len(x)]:
        if end > first:
            part = lambda a, first=first, end=end: None if a is None else a[first:end]
            y, state = run_stage(stage, x[first:end], state, part(start), part(mask))
            outputs.append(y)
        if end - 1 in cuts:
            state = at(f"{name}.state@{end - 1}", state)
        first = end
    return (outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs)), state


def run_stage(stage: Any, x, state, start, mask) -> tuple[Array, State]:
    """One stage's own output and state: called with state and flags where it has `init_state`, else token by token."""
    if hasattr(stage, "init_state"):
        return stage(x, state, start=start, mask=mask)
    return present(stage(present(x, mask)), mask), ()
