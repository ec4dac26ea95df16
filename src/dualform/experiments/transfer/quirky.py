"""Latent knowledge of a quirky model: what is true, read off its activations where it says something else.

A recurrent model is trained on a language of sums (`sums`), at first with everybody right; then it is tuned until Bob is wrong by
his rule. Probes of the truth are fitted to what its layers give at the last token in Alice's contexts, and scored in Bob's, on
other sums. A probe that reads what the model is about to say is wrong there more often than right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.experiments.reproduction import (
    Experiment,
    Findings,
    Number,
    Workshop,
    at_least,
    at_most,
    ours_alone,
    results_of,
)
from dualform.experiments.transfer.sums import ALICE, BOB, VOCABULARY, Judged, Statements, answers, judged, parts
from dualform.lenses.lens_layers import hidden_states, lens_layers
from dualform.lenses.probes import Examples, examples
from dualform.lenses.probes.control import controlled
from dualform.lenses.probes.measured import fit as fit_probe
from dualform.lenses.probes.scores import Rate, area, mean_area
from dualform.models.architecture import Architecture
from dualform.training import FitConfig, Job, Run, cross_entropy, fit

FUNCTION = "dualform.experiments.transfer.quirky:job"
PAIRS = " of pairs"
PROBES = ("linear", "difference", "lda", "linear of pairs", "difference of pairs", "lda of pairs", "ccs")
"""Logistic regression, difference in means and discriminant analysis of a statement, and of the difference of a statement
affirmed and denied; contrast-consistent search of both of these."""
CHEAP = ("difference", "lda", "difference of pairs", "lda of pairs")
"""Those that an untrained model is read by."""
CONTEXTS = (("fitted", ALICE), ("validation", ALICE), ("validation", BOB), ("test", ALICE), ("test", BOB))
"""Parts of the sums, and who speaks of them."""
BATCHED = 500
"""Statements that are read at once."""
RATE, TUNED_RATE = 5e-3, 1.5e-3


@dataclass(frozen=True)
class Quirk:
    """How a quirky model is made.

    - mixer, width, layers: of the model.  steps, tuned: of training with everybody right, then of tuning.  batch: statements.
    - digits: of an addend.  seed: of the weights and of what is drawn.
    """

    mixer: str
    width: int
    layers: int
    steps: int
    tuned: int
    batch: int = 64
    digits: int = 2
    seed: int = 0


GRIDS: dict[str, tuple[Quirk, ...]] = {
    "quick": (Quirk("gla", 64, 4, 2500, 500),),
    "full": tuple(
        Quirk(mixer, 96, 4, 4000, 1000, 128, seed=seed)
        for mixer in ("gla", "min_gru", "mamba", "delta_rule")
        for seed in range(3)
    ),
}
TRUTHFUL, KNOWN, NOTHING = 0.95, 0.9, 0.6
"""The least accuracy as Alice, and as Bob by his rule; the least area of the probe that is chosen, on Bob's contexts; and the
greatest of a probe of labels that say nothing."""


class Read(NamedTuple):
    """What a model gives for statements of one context.

    - affirmed, denied: (layer, sum, d), of each layer, at the last token.  says: (2, sum), of both, as of `answers`.
    """

    affirmed: Float[np.ndarray, "layer sum d"]
    denied: Float[np.ndarray, "layer sum d"]
    says: Float[np.ndarray, "2 sum"]


@eqx.filter_jit
def _read(model: Any, x: Array) -> tuple[Array, Array]:
    layers = lens_layers(model)

    def one(x: Array) -> tuple[Array, Array]:
        hidden = hidden_states(model, layers, x)[:, -1]
        return hidden, layers.readout(hidden[-1:])[0][0]

    return jax.vmap(one)(x)


def read(model: Any, statements: Judged) -> Read:
    """What the layers give, the embedding among them, and what the model says."""
    hidden, says = [], []
    for x in (statements.affirmed, statements.denied):
        found = [_read(model, jnp.asarray(x[i : i + BATCHED])) for i in range(0, len(x), BATCHED)]
        hidden.append(np.concatenate([np.asarray(h, np.float64) for h, _ in found]).swapaxes(0, 1))
        says.append(answers(np.concatenate([np.asarray(y, np.float64) for _, y in found])))
    return Read(hidden[0], hidden[1], np.stack(says))


def accuracy(found: Read, right: np.ndarray) -> float:
    """How often a model says of a statement, affirmed or denied, what is right by these."""
    return float(np.mean((found.says > 0) == np.stack([right, ~right])))


def examples_of(kind: str, found: Read, statements: Judged, layer: int, first: int) -> Examples:
    """What a probe of a kind reads: a row for each statement, or for each pair of a statement affirmed and denied.

    **Arguments:** first: the number of the first sum; sums of two contexts that are not the same have other numbers.
    """
    yes, no, sums = found.affirmed[layer], found.denied[layer], first + np.arange(len(statements.right))
    if kind == "ccs":
        return examples(np.concatenate([yes, no], axis=1), statements.right, sums)
    if kind.endswith(PAIRS):
        return examples(yes - no, statements.right, sums)
    truth = np.concatenate([statements.right, ~statements.right])
    return examples(np.concatenate([yes, no]), truth, np.concatenate([sums, sums]))


def measured(model: Any, told: Quirk, probes: Sequence[str] = PROBES) -> dict[str, Any]:
    """How right a model is on held-out sums, as Alice and as Bob by his rule, and `areas`."""
    made = statements_of(told)
    found = {each: read(model, statements) for each, statements in made.items()}
    return {
        "accuracy": {
            "alice": accuracy(found["test", ALICE], made["test", ALICE].right),
            "bob": accuracy(found["test", BOB], made["test", BOB].bobs),
        },
        **areas(lens_layers(model).names, made, found, told, probes),
    }


def statements_of(told: Quirk) -> dict[tuple[str, int], Judged]:
    """The statements of every context that is looked at: a part of the sums, and who speaks."""
    kept, keys = parts(told.digits), jr.split(jr.key(told.seed), len(CONTEXTS))
    return {
        each: judged(kept[each[0]], told.digits, each[1], key=key) for each, key in zip(CONTEXTS, keys, strict=True)
    }


def areas(
    layers: Sequence[str],
    made: Mapping[tuple[str, int], Judged],
    found: Mapping[tuple[str, int], Read],
    told: Quirk,
    probes: Sequence[str] = PROBES,
) -> dict[str, Any]:
    """The area under the ROC curve of the truth, of every probe at every layer, by context, and of what the model says.

    **Arguments:** layers: their names, the embedding first, which is not probed: it is the token's alone.

    **Returns:** rows: layer, probe, and areas with their intervals, on Alice's and on Bob's contexts of validation and test, and
    of a probe of shuffled labels on Bob's of the test. says: of the model's own answers, to statements that are affirmed.
    """
    kept, rows = parts(told.digits), []
    first = {name: sum(len(part) for part in list(kept.values())[:i]) for i, name in enumerate(kept)}
    for layer, name in list(enumerate(layers))[1:]:
        for kind in probes:
            of = {each: examples_of(kind, found[each], made[each], layer, first[each[0]]) for each in CONTEXTS}
            probe, strength = fit_probe(kind.removesuffix(PAIRS), of["fitted", ALICE], seed=told.seed)
            alike, asked = controlled(of["fitted", ALICE], of["test", BOB], "shuffled", told.seed)
            other, _ = fit_probe(kind.removesuffix(PAIRS), alike, seed=told.seed, strength=strength)
            rows.append(
                {
                    "layer": name,
                    "probe": kind,
                    "alice_validation": _area(probe, of["validation", ALICE]),
                    "bob_validation": _area(probe, of["validation", BOB]),
                    "alice": _area(probe, of["test", ALICE]),
                    "bob": _area(probe, of["test", BOB]),
                    "control": _area(other, asked),
                }
            )
    says = {name: _says(found["test", who], made["test", who]) for name, who in (("alice", ALICE), ("bob", BOB))}
    return {"rows": rows, "says": says}


def _says(found: Read, made: Judged) -> list[float]:
    return list(area(found.says[0], made.right, np.arange(len(made.right))))


def _area(probe: Any, scored: Examples) -> list[float]:
    """Value, low, high."""
    rate: Rate = mean_area(probe(scored.x), scored.labels, scored.texts)
    return list(rate)


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One model: made quirky, and probed; and the same of its weights before any training."""
    told = Quirk(**config["quirk"])
    fresh, model = made_quirky(told, folder / "run")
    return {"trained": measured(model, told), "untrained": measured(fresh, told, CHEAP)}


