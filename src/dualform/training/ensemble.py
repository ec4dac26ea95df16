"""Many networks of the same shapes trained at once, in one compiled loop: the seeds of a sweep."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from dualform.errors import require
from dualform.training.batches import mean_squared_error
from dualform.training.config import FitConfig
from dualform.training.members import Members, default_members, stacked
from dualform.training.state import initial_state
from dualform.training.step import make_step


class FittedEnsemble(NamedTuple):
    """Trained networks.

    - models: in the order given; one that diverged holds what it ended with.
    - steps: (chunk,), training steps done at the end of each chunk.
    - losses: (member, chunk), the mean loss of each chunk, divided by the scale; NaN or infinite from where a member diverged.
    - seconds: in all, compilation included.
    """

    models: list[Any]
    steps: np.ndarray
    losses: np.ndarray
    seconds: float

    @property
    def diverged(self) -> list[bool]:
        """Which members' last loss is not finite."""
        return [not np.isfinite(loss[-1]) for loss in self.losses]


def fit_ensemble(
    models: Sequence[Any],
    sample: Callable[[Array, Any], tuple[Any, Any]],
    config: FitConfig,
    *,
    seeds: Sequence[int],
    tasks: Sequence[Any] | None = None,
    scales: Sequence[float] | None = None,
    rates: Sequence[float] | None = None,
    loss: Callable[[Any, Any, Any], Array] = mean_squared_error,
    members: Members | None = None,
    on_chunk: Callable[[int, Float[np.ndarray, " member"]], None] | None = None,
) -> FittedEnsemble:
    """Train networks of the same shapes side by side; each sees what it would see alone.

    **Arguments:**

    - models: the networks, of one structure and the same shapes.
    - sample: (key, task) -> (x, y), pure.  tasks: what differs between the members' data (a teacher each, say), pytrees of
      one structure; None where nothing does.
    - config: as of `fit`, for all; its seed is not used.  seeds: of each member's data.
    - scales: what each member's loss is divided by; 1 if not given.
    - rates: what each member's learning rate is multiplied by; 1 if not given. So one program searches learning rates.
    - loss: (model, x, y) -> a scalar.
    - members: "vmap", one operation for all of them (the default on accelerators), or "map", one after the other inside the
      loop (the default on a CPU, which gains nothing from products with one more axis).
    - on_chunk: called with the steps done and each member's loss.

    **Returns:** a `FittedEnsemble`. A member that diverges stops nothing: its losses say so.

    **Raises:** `InputError` where counts or shapes differ.
    """
    require(config.patience == 0, "an ensemble looks at nothing that is held out; leave patience at 0.")
    begin, count = time.monotonic(), len(models)
    state, data = members_of(models, config, seeds, tasks, scales, rates)
    chunk = make_ensemble_chunk(sample, config, loss=loss, members=members)
    done, steps, losses = 0, [], []
    while done < config.steps:
        size = min(config.chunk, config.steps - done)
        state, mean = chunk(state, data, jnp.asarray(size, jnp.int32))
        done += size
        steps.append(done)
        losses.append(np.asarray(mean, np.float64))
        if on_chunk is not None:
            on_chunk(done, losses[-1])
    one = lambda i: jtu.tree_map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, state.model)
    return FittedEnsemble(
        [one(i) for i in range(count)],
        np.asarray(steps),
        np.stack(losses, 1) if losses else np.zeros((count, 0)),
        time.monotonic() - begin,
    )


def members_of(
    models: Sequence[Any],
    config: FitConfig,
    seeds: Sequence[int],
    tasks: Sequence[Any] | None = None,
    scales: Sequence[float] | None = None,
    rates: Sequence[float] | None = None,
) -> tuple[Any, Any]:
    """The training state of all members and the data of each, with a leading axis of members.

    **Arguments, Raises:** as `fit_ensemble`.
    """
    count = len(models)
    require(count >= 1, "an ensemble needs at least one network.")
    tasks = [None] * count if tasks is None else list(tasks)
    scales = [1.0] * count if scales is None else list(scales)
    rates = [1.0] * count if rates is None else list(rates)
    for name, given in (("seeds", seeds), ("tasks", tasks), ("scales", scales), ("rates", rates)):
        require(len(given) == count, f"{len(given)} {name} for {count} networks; give one each.")
    state = stacked(
        [initial_state(model, replace(config, seed=seed)) for model, seed in zip(models, seeds, strict=True)]
    )
    number = lambda value: jnp.asarray(value, _real(state.model))
    return state, stacked([(t, number(s), number(r)) for t, s, r in zip(tasks, scales, rates, strict=True)])


def make_ensemble_chunk(
    sample: Callable[[Array, Any], tuple[Any, Any]],
    config: FitConfig,
    *,
    loss: Callable[[Any, Any, Any], Array] = mean_squared_error,
    members: Members | None = None,
) -> Callable[..., tuple[Any, Array]]:
    """A compiled function that takes every member some steps further: (state, data, steps) -> (state, mean losses).

    **Arguments:** as `fit_ensemble`; state and data are those of `members_of`, steps is an array, so that a shorter last chunk
    needs no second compilation.
    """
    members = members or default_members()
    step = make_step(
        lambda key, task, scale: (sample(key, task), scale),
        config,
        loss=lambda model, xy, scale: loss(model, *xy) / scale,
    )

    @eqx.filter_jit
    def chunk(state, data, steps):
        arrays, static = eqx.partition(state, eqx.is_array)
        real = _real(state.model)

        def one(arrays, data):
            task, scale, rate = data

            def body(_, carried):
                arrays, total = carried
                state, value = step(eqx.combine(arrays, static), task, scale, rate=rate)
                return eqx.filter(state, eqx.is_array), total + value.astype(real)

            return jax.lax.fori_loop(0, steps, body, (arrays, jnp.zeros((), real)))

        if members == "vmap":
            arrays, total = jax.vmap(one)(arrays, data)
        else:
            arrays, total = jax.lax.map(lambda each: one(*each), (arrays, data))
        return eqx.combine(arrays, static), total / steps.astype(real)

    return chunk


def _real(models: Any) -> Any:
    """The dtype of losses and of what they are divided by: float64 where a network has it, else float32."""
    wide = any(leaf.dtype == jnp.float64 for leaf in jtu.tree_leaves(models) if eqx.is_inexact_array(leaf))
    return jnp.float64 if wide else jnp.float32
