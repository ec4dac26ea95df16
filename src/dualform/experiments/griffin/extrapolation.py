"""Texts read beyond training's length: the loss of Griffin and Hawk, which does not rise, and that of a transformer.

All are trained on windows of 256 characters. Then the same characters of the test are foretold with more and more before
them, and the losses are compared window by window.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dualform import checkpoints
from dualform.experiments.data_file import DataFile
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
from dualform.experiments.trained import Trained, counted, table, trained, trained_run
from dualform.intervals import mean_interval
from dualform.models.architecture import Architecture
from dualform.tasks.scores import of_tokens
from dualform.tasks.text import Text
from dualform.training import Job
from dualform.training.config import FitConfig
from dualform.training.recipe import WEIGHTS, Recipe

SHAKESPEARE = DataFile(
    "tinyshakespeare.txt",
    "github.com/karpathy/char-rnn (data/tinyshakespeare/input.txt)",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
TIME, LENGTHS = 256, (256, 512, 1024, 2048)
"""Characters of training's windows, and of those that are read."""

JUDGED = 128
"""Characters at the end of each window whose loss is judged. At training's length each of them has at least as many before it, so
that no loss falls only since the first characters of a window are foretold from nothing."""

WINDOW = TIME // 2
"""Of the local attention: half of training's length, as the paper's 1,024 of 2,048."""