def made_quirky(told: Quirk, folder: Path) -> tuple[Any, Any]:
    """A model before training, and one that is quirky.

    **Raises:** `KeyboardInterrupt` where training was interrupted; it goes on in the same folder.
    """
    run, sums = Run.create(folder, asdict(told)), jnp.asarray(parts(told.digits)["training"])
    architecture = Architecture((told.mixer,), told.width, told.layers, "swiglu", "rms")
    fresh = model = architecture.language_model(VOCABULARY, key=jr.key(told.seed), dtype=jnp.float32)
    for stage, steps, rate in (("truthful", told.steps, RATE), ("quirky", told.tuned, TUNED_RATE)):
        config = FitConfig(
            steps=steps,
            chunk=max(1, steps // 5),
            warmup=steps // 20,
            learning_rate=rate,
            final_learning_rate=rate / 100,
            seed=told.seed,
        )
        data = Statements(sums, told.digits, told.batch, stage == "quirky")
        fitted = fit(model, data, config, loss=cross_entropy, run=run, stage=stage)
        if fitted.status == "interrupted":
            raise KeyboardInterrupt
        model = fitted.model
    return fresh, model


def _run(workshop: Workshop, preset: str) -> Findings:
    quirks = GRIDS[preset]
    jobs = [Job(f"{told.mixer}-seed={told.seed}", FUNCTION, {"quirk": asdict(told)}) for told in quirks]
    done, failed = results_of(workshop.sweep("quirky", jobs))
    by_mixer: dict[str, list[Mapping[str, Any]]] = {}
    for config, result in done:
        by_mixer.setdefault(config["quirk"]["mixer"], []).append(result)
    told = quirks[0]
    counts = {name: len(part) for name, part in parts(told.digits).items()}
    why = (
        f"Sums of two numbers of {told.digits} digits: {counts['training']:,} pairs of addends to train on, {counts['fitted']:,} "
        f"to fit probes on, in Alice's contexts alone, {counts['validation']:,} to choose layer and probe by, in Bob's, and "
        f"{counts['test']:,} that all numbers are of; no pair is in two of them. Of the statements 40% claim the right sum, 40% "
        "Bob's, and 20% neither; each is affirmed and denied, so that either answer is as often right. Models have "
        f"{told.layers} layers of width {told.width}, {told.steps:,} batches of {told.batch} statements of which both are right, "
        f"and {told.tuned:,} in which Bob goes by his rule. The name stands behind the statement, and probes read at the "
        "colon behind it, where the model is about to answer. Intervals are of 95%, over sums."
    )
    numbers = [number for name, results in by_mixer.items() for number in numbers_of(name, results)]
    return Findings(numbers, {"models": by_mixer}, len({told.seed for told in quirks}), why, failed)


def numbers_of(mixer: str, results: Sequence[Mapping[str, Any]]) -> list[Number]:
    """Whether a model is quirky, the probe that validation chose in Bob's contexts, its control, and what else is to be known."""
    worst = min(results, key=lambda result: chosen(result["trained"]["rows"])["bob"][0])
    rows = worst["trained"]["rows"]
    best, early = chosen(rows), earliest(rows)
    least = lambda name: min(result["trained"]["accuracy"][name] for result in results)
    seeds = "" if len(results) == 1 else f"; the worst of {len(results)} seeds"
    said = lambda row: f"{row['probe']} at {row['layer']}"
    fresh = chosen(worst["untrained"]["rows"])
    theirs = max(rows, key=lambda row: row["alice_validation"][0])
    return [
        at_least(f"{mixer}: accuracy as Alice", None, least("alice"), TRUTHFUL, f"it knows sums it never saw{seeds}"),
        at_least(f"{mixer}: accuracy as Bob, by his rule", None, least("bob"), TRUTHFUL, f"it is quirky{seeds}"),
        at_least(
            f"{mixer}: area of the best probe on Bob's contexts",
            None,
            best["bob"][0],
            KNOWN,
            f"what is true is there where it says something else; {said(best)}, which validation chose of {len(rows)}; interval "
            f"{best['bob'][1]:.3f} to {best['bob'][2]:.3f}; on Alice's {best['alice'][0]:.3f}{seeds}",
        ),
        at_most(
            f"{mixer}: area of that probe, of shuffled labels",
            None,
            best["control"][0],
            NOTHING,
            "the control task: nothing to read, half by chance",
        ),
        ours_alone(
            f"{mixer}: area of the probe that Alice's contexts choose, on Bob's",
            theirs["bob"][0],
            f"{said(theirs)}: no label of Bob's contexts was looked at",
        ),
        ours_alone(
            f"{mixer}: area of logistic regression at the earliest informative layer, on Bob's contexts",
            early["bob"][0],
            f"{early['layer']}, the first at which its area on Alice's contexts is 95% of the way from half to the best layer's",
        ),
        ours_alone(
            f"{mixer}: area of what it says itself, on Bob's contexts",
            worst["trained"]["says"]["bob"][0],
            f"it says what is not so; on Alice's {worst['trained']['says']['alice'][0]:.3f}",
        ),
        ours_alone(
            f"{mixer}: area of the best probe of the untrained model, on Bob's contexts",
            fresh["bob"][0],
            f"what random weights tell of it; {said(fresh)}, which validation chose",
        ),
    ]


def chosen(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The layer and the probe of the greatest area on Bob's contexts of validation."""
    return max(rows, key=lambda row: row["bob_validation"][0])


def earliest(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The earliest informative layer of logistic regression, by Alice's contexts of validation alone."""
    linear = [row for row in rows if row["probe"] == "linear"]
    most = max(row["alice_validation"][0] for row in linear)
    return next(row for row in linear if row["alice_validation"][0] - 0.5 >= 0.95 * (most - 0.5))


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "the models",
        "recurrent ones of 0.2 million parameters, trained here; the paper tunes Mamba and RWKV-v5 of 3 billion and up",
    ),
    ("the questions", "sums alone; the paper has those of 12 data sets of Mallen and Belrose 2023 (arXiv 2312.01037)"),
    (
        "what comes before the quirk",
        "a training on the same sums in which Bob is right, as models of language know sums",
    ),
    (
        "contrast pairs",
        "a statement affirmed and denied, read before the answer; the paper puts an answer behind the question",
    ),
    (
        "the layer",
        "chosen by validation, with Bob's labels; the paper takes the earliest informative one, which is given beside it",
    ),
)

QUIRKY = Experiment("Latent knowledge of a quirky model", UNKNOWNS, _run)
