"""A compiled network as the start of a training: an induction head, fine-tuned on what it knows in part, beside a fresh network.

The paper stops at what programs can do; whether one is worth anything as a start has no published side.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.experiments.lsrl.hidden_map import (
    FOLLOWS,
    OTHERWISE,
    SYMBOLS,
    drawn,
    entropy,
    excess,
    predictive,
    without_context,
)
from dualform.experiments.lsrl.starts import Moved, fresh, perturbed
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_most, ours_alone, results_of
from dualform.intervals import mean_interval
from dualform.programs import Input, Program, both, compile_program, concat, counter, delay, if_else
from dualform.programs.sugar import exceeds
from dualform.programs.values import Linear
from dualform.tasks.scores import of_tokens
from dualform.training import FitConfig, Job
from dualform.training.ensemble import fit_ensemble

CONFIDENCE = 4
"""The logit of the symbol that the head says; that of all others is 0. It knows neither how often the map is followed nor what
comes otherwise."""

STARTS = ("compiled", "relative", "noise 1%", "noise 10%", "fresh")
NOISE = {"noise 1%": 0.01, "noise 10%": 0.1}
SEARCH_SEED = 1000
"""The seed that rates are chosen by: none that a result is reported from."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {
        "rates": (1e-4, 1e-3, 1e-2, 1e-1),
        "steps": 200,
        "batch": 16,
        "time": 32,
        "seeds": 3,
        "lengths": (32, 128),
    },
    "full": {
        "rates": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        "steps": 1000,
        "batch": 16,
        "time": 32,
        "seeds": 5,
        "lengths": (32, 128, 512),
    },
}
TO = ("gated-linear-rnn", "lstm")
HELD = {32: 512, 128: 256, 512: 128}
"""How many sequences of a length are held out."""

FUNCTION = "dualform.experiments.lsrl.fine_tuning:job"


def head() -> Program:
    """An induction head whose tokens are one-hot: a logit of `CONFIDENCE` for what most often followed the symbol just read.

    Of symbols that followed equally often the first is said, and none where nothing did.
    """
    x = Input(SYMBOLS, low=0, high=1, whole=True)
    before = delay(x, 1, "digits", name="before")
    shown = [if_else(x[a], counter(before[a] * x, name="count"), form="multiplicative") for a in range(SYMBOLS)]
    counts = Linear(concat(*shown), [{a * SYMBOLS + b: 1 for a in range(SYMBOLS)} for b in range(SYMBOLS)])
    said = []
    for b in range(SYMBOLS):
        beaten = [exceeds(counts[a] if a > b else counts[a] + 1, counts[b]) for a in range(SYMBOLS) if a != b]
        said.append(both(*(1 - each for each in beaten), exceeds(counts[b], 0)))
    return Program(CONFIDENCE * concat(*said), "induction head", draw=_one_hot_symbols)


def _one_hot_symbols(random: np.random.Generator, time: int) -> Float[np.ndarray, "time symbols"]:
    return np.eye(SYMBOLS)[random.integers(0, SYMBOLS, time)]


