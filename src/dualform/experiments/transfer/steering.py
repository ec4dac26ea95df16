"""Steering: how a behaviour that is counted goes up with the dose, of activations and of states, and what that costs.

The behaviour is upper case (`upper_case.share`). The contrast is of lines of a text in upper case, less the same lines as they
are. Each dose writes on from the same prompts with the same draws, and reads the same held-out passages; so does a random vector
of the same norm. Three models: the trained characters that come with the package, gated linear attention that is trained here on
a text half of whose sections are upper case, so that it has to remember which it is in, and SmolLM2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import jax.random as jr
import numpy as np

from dualform import checkpoints
from dualform.experiments.griffin.extrapolation import SHAKESPEARE
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_least, ours_alone, results_of
from dualform.experiments.transfer.upper_case import cased, contrast_lines, prompts, share
from dualform.generation import passages_of
from dualform.intervals import mean_interval
from dualform.lenses import SteeringVector, contrast, random_like, steered_perplexity, steered_session
from dualform.models.architecture import Architecture
from dualform.reading import text_of_file
from dualform.tensor_file import write_atomically
from dualform.training import Job
from dualform.training.config import FitConfig
from dualform.training.recipe import WEIGHTS, Recipe

TRAINING, FUNCTION = "dualform.training.recipe:job", "dualform.experiments.transfer.steering:job"
CASED_SEED, CONTRAST_SEED, DRAWS, CONTROL = 0, 0, 3, 1
"""Seeds: of the sections that are upper case, of the lines of the contrast, of what is written, of the random vector."""
TEMPERATURE = 0.8


@dataclass(frozen=True)
class Arm:
    """A way to steer a model.

    - model: characters, smollm2, or one that is trained here.  places, states, over: as of `lenses`.  doses: from 0 up.
    """

    model: str
    places: Sequence[str]
    doses: Sequence[float]
    states: str = "each"
    over: str = "all"


ARMS: dict[str, Arm] = {
    "characters, activations": Arm("characters", ("block 2.out",), (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)),
    "gla, activations": Arm("gla", ("block 1.out",), (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)),
    "gla, states": Arm("gla", ("block 1.state",), (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)),
    "gla, states once": Arm("gla", ("block 1.state",), (0.0, 0.5, 1.0, 1.5, 2.0, 2.5), "once"),
    "gla, both": Arm("gla", ("block 1.out", "block 1.state"), (0.0, 0.25, 0.5, 0.75, 1.0, 1.25), "once"),
    "smollm2, activations": Arm("smollm2", ("block 15.out",), (0.0, 0.5, 1.0, 1.5, 2.0, 3.0), over="last"),
}
"""Every way, in the layer in the middle, or the lower of two. SmolLM2's activations at a text's first token are 150 times as long
as those at others there, so that a mean over all tokens is of that token; its vector is of the last one."""


@dataclass(frozen=True)
class Sizes:
    """How much is read and written.

    - lines: of the contrast.  texts: prompts.  given: tokens of each prompt.  length: tokens that are written.
    - passages, time: of the held-out text, whose first `given` tokens are read as a prompt.
    """

    lines: int
    texts: int
    given: int
    length: int
    passages: int
    time: int


SMALL, LARGE = Sizes(64, 32, 24, 64, 8, 128), Sizes(256, 128, 24, 128, 32, 256)
GRIDS: dict[str, dict[str, Any]] = {
    "quick": {
        "sizes": {"characters": SMALL, "gla": SMALL, "smollm2": Sizes(24, 8, 8, 20, 4, 48)},
        "width": 64,
        "steps": 1200,
        "batch": 16,
    },
    "full": {
        "sizes": {"characters": LARGE, "gla": LARGE, "smollm2": Sizes(64, 32, 8, 32, 8, 128)},
        "width": 128,
        "steps": 4000,
        "batch": 32,
    },
}
GAP = 0.2
"""How much more of the letters than under a random vector are to be upper case at the greatest dose."""


def recipe(data: Path, width: int, steps: int, batch: int) -> Recipe:
    """Two blocks of gated linear attention, by characters."""
    return Recipe(
        task="text",
        data=str(data),
        settings={"time": 128, "batch": batch},
        model=Architecture(("gla",), width, 2, "swiglu", "rms"),
        fit=FitConfig(
            steps=steps,
            chunk=steps // 2,
            warmup=steps // 10,
            learning_rate=3e-3,
            final_learning_rate=3e-5,
            weight_decay=0.1,
        ),
        seed=1,
    )


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One arm: shares and perplexities by dose, of the vector and of a random one."""
    del folder
    arm, sizes = Arm(**config["arm"]), Sizes(**config["sizes"])
    return measured(checkpoints.load(config["source"]), text_of_file(config["data"]), arm, sizes)


