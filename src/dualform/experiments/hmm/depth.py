"""How long the sequences are that a network fits: recurrent ones, transformers of several depths, and what block CoT adds."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from dualform.experiments.hmm.networks import (
    GIVEN,
    LINEAR,
    Size,
    apart,
    blocks_of,
    model_of,
    recipe,
    task_of,
    trained_at,
)
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_least, ours_alone
from dualform.experiments.trained import Trained, table
from dualform.tasks.hmm import FAMILIES, THRESHOLD, fit_length

HELD = ("matrix-product", "cyclic-det", "cyclic-rnd", "cyclic-hard")
"""Families that never forget, or slowly: what the claims are about."""

RATIO = 10.0
GRIDS: dict[str, dict[str, Any]] = {
    "quick": {
        "families": ("matrix-product", "cyclic-det"),
        "models": ("gru", *(f"transformer-{layers}" for layers in (1, 2, 3, 4)), "transformer-2-block-4"),
        "size": Size(32, 24, 1200),
        "seeds": 1,
        "rate": GIVEN,
    },
    "full": {
        "families": tuple(FAMILIES),
        "models": (
            "gru",
            "tanh_rnn",
            *(f"transformer-{layers}" for layers in range(1, 8)),
            "transformer-2-block-4",
            "transformer-3-block-8",
            "transformer-4-block-12",
            *LINEAR,
        ),
        "size": Size(32, 32, 2000),
        "seeds": 1,
        "rate": None,
    },
}


def _run(workshop: Workshop, preset: str) -> Findings:
    grid = GRIDS[preset]
    numbers, rows, failed = [], [], []
    for family in grid["families"]:
        recipes = {name: recipe(name, family, grid["size"]) for name in grid["models"]}
        sweep = f"depth-{family}"
        found, broken = trained_at(workshop, sweep, recipes, grid["seeds"], grid["rate"])
        failed += broken
        fits = {name: measured(workshop, sweep, name, each, recipes[name]) for name, each in found.items()}
        numbers += numbers_of(family, found, fits)
        rows += [{"family": family, **row, **fits[row["model"]]} for row in table(found, "distance")]
    size = grid["size"]
    rates = (
        "each model's rate is the best on validation data of a seed of its own"
        if grid["rate"] is None
        else f"at a learning rate of {GIVEN:g}, the same for all and not searched"
    )
    why = (
        f"{size.states} states, 2 observations, sequences of {size.time} tokens, width {size.width}, {size.steps:,} batches of "
        f"32 fresh sequences, {rates}. The distance is that of the belief from the exact one, Euclidean, the mean over test "
        f"sequences; a length is fitted while it is at most {THRESHOLD:g}. The paper plots, trains on lengths up to 120 with a "
        "curriculum, at depths of 1 to 7, and reports the best of four seeds; block CoT is shown of 3 and 4 layers with blocks "
        "of 8 and 12. Judged is what it claims: that recurrent networks are far better, that the length grows with depth, and "
        "with block CoT."
    )
    return Findings(numbers, {"rows": rows, "time": size.time}, grid["seeds"], why, failed)


def measured(workshop: Workshop, sweep: str, name: str, found: Trained, told: Any) -> dict[str, Any]:
    """The distances of the seeds' mean at each token, and the length that each seed fits."""
    task = task_of(told)
    each = [apart(task, model_of(workshop, sweep, name, found, seed)) for seed in range(len(found.results))]
    return {
        "apart": [round(float(value), 6) for value in np.mean(each, axis=0)],
        "fitted": [fit_length(values) for values in each],
    }


def numbers_of(family: str, found: Mapping[str, Trained], fits: Mapping[str, Mapping[str, Any]]) -> list[Number]:
    """The claims, then each model's length beside the line of 2^depth."""
    numbers, fitted = [], {name: mean(fits[name]["fitted"]) for name in fits}
    depths = sorted(name for name in fitted if blocks_of(name)[0] and not blocks_of(name)[1])
    if family in HELD and "gru" in found and "transformer-1" in found:
        shallow, recurrent = (mean(found[name].scores("distance")) for name in ("transformer-1", "gru"))
        numbers.append(
            at_least(
                f"{family}: distance of one block of attention over that of a GRU",
                None,
                shallow / recurrent,
                RATIO,
                f"ten times; {shallow:.3g} and {recurrent:.3g}",
            )
        )
    if family in HELD and len(depths) > 1:
        said = ", ".join(f"{fitted[name]:g} at {blocks_of(name)[0]}" for name in depths)
        most = max(fitted[name] for name in depths[1:])
        numbers.append(
            at_least(
                f"{family}: length fitted by the best depth, over one block's",
                None,
                float(most - fitted[depths[0]]),
                1,
                f"it grows with depth: {said}",
            )
        )
    for name in fitted:
        layers, block = blocks_of(name)
        if block and f"transformer-{layers}" in fitted and family in HELD:
            less = fitted[f"transformer-{layers}"]
            what = f"{family}: length fitted by {layers} blocks with CoT every {block} tokens, over that without"
            numbers.append(
                at_least(what, None, float(fitted[name] - less), 1.0, f"{fitted[name]:g} and {less:g} tokens")
            )
    for name, length in fitted.items():
        layers, block = blocks_of(name)
        what = f"distance {mean(found[name].scores('distance')):.3g}; learning rate {found[name].rate:g}"
        line = 2**layers if layers and not block else None
        numbers.append(ours_alone(f"{family}, {name}: length fitted", length, what, expected=line))
    return numbers


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "the families",
        "their definitions could not be read, only what reviews and summaries say of them: ours are in the docstrings of "
        "`dualform.tasks.hmm`, with three states and two observations where the paper's numbers are not known",
    ),
    (
        "fit length",
        f"ours is the number of tokens from the beginning on whose mean Euclidean distance is at most {THRESHOLD:g}; "
        "that the paper's error is of this norm is not known",
    ),
    ("the recurrent network", "the paper's has one layer and ReLU; ours are a GRU and a tanh network of one layer"),
    ("positions", "the paper adds an encoding of three numbers; ours are rotary, and the first token is marked"),
    ("widths, steps, rates, optimiser", "not known; AdamW without weight decay, cut for two cores"),
    ("curriculum", "none: every token of a sequence is asked for its belief, the first ones too"),
    (
        "block CoT",
        "every b tokens the belief that the model gave is read with the next token, in training as in tests, and no gradient "
        "goes through it; whether one does in the paper is not known. Blocks of 4 where two layers fit no more",
    ),
    ("the loss", "KL divergence of beliefs, squared error of vectors, at each token"),
)

DEPTH = Experiment("Fit length against depth, and with block chain of thought", UNKNOWNS, _run)
