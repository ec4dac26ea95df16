"""tok2tok as real weights: what each architecture makes of it in float64, float32 and bfloat16, and of noise in its weights.

The public code stops at a path of abstract layers, so that this has no published side.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from dualform.errors import InputError
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_most, ours_alone, results_of
from dualform.programs import Program, compile_program, targets
from dualform.programs.compiled import DTYPES
from dualform.programs.library import program
from dualform.training import Job

LEVELS = (1e-9, 1e-7, 1e-5, 1e-3)
WITHOUT_PRODUCTS = ("linear-rnn",)
"""Architectures for which conditionals are written without products, in the form that the paper calls optimised."""

INPUTS = 5
GRIDS: dict[str, dict[str, int]] = {
    "quick": {"length": 2, "samples": 6, "seeds": 2},
    "full": {"length": 3, "samples": 20, "seeds": 5},
}
FUNCTION = "dualform.experiments.lsrl.networks:job"


def drawn(made: Program, seed: int, time: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """`INPUTS` prompts of a seed, and what the last `length` outputs should be."""
    random = np.random.default_rng(seed)
    x = np.stack([made.inputs(random, time) for _ in range(INPUTS)])
    assert made.expected is not None
    return x, np.stack([made.expected(each) for each in x])[:, -length:]


@eqx.filter_jit
def outputs(model: Any, x: Any) -> Any:
    """What a network gives of each prompt."""
    return jax.vmap(lambda x: model(x)[0])(x)


def noisy(model: Any, noise: float, key: Any) -> Any:
    """N(0, noise^2) added to each weight that is not 0."""
    weights, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jtu.tree_flatten(weights)
    keys = jr.split(key, len(leaves))
    added = [
        jnp.where((w != 0) & jnp.isfinite(w), w + noise * jr.normal(k, w.shape, w.dtype), w)
        for w, k in zip(leaves, keys, strict=True)
    ]
    return eqx.combine(jtu.tree_unflatten(structure, added), rest)


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One architecture: its size, and the share of wrong outputs in each dtype and at each level of noise; or why it has none."""
    del folder
    t, samples, to = config["length"], config["samples"], config["to"]
    form = "optimised" if to in WITHOUT_PRODUCTS else "multiplicative"
    made = program("tok2tok", length=t, form=form, samples=samples)
    time = t + 2 * t * samples
    try:
        with jax.enable_x64(True):
            compiled = {dtype: compile_program(made, to, dtype) for dtype in DTYPES}
            share = lambda model, x, y, dtype: float(
                np.mean(np.rint(np.asarray(outputs(model, jnp.asarray(x, dtype)), np.float64)[:, -t:]) != y)
            )
            found: dict[str, Any] = {
                "layers": compiled["float64"].layers,
                "parameters": compiled["float64"].parameters,
                "stored": compiled["float64"].stored,
                "dtypes": {dtype: [] for dtype in DTYPES},
                "noise": {str(level): [] for level in LEVELS},
            }
            for seed in range(config["seeds"]):
                x, y = drawn(made, seed, time, t)
                for dtype in DTYPES:
                    found["dtypes"][dtype].append(share(compiled[dtype].model, x, y, dtype))
                for i, level in enumerate(LEVELS):
                    model = noisy(compiled["float64"].model, level, jr.fold_in(jr.key(seed), i))
                    found["noise"][str(level)].append(share(model, x, y, "float64"))
            return found
    except InputError as reason:
        return {"refused": str(reason)}


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    names = [name for name in targets() if name != "gated-rnn"]
    done, failed = results_of(workshop.sweep("networks", [Job(to, FUNCTION, {"to": to, **grid}) for to in names]))
    rows = [{"architecture": config["to"], **result} for config, result in done]
    numbers: list[Number] = []
    for row in rows:
        name = row["architecture"]
        if "refused" in row:
            numbers.append(ours_alone(f"{name}", row["refused"].partition(": ")[2], "cannot hold it, and says why"))
            continue
        size = f"{row['layers']} layers, {row['stored']:,} of {row['parameters']:,} numbers not 0"
        percent = lambda shares: 100 * float(np.mean(shares))
        for dtype in ("float64", "float32"):
            wrong = percent(row["dtypes"][dtype])
            numbers.append(at_most(f"{name}, {dtype}: wrong outputs, %", None, wrong, 0.0, f"exact; {size}"))
        numbers.append(
            ours_alone(f"{name}, bfloat16: wrong outputs, %", percent(row["dtypes"]["bfloat16"]), "8 bits of precision")
        )
        said = ", ".join(f"{percent(row['noise'][str(level)]):.1f}" for level in LEVELS)
        levels = ", ".join(f"{level:g}" for level in LEVELS)
        numbers.append(
            ours_alone(f"{name}: wrong outputs, %, with noise {levels} in the weights", said, "states carry it on")
        )
    why = (
        f"Sequences of {grid['length']} tokens, {grid['samples']} pairs, {INPUTS} prompts for each of {grid['seeds']} seeds. "
        "Architectures whose decays are all positive cannot count modulo anything (Grazzi et al. 2024, arXiv 2411.12537), as the "
        "program must. Noise goes into every weight that is not 0, whatever its size, and states carry on what it does."
    )
    return Findings(numbers, {"rows": rows}, grid["seeds"], why, failed)


NETWORKS = Experiment(
    title="tok2tok as the weights of real networks: precision and noise",
    unknowns=[("the networks", "the paper names them and emits none; ours are the emitters of dualform.programs")],
    run=_run,
    beyond=True,
)