def measured(loaded: Any, text: str, arm: Arm, sizes: Sizes) -> dict[str, Any]:
    """What an arm does to a model that was loaded, on this text."""
    lines = contrast_lines(text, sizes.lines, CONTRAST_SEED)
    encoded = lambda said: np.asarray(loaded.encode(said))
    toward, away = [encoded(line.upper()) for line in lines], [encoded(line) for line in lines]
    over: Any = arm.over
    vector = contrast(loaded.model, toward, away, list(arm.places), over=over)
    begins = [encoded(line)[: sizes.given] for line in prompts(text, sizes.texts, lines)]
    passages = passages_of(encoded(text[int(0.95 * len(text)) :]), sizes.passages, sizes.time)
    control = random_like(vector, key=jr.key(CONTROL))
    rows = {
        name: [_dose(loaded, each, dose, arm, np.stack(begins), passages, sizes) for dose in arm.doses]
        for name, each in (("vector", vector), ("control", control))
    }
    return {"doses": list(arm.doses), "norms": vector.norms, **rows}


def _dose(
    loaded: Any, vector: SteeringVector, dose: float, arm: Arm, begins: np.ndarray, passages: np.ndarray, sizes: Sizes
) -> dict[str, Any]:
    """Of one dose: each text's share, one of the texts, and the loss of each passage in nats a token."""
    states: Any = arm.states
    session = steered_session(loaded.model, begins, vector, dose, states=states, texts=len(begins))
    written = session.write(sizes.length, key=jr.key(DRAWS), temperature=TEMPERATURE)
    texts = ["".join(loaded.decode(ids)) for ids in written]
    cost = steered_perplexity(loaded.model, passages, vector, dose, given=sizes.given, states=states)
    return {"shares": [share(each) for each in texts], "text": texts[0], "losses": cost.losses.tolist()}


def _run(workshop: Workshop, preset: str, shakespeare: Path) -> Findings:
    grid, data = GRIDS[preset], shakespeare.resolve()
    place = workshop.folder.resolve() / "data" / "cased.txt"
    write_atomically(place, cased(text_of_file(data), CASED_SEED).encode())
    told = recipe(place, grid["width"], grid["steps"], grid["batch"])
    trainings = [Job("gla", TRAINING, told.told())]
    trained, failed = results_of(workshop.sweep("steering-models", trainings))
    sources = {"characters": "characters", "smollm2": "smollm2"}
    if trained:
        sources["gla"] = str(workshop.runs("steering-models", trainings).resolve() / "gla" / "run" / WEIGHTS)
    jobs = [
        Job(
            name.replace(", ", "-").replace(" ", "-"),
            FUNCTION,
            {
                "name": name,
                "source": sources[arm.model],
                "data": str(data),
                "arm": asdict(arm),
                "sizes": asdict(grid["sizes"][arm.model]),
            },
        )
        for name, arm in ARMS.items()
        if arm.model in sources
    ]
    done, broken = results_of(workshop.sweep("steering", jobs))
    found = {config["name"]: result for config, result in done}
    counts = [_listed(grid, name) for name in ("lines", "length", "texts", "passages")]
    why = (
        "The share of upper-case letters among the letters that are written, the mean over prompts with an interval of 95%. The "
        f"vector is the mean over {counts[0]} lines of the first nine tenths of the text, upper case less as they are; prompts "
        f"and passages are of its last twentieth. Written are {counts[1]} tokens behind each of {counts[2]} prompts at "
        f"temperature {TEMPERATURE}, by the same draws at each dose. The cost is nats a token of {counts[3]} passages above the "
        "unsteered ones', whose first tokens are read as a prompt. Doses of the gated linear attention were chosen with a model "
        "of another seed. It is trained here on the text with half of its sections in upper case "
        f"({grid['steps']:,} steps, width {grid['width']}, one seed); characters has seen upper case in names alone."
    )
    numbers = [number for name, arm in ARMS.items() if name in found for number in _numbers(name, arm, found[name])]
    data = {
        "arms": {name: _stored(found[name]) for name in found},
        "trained": [_scores(result) for _, result in trained],
    }
    return Findings(numbers, data, 1, why, [*failed, *broken])


