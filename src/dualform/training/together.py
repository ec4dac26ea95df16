"""Trainings that differ in their weights and their seed, in one compiled program, each with a run's folder of its own."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jaxtyping import Array

from dualform.errors import DivergedError, require
from dualform.training.batches import mean_squared_error
from dualform.training.carried import Carried
from dualform.training.config import FitConfig
from dualform.training.fitting import explain
from dualform.training.loop import Fitted, Hooks, begun_in, outcome, train
from dualform.training.member import Member, Progress
from dualform.training.members import Members, default_members, stacked
from dualform.training.optimiser import adamw
from dualform.training.origin import origin
from dualform.training.parameters import decayed, trainable
from dualform.training.processes import Processes
from dualform.training.run import Run
from dualform.training.state import initial_state
from dualform.training.step import make_chunk


def fit_together(
    models: Sequence[Any],
    data: Callable[[Array], tuple[Any, Any]] | Carried,
    config: FitConfig,
    *,
    seeds: Sequence[int],
    runs: Sequence[Run | None] | None = None,
    loss: Callable[[Any, Any, Any], Array] = mean_squared_error,
    scale: float | int = 1.0,
    evaluate: Callable[[Any], Mapping[str, float]] | None = None,
    on_chunk: Callable[[int, Progress], None] | None = None,
    stage: str = "train",
    save_every: float | int = 3.0,
    members: Members | None = None,
) -> list[Fitted | DivergedError]:
    """Train models of the same shapes side by side; each is, and leaves in its folder, what `fit` would give it alone.

    Checkpoints and metrics are those of `fit`, which goes on from them, too, as this does from those of `fit`. Members that are
    at other steps, as a kill may leave them, are trained in turn, those at one step at once. One that is stopped by `patience`,
    or diverges, stops no other.

    **Arguments:** config: of all; its seed is not used.  seeds: of each one's data.  runs: the folder of each, or None.
    on_chunk: called with a member's number, and its progress.  members: as of `fit_ensemble`.  Others as of `fit`.

    **Returns:** for each what `fit` would return, or the error that it would raise where its numbers were no longer finite.

    **Raises:** as `fit` for all else; `InputError` where counts or shapes differ.
    """
    require(len(models) >= 1, "there is no model; give at least one.")
    runs = [None] * len(models) if runs is None else list(runs)
    for name, given in (("seeds", seeds), ("runs", runs)):
        require(len(given) == len(models), f"{len(given)} {name} for {len(models)} models; give one each.")
    require(
        config.patience == 0 or evaluate is not None,
        f"patience is {config.patience}, and there is no evaluate that looks at what is held out; give one, or patience 0.",
    )
    carried = data if isinstance(data, Carried) else None
    sample, first_loss = (data.drawn, data.alone) if isinstance(data, Carried) else (data, loss)
    chunk = make_chunk(
        sample if carried is None else carried.sample,
        config,
        loss=loss if carried is None else carried.loss,
        scale=scale,
        carries=carried is not None,
        members=members or default_members(),
    )
    others = {"trainable": trainable, "decayed": decayed, "reshape": None}
    of = partial(origin, sample=sample, loss=first_loss, scale=scale, batch=(), others=others)
    said = partial(explain, models[0], sample, first_loss, config, ())
    hooks = Hooks(chunk, of, said, evaluate, None, None, None, None, Processes(None), True, together=True)
    found: dict[int, Member] = {}
    with contextlib.ExitStack() as stack:
        for i, (model, seed, run) in enumerate(zip(models, seeds, runs, strict=True)):
            if run is not None:
                stack.enter_context(run.alone())
            own = replace(config, seed=seed)
            fresh = initial_state(model, own, optimiser=adamw(config), carried=carried)
            begun = begun_in(fresh, own, hooks, run, stage)
            found[i] = Member(begun, fresh.model, own, run, stage, save_every)
        for step in sorted({member.step for member in found.values()}):
            numbers = [i for i, member in found.items() if member.step == step]
            tell = None if on_chunk is None else lambda i, progress, numbers=numbers: on_chunk(numbers[i], progress)
            group = [found[i] for i in numbers]
            if any(member.status == "interrupted" for member in found.values()):
                for member in group:
                    member.end("interrupted", member.state)
                continue
            train(group, stacked([member.state for member in group]), config, hooks._replace(on_chunk=tell))
    return [member.error or outcome(member, hooks) for member in found.values()]
