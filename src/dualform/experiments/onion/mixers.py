"""How networks of other mixers store what they repeat, in closed form: nothing is trained but the networks and a linear probe.

Least squares tell what each symbol at each place adds to all that a network remembers. Places that have directions of their own
are linear; those that share them, at one scale each, are an onion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.experiments.onion import interventions, probes
from dualform.experiments.onion.measuring import SEEN, added_of, one_scale, remembered_pool, repeats
from dualform.experiments.onion.network import held_out, network
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, ours_alone, results_of
from dualform.lenses.onion import token_effects
from dualform.lenses.probes.onion import Rows, told_loss
from dualform.lenses.subspaces import Subspaces
from dualform.mixers import GRU
from dualform.models.architecture import Architecture
from dualform.tasks.repeat import Repeat
from dualform.training import FitConfig, Job, Run, fit

HELD = 2048
"""Sequences that are held out."""

COVERED = 0.9
"""The share of what a place adds that the directions counted as its own cover."""

ALONE = ("gru", "gru autonomous", "lstm")
"""One layer between an embedding and a readout, as in the paper; of all others two blocks with an MLP behind each mixer."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {
        "networks": {
            **dict.fromkeys(("gru", "gru autonomous", "lstm"), 64),
            **dict.fromkeys(("min_gru", "gla", "delta_rule", "mamba"), 32),
        },
        "seeds": 1,
        "batch": 64,
        "steps": {"network": 4000, "probe": 1000},
    },
    "full": {
        "networks": {
            **dict.fromkeys(("gru", "gru autonomous", "lstm"), 64),
            **dict.fromkeys(("min_gru", "gla", "delta_rule", "mamba"), 64),
        },
        "seeds": 3,
        "batch": 128,
        "steps": {"network": 20_000, "probe": 5000},
    },
}

WORDS = {
    "network": "repeats it by itself",
    "longest": "repeats 9 symbols by itself",
    "unigram": "linear unigram intervention, of 9 symbols",
    "onion": "onion intervention",
    "free": "intervention with a vector for each symbol at each place",
    "same": "intervention at one scale for all places",
    "nothing": "no intervention, one symbol false",
    "linear probe": "linear probe",
    "one scale": "share of what symbols add that is one embedding at a scale of each place",
    "shared": "share of a place's directions that lie in another place's",
    "frozen": "share of what symbols add that the frozen recurrence brings",
}


