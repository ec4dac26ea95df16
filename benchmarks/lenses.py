"""How far each layer is from what a model says in the end, in bits a token: the logit lens against the tuned lens, held out.

    python -m benchmarks.lenses --text FILE [--rwkv FILE] [--steps 250] [--mixers NAME ...] [--model-steps 300]
                                [--real-steps 40] [--seeds 2] [--only MODEL ...] [--write FILE.md]

A tuned lens for each model, by the published settings but for the batch, on the first nine tenths of a text; both lenses are
measured on windows of its last tenth. The models: `characters` of the package, recurrent models of one mixer each that are
trained here on the same nine tenths (about 1M parameters, a few hundred steps), RWKV-4's tiny weights (--rwkv), and SmolLM2-135M
where it is in the cache, by fewer and smaller steps.
"""

import argparse
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alternate import write
from dualform import checkpoints
from dualform.arrays import count_parameters
from dualform.checkpoints.cache import is_there
from dualform.checkpoints.catalogue import known
from dualform.intervals import mean_interval
from dualform.lenses import LensConfig
from dualform.lenses.lens_run import train_on_text
from dualform.lenses.readings import BITS
from dualform.training.recipe import Recipe

TRAINED = ("gla", "rwkv4", "mamba", "delta_rule", "min_gru")
SMALL = {"batch": 2, "length": 64}
"""What is cut for SmolLM2: a step of its lens takes seconds on two cores."""
CHARACTERS = 12_000
"""Of the text, for SmolLM2, whose tokens are words."""


def trained(mixer: str, text: Path, steps: int, folder: Path) -> Path:
    """The folder of a model of one mixer, trained on a text's characters."""
    told = {
        "task": "text",
        "data": str(text),
        "settings": {"time": 128, "batch": 16},
        "model": {"mixers": [mixer], "width": 128, "layers": 4},
        "fit": {"steps": steps, "warmup": steps // 10, "chunk": steps},
    }
    Recipe.of(told).train(folder / mixer)
    return folder / mixer


def rows(name: str, loaded: Any, text: str, config: LensConfig, seeds: int, folder: Path) -> tuple[list[str], str]:
    """Rows of the table, one for each layer: means over seeds; and how long each training took."""
    results, took = [], []
    for seed in range(seeds):
        told = LensConfig(**{**vars(config), "seed": seed})
        begin, out = time.perf_counter(), folder / f"{name}-{seed}.safetensors"
        results.append(train_on_text(loaded, text, told, out, out.with_suffix(".run")).losses)
        took.append(time.perf_counter() - begin)
    found = []
    for i, layer in enumerate(results[0].layers):
        logit, tuned = results[0].logit[i], np.mean([each.tuned[i] for each in results], axis=0)
        less, low, high = (each * BITS for each in mean_interval(logit - tuned))
        worst = max(float(np.mean(each.tuned[i])) for each in results) * BITS
        means = (float(np.mean(each, dtype=np.float64)) * BITS for each in (logit, tuned))
        cells = [*(f"{each:.4g}" for each in means), f"{worst:.4g}", f"{less:.4g} ({low:.4g} to {high:.4g})"]
        found.append(f"| {name if i == 0 else ''} | {layer} | {' | '.join(cells)} |")
    size = count_parameters(loaded.model)
    return found, f"{name}: {size:,} parameters, {config.tokens:,} tokens, {max(took):.0f} s"


def command(options: argparse.Namespace) -> str:
    """What makes the report again."""
    given = {"text": [options.text.name], "rwkv": [] if options.rwkv is None else [options.rwkv.name]}
    given |= {"steps": [options.steps], "mixers": options.mixers, "model-steps": [options.model_steps]}
    given |= {"real-steps": [options.real_steps], "seeds": [options.seeds], "only": options.only or []}
    words = (f"--{name} {shlex.join(map(str, values))}" for name, values in given.items() if values)
    return f"python -m benchmarks.lenses {' '.join(words)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--rwkv", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--model-steps", type=int, default=300)
    parser.add_argument("--mixers", nargs="*", default=TRAINED)
    parser.add_argument("--real-steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    wanted = lambda name: options.only is None or name in options.only
    text, config = options.text.read_text(), LensConfig(steps=options.steps)
    table = [
        "| model | layer | logit lens | tuned lens | its worst seed | less by |",
        "|---|---|---|---|---|---|",
    ]
    took = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        learnt = folder / "text"
        learnt.write_text(text[: len(text) - len(text) // 10])  # the models see nothing of what lenses are measured on
        models: dict[str, Any] = {"characters": lambda: checkpoints.load("characters")}
        if options.rwkv is not None:
            models["RWKV-4, tiny"] = lambda: checkpoints.load(options.rwkv)
        for mixer in options.mixers:
            models[mixer] = lambda mixer=mixer: checkpoints.load(trained(mixer, learnt, options.model_steps, folder))
        if is_there(known("smollm2")):
            models["SmolLM2-135M"] = lambda: checkpoints.load("smollm2")
        for name, load in models.items():
            if not wanted(name):
                continue
            real = name == "SmolLM2-135M"
            own = LensConfig(options.real_steps, **SMALL) if real else config
            found, said = rows(
                name, load(), text[-CHARACTERS:] if real else text, own, 1 if real else options.seeds, folder
            )
            table += found
            took.append(said)
            print("\n".join([*found, said]), flush=True)
    print(
        write(
            options.write,
            "What each layer would say: the logit lens and the tuned lens",
            command(options),
            [
                f"KL(final || lens) in bits a token, on up to 32 windows of the last tenth of {options.text.name}, which neither "
                "the lens nor the models of one mixer saw in training. The last layer, whose KL is 0, is left out."
                " Less by: the mean over windows of the paired difference, with its interval of 95%. Means "
                f"of {options.seeds} seeds, of SmolLM2 one, on the last {CHARACTERS:,} characters.",
                "\n".join(table),
                "A training with its measuring, compilation included, the slowest seed of each: "
                + "; ".join(took)
                + ".",
            ],
        )
    )


if __name__ == "__main__":
    main()
