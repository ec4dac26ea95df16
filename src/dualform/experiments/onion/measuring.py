"""One network that repeats: trained, then every intervention and every probe of it trained, and measured on what is held out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.experiments.onion import interventions, probes
from dualform.experiments.onion.network import Repeated, all_right, drawn, held_out, network, remembered, said
from dualform.experiments.onion.slots import Slots
from dualform.lenses.onion import token_effects
from dualform.lenses.probes.onion import Rows, told_loss
from dualform.lenses.subspaces import Subspaces
from dualform.tasks.repeat import Repeat
from dualform.training import FitConfig, Run, fit

PLANTED = "slots"
"""The network that is constructed, for whose linear memory interventions must be found."""

HELD, SEEN, POOL = 2048, 16_384, 2048
"""Sequences that are held out; of which subspaces are computed; that are read at once."""

LEAST = {"linear": ("unigram", "bigram"), "layers": ("onion",), "probe": ("linear",), "onion probe": ("onion",)}
MORE = {"linear": (), "layers": ("free", "same"), "probe": ("mlp", "gru"), "onion probe": ()}
"""What is trained of every network, and of the first seed alone."""


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One network of one seed, all that is trained of it in one run's folder, which goes on where it was stopped."""
    run, seed, steps = Run.create(folder / "run", config), config["seed"], config["steps"]
    task = Repeat(batch=config["batch"], held=HELD)
    longest = replace(task, shortest=task.time)
    weights, for_cases = jr.split(jr.key(seed))
    if config["network"] == PLANTED:
        model: Any = Slots.make(config["width"], longest, key=weights)
        return swapped(model, "unigram", longest, run, seed, steps["linear"], config["width"], for_cases)
    model = network(config["network"], config["width"], task, key=weights)
    untrained = model
    model = _trained(model, task.sample, task.loss, config, run, "network", weight_decay=0.3)
    n = len(remembered(model, jnp.zeros(task.time, jnp.int32), jnp.asarray(1, jnp.int32)))
    test = held_out(task, "test")
    found: dict[str, Any] = {"seed": seed, "network": float(repeats(model, test))}
    for kind in _kinds("linear", config):
        found |= swapped(model, kind, longest, run, seed, steps["linear"], n, for_cases)
    cases = interventions.measured("onion", model, task, test, key=for_cases)
    found["nothing"] = float(interventions.success(None, model, cases))
    pool = remembered_pool(model, task, config["rows"], config["pool"], jr.key(seed))
    added = added_of(pool, task)
    found |= {"one scale": one_scale(added)}
    for kind in _kinds("layers", config):
        first = interventions.explaining(kind, added)
        data, loss = interventions.Cases(kind, task, model), interventions.Loss(model)
        best = _trained(first, data, loss, config, run, kind, of="layers")
        found[kind] = float(interventions.success(best, model, cases))
        found[f"{kind} closed form"] = float(interventions.success(first, model, cases))
        found |= _scales(best, n) if kind == "onion" else {}
    for of in ("probe", "onion probe"):
        for kind in _kinds(of, config):
            fresh = probes.made(kind, n, task, key=jr.fold_in(weights, 2), added=added)
            best = _trained(fresh, pool, told_loss, config, run, f"{kind}-probe", of=of)
            found[f"{kind} probe"] = float(probes.exact(best, model, test))
    if config["more"]:
        other = remembered_pool(untrained, task, config["rows"], config["pool"], jr.key(seed))
        fresh = probes.made("onion", n, task, key=jr.fold_in(weights, 2), added=added_of(other, task))
        best = _trained(fresh, other, told_loss, config, run, "untrained", of="onion probe")
        found["untrained"] = float(probes.exact(best, untrained, test))
    return found