def logits_of(network: Any, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time symbols"]:
    """What a network gives of symbols."""
    x = jax.nn.one_hot(tokens, SYMBOLS, dtype=jnp.float32)
    return jax.vmap(lambda row: network(row)[0])(x)


def loss(moved: Moved, tokens: Int[Array, "batch time"], targets: Int[Array, "batch time"]) -> Float[Array, ""]:
    """The cross-entropy, in nats."""
    return of_tokens(logits_of(moved.network, tokens), targets)["loss"].mean


def sample(key: Array, sizes: tuple[int, int]) -> tuple[Array, Array]:
    """A batch of so many sequences of so many tokens, and what follows each."""
    tokens = drawn(key, sizes[0], sizes[1] + 1)
    return tokens[:, :-1], tokens[:, 1:]


class Held(NamedTuple):
    """Sequences that no training sees, and the exact law of what follows each token."""

    tokens: Int[np.ndarray, "batch time"]
    law: Float[np.ndarray, "batch time symbols"]

    @classmethod
    def of(cls, seed: int, time: int) -> "Held":
        """Sequences of a length."""
        tokens = np.asarray(drawn(jr.key(seed), HELD[time], time))
        return cls(tokens, predictive(tokens))

    def excess(self, network: Any, factor: float = 1.0) -> float:
        """By how much a network's cross-entropy is above the floor, in nats; that of its logits times a factor."""
        return excess(self.law, factor * np.asarray(_logits(network, self.tokens), np.float64))


@eqx.filter_jit
def _logits(network: Any, tokens: Any) -> Any:
    return logits_of(network, tokens)


def begun(name: str, compiled: Any, seed: int) -> Moved:
    """What a training of a seed begins with."""
    key = jr.fold_in(jr.key(seed), 2**20 + STARTS.index(name))  # none of a batch
    if name == "fresh":
        return Moved.of(fresh(compiled, key=key))
    network = perturbed(compiled, NOISE[name], key=key) if name in NOISE else compiled
    return Moved.of(network, relative=name == "relative")


def gradients(compiled: Any, seed: int = SEARCH_SEED) -> dict[str, Any]:
    """What one batch says of a compiled network's weights.

    **Returns:** finite: whether every derivative is; reached: the share of weights that are not 0 whose derivative is not 0;
    largest, smallest: of these derivatives, in size; after: the loss after a step of 1e-6 along each derivative's sign, which is
    what Adam's first step does, and before it.
    """
    tokens, targets = sample(jr.key(seed), (16, 32))
    value, found = _gradient(Moved.of(compiled), tokens, targets)
    pairs = zip(jtu.tree_leaves(eqx.filter(compiled, eqx.is_inexact_array)), jtu.tree_leaves(found.change), strict=True)
    weights, slopes = (
        np.concatenate([np.ravel(np.asarray(each, np.float64)) for each in side]) for side in zip(*pairs, strict=True)
    )
    held = weights != 0
    sizes = np.abs(slopes[held & (slopes != 0)])
    signs = jtu.tree_map(lambda g: -1e-6 * jnp.sign(g), found.change)
    stepped = eqx.tree_at(lambda moved: moved.change, Moved.of(compiled), eqx.combine(signs, Moved.of(compiled).change))
    return {
        "finite": bool(np.all(np.isfinite(slopes))),
        "reached": float(np.mean(slopes[held] != 0)),
        "largest": float(sizes.max(initial=0)),
        "smallest": float(sizes.min(initial=np.inf)),
        "before": float(value),
        "after": float(_gradient(stepped, tokens, targets)[0]),
    }


_gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One architecture: the head before training, and every start at the rate that validation chooses, on what is held out."""
    del folder
    made = compile_program(head(), config["to"], "float32")
    lengths, rates, seeds = tuple(config["lengths"]), tuple(config["rates"]), config["seeds"]
    tests = {time: Held.of(32_000 + time, time) for time in lengths}
    validation = Held.of(31_000, config["time"])
    measured = lambda network, factor=1.0: {str(time): held.excess(network, factor) for time, held in tests.items()}
    factor = best_factor(made.model, validation)
    trained = functools.partial(_trained, made.model, config)
    tried: dict[str, dict[str, float]] = {name: {} for name in STARTS}
    for (name, _, rate), network in trained([(name, SEARCH_SEED, rate) for name in STARTS for rate in rates]):
        tried[name][f"{rate:g}"] = validation.excess(network)
    chosen = {name: min(rates, key=lambda rate: tried[name][f"{rate:g}"]) for name in STARTS}
    found: dict[str, Any] = {name: {str(time): [] for time in lengths} for name in STARTS}
    for (name, _, _), network in trained([(name, seed, chosen[name]) for name in STARTS for seed in range(seeds)]):
        for time, value in measured(network).items():
            found[name][time].append(value)
    noisy = {name: [begun(name, made.model, seed).network for seed in range(seeds)] for name in NOISE}
    return {
        "layers": made.layers,
        "parameters": made.parameters,
        "stored": made.stored,
        "gradients": gradients(made.model),
        "floor": {str(time): entropy(held.law) for time, held in tests.items()},
        "without context": {
            str(time): excess(held.law, np.broadcast_to(without_context(), held.law.shape))
            for time, held in tests.items()
        },
        "before": measured(made.model),
        "factor": factor,
        "scaled": measured(made.model, factor),
        "noise before": {
            name: {str(time): [held.excess(each) for each in networks] for time, held in tests.items()}
            for name, networks in noisy.items()
        },
        "tried": tried,
        "rates": chosen,
        "excess": found,
    }


def _trained(
    compiled: Any, config: Mapping[str, Any], members: Sequence[tuple[str, int, float]]
) -> list[tuple[tuple[str, int, float], Any]]:
    """(start, seed, rate) -> the network after training, all in one compiled loop."""
    fit = FitConfig(
        steps=config["steps"],
        chunk=config["steps"],
        warmup=config["steps"] // 10,
        learning_rate=1.0,
        final_learning_rate=0.01,
        weight_decay=0.0,
    )
    sizes = (config["batch"], config["time"])
    fitted = fit_ensemble(
        [begun(name, compiled, seed) for name, seed, _ in members],
        lambda key, _: sample(key, sizes),
        fit,
        seeds=[seed for _, seed, _ in members],
        rates=[rate for _, _, rate in members],
        loss=loss,
    )
    return [(member, moved.network) for member, moved in zip(members, fitted.models, strict=True)]


def best_factor(network: Any, held: Held) -> float:
    """The number between 1/8 and 2 by which logits are best multiplied: what is to be had without any training of weights."""
    logits = np.asarray(_logits(network, held.tokens), np.float64)
    factors = np.geomspace(1 / 8, 2, 49)
    return float(min(factors, key=lambda factor: excess(held.law, factor * logits)))


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    jobs = [Job(to, FUNCTION, {"to": to, **grid}) for to in TO]
    done, failed = results_of(workshop.sweep("fine-tuning", jobs))
    rows = [{"architecture": config["to"], **result} for config, result in done]
    numbers = [number for row in rows for number in _numbers(row, grid)]
    return Findings(numbers, {"rows": rows}, grid["seeds"], _why(grid), failed)


def _why(grid: Mapping[str, Any]) -> str:
    q = ", ".join(f"{each:g}" for each in OTHERWISE)
    return (
        f"Sequences of {SYMBOLS} symbols, each with a map of its own, uniform over all maps: the next symbol is what the "
        f"map says of the last one with probability {FOLLOWS:g}, and drawn with probabilities {q} otherwise. The "
        "program, an induction head that counts, knows the first half of that alone: it says what most often followed, "
        f"with a logit of {CONFIDENCE}. {grid['steps']} batches of {grid['batch']} sequences of {grid['time']} tokens, "
        "Adam without weight decay, the rate that validation chooses with a seed of its own; all starts see the same "
        "batches. Judged is by how many nats the cross-entropy is above that of the exact law of the next symbol, its "
        "expectation at every token, so that nothing can be below 0. Fresh: mixers and MLPs as their own make draws "
        "them, all else with variance 1 / fan-in. Relative: the compiled network with steps in units of each weight's "
        "size, so that what is 0 stays 0. The LSTM computes by saturation: values are held at 2^-50 of their size, and "
        "read with weights of 2^50."
    )


def _numbers(row: Mapping[str, Any], grid: Mapping[str, Any]) -> list[Number]:
    """Of one architecture; what is asked of an LRU stack alone was asked before it was trained."""
    to, found = row["architecture"], row["excess"]
    short, longer = str(grid["time"]), [str(time) for time in grid["lengths"] if time != grid["time"]]
    size = f"{row['layers']} layers of the program, {row['stored']:,} of {row['parameters']:,} numbers not 0"
    slopes = row["gradients"]
    numbers = [
        ours_alone(
            f"{to}: weights that are not 0 whose derivative is not 0, %",
            round(100 * slopes["reached"], 1),
            f"sizes of derivatives from {slopes['smallest']:.2g} to {slopes['largest']:.2g}"
            f"{'' if slopes['finite'] else ', not all finite'}; {size}",
        ),
        ours_alone(
            f"{to}: loss after one step of 1e-6 along each derivative's sign, nats",
            f"{slopes['after']:.4g}",
            f"before it {slopes['before']:.4g}",
        ),
    ]
    for time in (short, *longer):
        known = f"floor {row['floor'][time]:.3f} nats; a predictor without context {row['without context'][time]:.3f} above it"
        numbers.append(
            ours_alone(
                f"{to}, {time} tokens, compiled, before training: nats above the floor",
                f"{row['before'][time]:.4f}",
                known,
            )
        )
        numbers.append(
            ours_alone(
                f"{to}, {time} tokens, compiled, its logits times {row['factor']:.2f}: nats above the floor",
                f"{row['scaled'][time]:.4f}",
                "the best factor of validation, no weight trained",
            )
        )
        for name in STARTS:
            rate = row["rates"][name]
            edge = "" if min(grid["rates"]) < rate < max(grid["rates"]) else ", at the edge of those tried"
            before = f"before training {np.mean(row['noise before'][name][time]):.3g}; " if name in NOISE else ""
            value, seeds = _of_seeds(found[name][time])
            what = f"{to}, {time} tokens, {name}: nats above the floor"
            numbers.append(ours_alone(what, value, f"{before}{seeds}; rate {rate:g}{edge}"))
    return numbers + (_rules(row, short, longer) if to == TO[0] else [])


def _of_seeds(values: Sequence[float]) -> tuple[str, str]:
    """The mean, and its interval; where a seed has no number, how many have none."""
    lost = sum(not math.isfinite(each) for each in values)
    if lost:
        return "inf", f"{lost} of {len(values)} seeds are no longer finite"
    mean, low, high = mean_interval(values)
    return f"{mean:.4g}", f"{len(values)} seeds, 95% {low:.4g} to {high:.4g}"


def _rules(row: Mapping[str, Any], short: str, longer: Sequence[str]) -> list[Number]:
    to, found = row["architecture"], row["excess"]
    numbers = []
    for time in (short, *longer):
        worst = max(found["compiled"][time])
        numbers.append(
            at_most(
                f"{to}, {time} tokens, compiled and trained, the worst seed: nats above the floor",
                None,
                worst,
                row["scaled"][time],
                "no worse than the program with the best factor of its logits",
            )
        )
        numbers.append(
            at_most(
                f"{to}, {time} tokens, the worst seed from the program less the best fresh one: nats",
                None,
                worst - min(found["fresh"][time]),
                0.0,
                "a start that knows the rule is ahead after as many steps",
            )
        )
    return numbers


FINE_TUNING = Experiment(
    title="A compiled network as the start of a training",
    unknowns=[
        ("fine-tuning", "the paper has none; data, starts and measures are ours"),
        ("learning rate", "of a grid, the best on validation data of a seed of its own, for each start"),
    ],
    run=_run,
    beyond=True,
)
