"""How far each layer is from what a model says in the end: the logit lens against the tuned lens, on text that neither saw."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dualform import checkpoints
from dualform.experiments.griffin.extrapolation import SHAKESPEARE
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_least, ours_alone, results_of
from dualform.intervals import mean_interval
from dualform.lenses import LensConfig
from dualform.lenses.lens_run import train_on_text
from dualform.lenses.readings import BITS
from dualform.models.architecture import Architecture
from dualform.reading import text_of_file
from dualform.tensor_file import write_atomically
from dualform.training import Job
from dualform.training.config import FitConfig
from dualform.training.recipe import WEIGHTS, Recipe

TRAINING, FUNCTION = "dualform.training.recipe:job", "dualform.experiments.transfer.distances:job"
CHARACTERS = 12_000
"""Of the text's end, for SmolLM2, whose tokens are words."""

SMALL, PUBLISHED, REAL = LensConfig(60, 8, 64), LensConfig(), LensConfig(40, 2, 64)
GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"lenses": {"characters": SMALL, "gla": SMALL}, "width": 64, "layers": 3, "steps": 300, "batch": 16},
    "full": {
        "lenses": {"characters": PUBLISHED, "gla": PUBLISHED, "smollm2": REAL},
        "width": 128,
        "layers": 4,
        "steps": 2000,
        "batch": 32,
    },
}


def recipe(data: Path, grid: Mapping[str, Any]) -> Recipe:
    """Blocks of gated linear attention, by characters."""
    steps = grid["steps"]
    return Recipe(
        task="text",
        data=str(data),
        settings={"time": 64, "batch": grid["batch"]},
        model=Architecture(("gla",), grid["width"], grid["layers"], "swiglu", "rms"),
        fit=FitConfig(
            steps=steps,
            chunk=steps // 2,
            warmup=steps // 10,
            learning_rate=3e-3,
            final_learning_rate=3e-5,
        ),
        seed=1,
    )


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One model: by layer, and of each window that is held out, the KL of both lenses in bits a token."""
    text = text_of_file(config["data"])
    text = text[-CHARACTERS:] if config["name"] == "smollm2" else text
    told, loaded = LensConfig(**config["lens"]), checkpoints.load(config["source"])
    losses = train_on_text(loaded, text, told, folder / "lens.safetensors", folder / "run").losses
    bits = lambda a: (np.asarray(a, np.float64) * BITS).tolist()
    return {"layers": list(losses.layers), "logit": bits(losses.logit), "tuned": bits(losses.tuned)}


def _run(workshop: Workshop, preset: str, shakespeare: Path) -> Findings:
    grid, data = GRIDS[preset], shakespeare.resolve()
    text, place = text_of_file(data), workshop.folder.resolve() / "data" / "learnt.txt"
    write_atomically(place, text[: len(text) - len(text) // 10].encode())
    trainings = [Job("gla", TRAINING, recipe(place, grid).told())]
    trained, failed = results_of(workshop.sweep("lens-models", trainings))
    sources = {"characters": "characters", "smollm2": "smollm2"}
    if trained:
        sources["gla"] = str(workshop.runs("lens-models", trainings).resolve() / "gla" / "run" / WEIGHTS)
    jobs = [
        Job(name, FUNCTION, {"name": name, "source": sources[name], "data": str(data), "lens": asdict(lens)})
        for name, lens in grid["lenses"].items()
        if name in sources
    ]
    done, broken = results_of(workshop.sweep("lenses", jobs))
    found = {config["name"]: result for config, result in done}
    windows = "; ".join(
        f"{name}: {lens.tokens:,} tokens, windows of {lens.length}" for name, lens in grid["lenses"].items()
    )
    why = (
        "KL(final || lens) in bits a token, the mean over up to 32 windows of the text's last tenth, which no model here and no "
        f"lens saw in training, SmolLM2 perhaps; of it, the last {CHARACTERS:,} characters are the text. Intervals of 95% are of "
        f"the paired difference over windows. Lenses by the published settings but for batches and steps ({windows}). The gated "
        f"linear attention is trained here: {grid['steps']:,} batches, {grid['layers']} layers of width {grid['width']}."
    )
    numbers = [number for name in grid["lenses"] if name in found for number in numbers_of(name, found[name])]
    return Findings(numbers, {"models": found}, 1, why, [*failed, *broken])


def numbers_of(name: str, result: Mapping[str, Any]) -> list[Number]:
    """The least difference of the two lenses over layers, and what the tuned lens leaves of the logit lens's distance."""
    logit, tuned = np.array(result["logit"]), np.array(result["tuned"])
    less = [mean_interval(each) for each in logit - tuned]
    at = int(np.argmin([mean for mean, _, _ in less]))
    by_layer = "; ".join(
        f"{layer} {a:.3f} and {b:.3f}"
        for layer, a, b in zip(result["layers"], logit.mean(1), tuned.mean(1), strict=True)
    )
    mean, low, high = less[at]
    return [
        at_least(
            f"{name}: least difference over layers, the low end of its interval",
            None,
            low,
            0.0,
            f"the tuned lens is nearer at every layer but the last; least at {result['layers'][at]}: {mean:.4f}, {low:.4f} to "
            f"{high:.4f} bits; logit and tuned: {by_layer}",
        ),
        ours_alone(
            f"{name}: distance of the tuned lens in that of the logit lens, the mean over layers",
            float(np.mean(tuned.mean(1) / logit.mean(1))),
            "below 1 where it is nearer",
        ),
    ]


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "the models",
        "of 0.1 to 135 million parameters; the paper has Mamba and RWKV-v5 of 1.6 to 3 billion, on the Pile",
    ),
    ("the training of lenses", "fewer and smaller batches; the paper's are 250 of 262,144 tokens"),
)

LENSES = Experiment("Logit lens against tuned lens, by layer", UNKNOWNS, _run, needs=(SHAKESPEARE,))