MIXERS: dict[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {
    "griffin": (("griffin_recurrent", "griffin_recurrent", "local_attention"), {"window": WINDOW}),
    "hawk": (("griffin_recurrent",), {}),
    "transformer": (("softmax_attention",), {"context": 1}),
}
"""Mixers of the blocks, in turn, and their options. A window is one call, which sees all that it is given: no context is kept."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {"width": 48, "layers": 3, "batch": 4, "steps": 800, "seeds": 1},
    "full": {"width": 96, "layers": 3, "batch": 8, "steps": 2500, "seeds": 3},
}


def recipe(model: str, width: int, layers: int, batch: int, steps: int, data: Path) -> Recipe:
    """Blocks of a mixer of four heads and a GeGLU; recurrences have 4/3 of the width in units, as the paper's."""
    mixers, options = MIXERS[model]
    units = {} if model == "transformer" else {"n": 4 * width // 3}
    return Recipe(
        task="text",
        data=str(data),
        settings={"time": TIME, "batch": batch},
        model=Architecture(mixers, width, layers, "geglu", "rms", {"heads": 4, **units, **options}, tied=True),
        fit=FitConfig(steps=steps, chunk=steps // 2, warmup=steps // 10, weight_decay=0.1),
    )


@eqx.filter_jit
def losses(model: Any, x: Int[Array, "window time"], y: Int[Array, "window time"]) -> Float[Array, "window part"]:
    """The mean loss, in nats, of each `JUDGED` tokens of each window in turn, each window read from the initial state."""

    def of_window(x, y):
        parts = lambda a: a.reshape(-1, JUDGED, *a.shape[1:])
        return jax.vmap(lambda out, y: of_tokens(out[None], y[None])["loss"].mean)(parts(model(x)[0]), parts(y))

    return jax.vmap(of_window)(x, y)


def read(
    model: Any, tokens: Int[np.ndarray, " count"], length: int, at_once: int = 8
) -> Float[np.ndarray, "window part"]:
    """The losses of windows of so many tokens. Those of each length end at the same places, every `TIME` tokens."""
    ends = np.arange(max(LENGTHS), len(tokens), TIME)
    rows = tokens[ends[:, None] + np.arange(-length, 1)[None]].astype(np.int32)
    batches = [jnp.asarray(rows[begin : begin + at_once]) for begin in range(0, len(rows), at_once)]
    return np.concatenate([np.asarray(losses(model, rows[:, :-1], rows[:, 1:])) for rows in batches])


FUNCTION = "dualform.experiments.griffin.extrapolation:job"


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One trained model, read at each length."""
    del folder
    model = checkpoints.load(Path(config["run"]) / WEIGHTS).model
    found = {length: read(model, np.asarray(Text.open(config["data"]).test), length) for length in config["lengths"]}
    return {
        "judged": {str(length): each[:, -1].tolist() for length, each in found.items()},
        "parts": {str(length): each.mean(0).tolist() for length, each in found.items()},
    }


def _run(workshop: Workshop, preset: str, shakespeare: Path) -> Findings:
    grid, data = GRIDS[preset], shakespeare.resolve()
    sizes = {name: grid[name] for name in ("width", "layers", "batch", "steps")}
    recipes = {name: recipe(name, **sizes, data=data) for name in MIXERS}
    found, failed = trained(workshop, "extrapolation", recipes, grid["seeds"])
    jobs = [
        Job(
            f"{name}-seed={seed}",
            FUNCTION,
            {
                "model": name,
                "data": str(data),
                "lengths": list(LENGTHS),
                "run": str(trained_run(workshop, "extrapolation", name, each.rate, seed).resolve()),
            },
        )
        for name, each in found.items()
        for seed in range(grid["seeds"])
    ]
    done, unread = results_of(workshop.sweep("extrapolation-read", jobs))
    readings = {name: [result for config, result in done if config["model"] == name] for name in found}
    why = (
        f"{grid['layers']} blocks of width {grid['width']}, {grid['steps']:,} batches of {grid['batch']} windows of {TIME} "
        f"characters. Then windows of {', '.join(f'{length:,}' for length in LENGTHS)} are read, which end at the same places, "
        f"every {TIME} characters of the test. Judged are the last {JUDGED} of each, the same at every length: the rise is "
        f"their loss at {LENGTHS[-1]:,} less that at {LENGTHS[0]}, the mean over windows, with an interval of 95% as if windows "
        "were independent. The paper has a billion parameters, trained at 2,048 tokens, reads books, and plots. That is no "
        "measure of small models: judged is what it claims, that Griffin and Hawk go on to at least four times training's length "
        "without a loss, and that transformers do not."
    )
    rows = [row | {"readings": [_stored(each) for each in readings[row["model"]]]} for row in table(found, "loss")]
    return Findings(_numbers(found, readings), {"rows": rows}, grid["seeds"], why, [*failed, *unread])


def rise(reading: Mapping[str, Any], length: int) -> tuple[float, float]:
    """How much more the judged characters cost at this length than at the first, and half of its interval's width, in nats."""
    judged = reading["judged"]
    middle, low, _ = mean_interval(np.subtract(judged[str(length)], judged[str(LENGTHS[0])]))
    return middle, middle - low


def _stored(reading: Mapping[str, Any]) -> dict[str, Any]:
    """By length: the judged loss with its interval, its rise with half of its interval, the loss along the window."""
    return {
        length: {
            "loss": mean_interval(judged),
            "rise": rise(reading, int(length)),
            "along": reading["parts"][length],
        }
        for length, judged in reading["judged"].items()
    }


def _numbers(found: Mapping[str, Trained], readings: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Number]:
    """Of each model its rise, judged, and its losses."""
    numbers = []
    for name, each in found.items():
        if not readings[name]:
            continue
        numbers.append(_judged(name, readings[name]))
        curve = [mean(mean(reading["judged"][str(length)]) for reading in readings[name]) for length in LENGTHS]
        said = ", ".join(f"{loss:.4f} at {length:,}" for loss, length in zip(curve, LENGTHS, strict=True))
        edge = "" if each.inside else ", at the edge of those tried"
        rest = f"{each.results[0]['parameters']:,} parameters; learning rate {each.rate:g}{edge}"
        what = f"{name}: loss at {LENGTHS[-1]:,}, nats a character"
        numbers.append(ours_alone(what, curve[-1], f"mean of {counted(each.scores('loss'))}: {said}; {rest}"))
    return numbers


def _judged(name: str, readings: Sequence[Mapping[str, Any]]) -> Number:
    """The rise at the greatest length, of the seed that speaks most against the claim."""
    rises = [rise(reading, LENGTHS[-1]) for reading in readings]
    transformer = name == "transformer"
    middle, half = (min if transformer else max)(rises, key=lambda each: each[0] - each[1])
    extreme = f"the {'least' if transformer else 'greatest'} of {counted([each[0] for each in rises])}"
    between = ", ".join(
        f"{mean(rise(reading, length)[0] for reading in readings):+.4f} at {length:,}" for length in LENGTHS[1:-1]
    )
    why = (
        f"half of its interval, above which the loss rises; {extreme}, "
        f"{len(readings[0]['judged'][str(LENGTHS[0])])} windows; the mean {between}"
    )
    what = f"{name}: rise of the loss from {LENGTHS[0]} to {LENGTHS[-1]:,}, nats a character"
    return (at_least if transformer else at_most)(what, None, middle, half, why)


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "learning rate",
        "of 1e-3 to 1e-2 and beyond, the best on validation text of a seed of its own, at training's length",
    ),
    (
        "the text",
        "tiny Shakespeare by characters, its last twentieth for the test; the paper reads books and ArXiv in tokens",
    ),
    (
        "sizes and steps",
        f"cut for two cores; so is the window of the local attention, {WINDOW}, half of training's length",
    ),
    (
        "the blocks",
        "RMS norms, GeGLU of 8/3 of the width, no soft cap and no scaled embedding, for all three; decays drawn as in the code",
    ),
    ("the transformer", "as many key-value heads as heads, all channels turned by rotary angles of base 10,000"),
    (
        "which characters are judged",
        f"the last {JUDGED} of each window; the paper plots the loss along the window",
    ),
)

EXTRAPOLATION = Experiment("Texts read beyond training's length", UNKNOWNS, _run, needs=(SHAKESPEARE,))