def swapped(
    model: Any, kind: str, task: Repeat, run: Run, seed: int, steps: int, n: int, key: Array
) -> dict[str, float]:
    """What linear subspaces can do: as computed, and as trained from there; what validation prefers is what counts."""
    seen = replace(task, batch=SEEN)
    batch = eqx.filter_jit(drawn)(seen, jr.key(seed + 2**20))
    h = np.asarray(eqx.filter_jit(probes.states)(model, batch))
    first = Subspaces.explaining(h, np.asarray(batch.symbols), 1 + (kind == "bigram"))
    told = {"width": n, "batch": task.batch, "seed": seed, "steps": {"linear": steps}}
    data, loss = interventions.Cases(kind, task, model), interventions.Loss(model)
    trained = _trained(first, data, loss, told, run, kind, of="linear")
    looked, asked = (
        interventions.measured(kind, model, task, held_out(task, split), key=key) for split in ("validation", "test")
    )
    best = max((first, trained), key=lambda each: float(interventions.success(each, model, looked)))
    return {
        kind: float(interventions.success(best, model, asked)),
        f"{kind} closed form": float(interventions.success(first, model, asked)),
        f"{kind} nothing": float(interventions.success(None, model, asked)),
    }


@eqx.filter_jit
def repeats(model: Any, batch: Repeated) -> Float[Array, ""]:
    """The share of sequences of which a network says every symbol right."""

    def right(each: Repeated) -> Array:
        return all_right(said(model, remembered(model, each.symbols, each.length), each.inputs), each.targets)

    return jnp.mean(jax.vmap(right)(batch).astype(jnp.float32))


def added_of(pool: Rows, task: Repeat) -> Float[np.ndarray, "time vocabulary n"]:
    """What each symbol at each place adds to the states of training's sequences, in the mean."""
    return token_effects(np.asarray(pool.x[:SEEN]), np.asarray(pool.labels[:SEEN]), task.vocabulary)


def one_scale(added: Float[np.ndarray, "time vocabulary n"]) -> float:
    """How much of what symbols add is one embedding, scaled entry by entry at each place: the share of squares."""
    s = np.linalg.svd(np.moveaxis(added, -1, 0), compute_uv=False)
    return float(np.sum(np.square(s[:, 0])) / np.sum(np.square(s)))


def remembered_pool(model: Any, task: Repeat, rows: int, count: int, key: Array) -> Rows:
    """States of so many of training's sequences, from which probes' batches of so many rows are drawn."""
    wide = replace(task, batch=POOL)
    parts = [_states(model, wide, jr.fold_in(key, i)) for i in range(-(-count // POOL))]
    h, targets = (jnp.concatenate(each) for each in zip(*parts, strict=True))
    return Rows(h, targets, rows)


@eqx.filter_jit
def _states(model: Any, task: Repeat, key: Array) -> tuple[Array, Array]:
    batch = drawn(task, key)
    return probes.states(model, batch), batch.targets


def _kinds(of: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    return LEAST[of] + (MORE[of] if config["more"] else ())


def _scales(onion: Any, n: int) -> dict[str, Any]:
    """The gammas of an onion intervention, and how much of each place's scale is gamma's."""
    gamma = np.sort(np.abs(np.asarray(onion.gamma, np.float64)))
    return {"gammas": [round(float(each), 4) for each in gamma[:: max(1, n // 16)]]}


def _trained(
    model: Any,
    data: Any,
    loss: Any,
    config: Mapping[str, Any],
    run: Run,
    stage: str,
    *,
    of: str = "network",
    weight_decay: float = 0.0,
) -> Any:
    """A module after its training.

    **Raises:** `KeyboardInterrupt` where that was stopped.
    """
    steps = config["steps"][of]
    rate = 1e-2 * min(1.0, (64 / config["width"]) ** 0.5)
    settings = FitConfig(
        steps=steps,
        chunk=min(steps, 500),
        warmup=min(100, steps // 5),
        learning_rate=rate,
        final_learning_rate=rate / 100,
        weight_decay=weight_decay,
        clip=float("inf") if of == "network" else 1.0,
        seed=config["seed"],
    )
    fitted = fit(model, data, settings, loss=loss, run=run, stage=stage, save_every=30.0)
    if fitted.status == "interrupted":
        raise KeyboardInterrupt
    return fitted.model