def made(name: str, width: int, task: Repeat, *, key: Array) -> Any:
    """A network before it is trained."""
    mixer = name.split()[0]
    if name in ALONE:
        return network(mixer, width, task, key=key)
    return Architecture((mixer,), width, 2, "swiglu", "rms").language_model(task.vocabulary, key=key, dtype=jnp.float32)


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One network, trained and measured.

    **Raises:** `KeyboardInterrupt` where training was stopped; it goes on in the same folder.
    """
    run, seed = Run.create(folder / "run", config), config["seed"]
    task = Repeat(batch=config["batch"], held=HELD, autonomous=config["network"].endswith("autonomous"))
    longest = replace(task, shortest=task.time)
    weights, for_cases, for_states = jr.split(jr.key(seed), 3)
    model = made(config["network"], config["width"], task, key=weights)
    steps, rate = config["steps"], 1e-2 if config["network"] in ALONE else 5e-3
    model = _trained(model, task.sample, task.loss, steps["network"], rate, seed, run, "network")
    pool = remembered_pool(model, task, 2 * config["batch"], SEEN, for_states)
    found: dict[str, Any] = {"state": pool.x.shape[1]}
    test, of_longest = held_out(task, "test"), held_out(longest, "test")
    found |= {"network": float(repeats(model, test)), "longest": float(repeats(model, of_longest))}
    added = added_of(pool, task)
    found |= {"one scale": one_scale(added), "shared": shared(added)}
    cases = interventions.measured("onion", model, task, test, key=for_cases)
    found["nothing"] = float(interventions.success(None, model, cases))
    for kind in ("onion", "free", "same"):
        found[kind] = float(interventions.success(interventions.explaining(kind, added), model, cases))
    full = remembered_pool(model, longest, 2 * config["batch"], SEEN, for_states)
    subspaces = Subspaces.explaining(np.asarray(full.x), np.asarray(full.labels))
    cases = interventions.measured("unigram", model, longest, of_longest, key=for_cases)
    found["unigram"] = float(interventions.success(subspaces, model, cases))
    if isinstance(model.blocks[0], GRU):
        found["frozen"] = frozen_share(model, full, task)
    probe = probes.AllAtOnce.make(found["state"], task, 0, key=weights)
    probe = _trained(probe, pool, told_loss, steps["probe"], 1e-2, seed, run, "probe")
    found["linear probe"] = float(probes.exact(probe, model, test))
    return found


def shared(added: Float[np.ndarray, "time vocabulary n"]) -> float:
    """How much of the directions of one place lie in those of another, the mean over pairs.

    0 where they are orthogonal, 1 where they are the same. A place's directions are the fewest that cover `COVERED` of what
    symbols add there.
    """
    bases = []
    for place in added:
        _, s, v = np.linalg.svd(place, full_matrices=False)
        covered = np.cumsum(np.square(s)) / np.sum(np.square(s))
        bases.append(v[: int(np.searchsorted(covered, COVERED)) + 1])
    lie = lambda one, other: np.sum(np.square(one @ other.T)) / min(len(one), len(other))
    pairs = [(i, j) for i in range(len(bases)) for j in range(i)]
    return float(np.mean([lie(bases[i], bases[j]) for i, j in pairs]))


def carried(model: Any, symbols: Int[Array, " time"]) -> Float[Array, "time n"]:
    """What each symbol brings to the last state of a GRU whose gates are frozen; their sum is the state."""
    layer = model.blocks[0]
    (decay, write, _), _ = layer.run(model.embedding[symbols], layer.init_state(), None, None)
    after = jnp.cumprod(jnp.concatenate([decay[1:], jnp.ones_like(decay[:1])])[::-1], axis=0)[::-1]
    return after * write


def frozen_share(model: Any, full: Rows, task: Repeat) -> float:
    """1 - |a - c|^2 / |a|^2: a, what symbols add to the state by least squares; c, what the frozen recurrence carries of them.

    **Arguments:** full: states of sequences of the longest length, and their symbols.
    """
    a = token_effects(np.asarray(full.x), np.asarray(full.labels), task.vocabulary)
    brought = np.asarray(eqx.filter_jit(jax.vmap(lambda symbols: carried(model, symbols)))(full.labels))
    c = np.stack(
        [
            token_effects(brought[:, place], np.asarray(full.labels)[:, [place]], task.vocabulary)[0]
            for place in range(task.time)
        ]
    )
    return float(1 - np.sum(np.square(a - c)) / np.sum(np.square(a)))


def _trained(model: Any, data: Any, loss: Any, steps: int, rate: float, seed: int, run: Run, stage: str) -> Any:
    config = FitConfig(
        steps=steps,
        chunk=min(steps, 500),
        warmup=min(100, steps // 5),
        learning_rate=rate,
        final_learning_rate=rate / 100,
        weight_decay=0.1 if stage == "network" else 0.0,
        seed=seed,
    )
    fitted = fit(model, data, config, loss=loss, run=run, stage=stage, save_every=30.0)
    if fitted.status == "interrupted":
        raise KeyboardInterrupt
    return fitted.model


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    jobs = [
        Job(
            f"{name.replace(' ', '-')}-{seed}",
            "dualform.experiments.onion.mixers:job",
            {"network": name, "width": width, "seed": seed, "batch": grid["batch"], "steps": grid["steps"]},
        )
        for name, width in grid["networks"].items()
        for seed in range(grid["seeds"])
    ]
    done, failed = results_of(workshop.sweep("mixers", jobs))
    rows = {name: [result for config, result in done if config["network"] == name] for name in grid["networks"]}
    rows = {name: found for name, found in rows.items() if found}
    why = (
        "Of the paper's kind, one layer between an embedding and a readout, are gru, gru autonomous, which reads the cue "
        "in place of what it said, and lstm; the others have two blocks with an MLP behind each mixer. "
        f"{grid['steps']['network']:,} batches of {grid['batch']} fresh sequences. Interventions are in closed form, and act on "
        "all that the network remembers; none is trained through it, so that what they reach is a lower bound."
    )
    return Findings(numbers_of(rows), {"rows": rows}, grid["seeds"], why, failed)


def numbers_of(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Number]:
    """Every number of every network, the mean of its seeds."""
    numbers = []
    for name, found in rows.items():
        for what, words in WORDS.items():
            values = [row[what] for row in found if what in row]
            if values:
                spread = (
                    "one seed" if len(values) == 1 else f"{len(values)} seeds, {min(values):.3f} to {max(values):.3f}"
                )
                told = f"{spread}; {found[0]['state']} numbers are remembered"
                numbers.append(ours_alone(f"{name}: {words}", float(np.mean(values)), told))
    return numbers


UNKNOWNS: Sequence[tuple[str, str]] = (
    ("learning rate", "0.01 for one layer, 0.005 for blocks, falling to a hundredth; not searched for each mixer"),
)

MIXERS = Experiment("How networks of other mixers store a sequence", UNKNOWNS, _run)