def _listed(grid: Mapping[str, Any], name: str) -> str:
    """A size of each model, in the order of the models."""
    sizes = [getattr(each, name) for each in grid["sizes"].values()]
    return str(sizes[0]) if len(set(sizes)) == 1 else " or ".join(map(str, dict.fromkeys(sizes)))


def _scores(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("parameters", "validation", "test")}


def _stored(result: Mapping[str, Any]) -> dict[str, Any]:
    """By dose: share with its interval, nats a token above no dose with theirs, perplexity, and a text; of both vectors."""
    curve = lambda rows: [
        {
            "share": mean_interval(np.array(row["shares"])),
            "cost": mean_interval(np.subtract(row["losses"], rows[0]["losses"])),
            "perplexity": float(np.exp(mean(row["losses"]))),
            "text": row["text"],
        }
        for row in rows
    ]
    return {
        "doses": result["doses"],
        "norms": result["norms"],
        "vector": curve(result["vector"]),
        "control": curve(result["control"]),
    }


def _numbers(name: str, arm: Arm, result: Mapping[str, Any]) -> list[Number]:
    """The least rise from a dose to the next, the gap to the control, and what the doses cost."""
    shares = [mean(row["shares"]) for row in result["vector"]]
    controls = [mean(row["shares"]) for row in result["control"]]
    said = ", ".join(f"{share:.3f} at {dose:g}" for share, dose in zip(shares, arm.doses, strict=True))
    gaps = np.subtract(result["vector"][-1]["shares"], result["control"][-1]["shares"])
    _, low, high = mean_interval(gaps)
    costs = [mean(np.subtract(row["losses"], result["vector"][0]["losses"])) for row in result["vector"]]
    spent = ", ".join(f"{cost:+.3f} at {dose:g}" for cost, dose in zip(costs, arm.doses, strict=True))
    begin = float(np.exp(mean(result["vector"][0]["losses"])))
    others = [mean(np.subtract(row["losses"], result["control"][0]["losses"])) for row in result["control"]]
    return [
        at_least(
            f"{name}: least rise of the share from a dose to the next",
            None,
            float(np.diff(shares).min()),
            0.0,
            f"a dose never has a smaller share than the one before it; the share is {said}",
        ),
        at_least(
            f"{name}: share at the greatest dose above that of a random vector",
            None,
            float(gaps.mean()),
            GAP,
            f"it is the direction, and not the size; interval {low:.3f} to {high:.3f}; the random one {controls[-1]:.3f}",
        ),
        ours_alone(
            f"{name}: nats a token at the greatest dose above none",
            costs[-1],
            f"perplexity {begin:.2f} unsteered; {spent}; the random vector {others[-1]:+.3f} at {arm.doses[-1]:g}",
        ),
    ]


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "the behaviour",
        "the share of upper-case letters, which can be counted; the paper asks chat models about behaviours",
    ),
    ("the models", "of 0.1 to 135 million parameters; the paper has Mamba and RWKV-v5 of 3 and 7 billion"),
    ("over which tokens", "means over all of a line's tokens, of SmolLM2 the last; the paper takes the answer's"),
    (
        "when states are added to",
        "before each token, and, as in the paper's code, once before the prompt's last; the paper reads one token behind it",
    ),
    ("the layer", "the one in the middle, the lower of two; the paper sweeps layers"),
)

STEERING = Experiment("Steering by activations and by states, with its cost", UNKNOWNS, _run, needs=(SHAKESPEARE,))
