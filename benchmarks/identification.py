"""Time to identification: `dualform discover` as a person runs it, seed by seed, beside the paper's own recipe.

    python -m benchmarks.identification [--preset default|paper] [--seeds 5] [--recipe] [--write FILE.md]

Every seed is a process of its own, so that its seconds hold imports and compilation. `--recipe` also trains each student by
the paper's optimiser (AdamW, 1e-3, weight decay 1e-4, none of our levers) for as many steps, in the same process; its
seconds are given apart. What each lever is worth is measured by `benchmarks.identification_ablation`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.alternate import keep, write
from dualform.experiments.gated_rnn.evidence import COLUMNS, MEANING, PAPER, recipe_name
from dualform.experiments.numerals import count, number
from dualform.experiments.reproduction import rate_interval


def run(preset: str, seed: int, recipe: bool, folder: Path) -> dict[str, Any]:
    """One seed in a fresh process: its result, and the seconds of the whole process without the paper's recipe."""
    out = folder / f"{preset}-{seed}"
    command = [sys.executable, "-m", "dualform", "discover", "--preset", preset, "--seed", str(seed), "--seeds", "1"]
    command += ["--out", str(out), "--paper-recipe", "yes" if recipe else "no"]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    result = json.loads((out / "result.json").read_text())
    result["wall"] = wall - (result["paper_recipe"]["seconds"] if recipe else 0.0)
    return result


def rows(results: list[dict[str, Any]], part: str) -> str:
    """A Markdown table of one network of each run, one line a seed, with the paper's numbers last."""
    head = ["seed", "verdict", *(meaning.name for meaning in MEANING.values()), "seconds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    show = lambda key, value: (count if isinstance(PAPER[key], int) else number)(value)
    for result in results:
        numbers = result[part]
        seconds = result["training_seconds"] if part == "trained" else numbers.get("seconds")
        lines.append(
            f"| {result['seed']} | {numbers.get('verdict', '')} | "
            + " | ".join(show(key, numbers[key]) for key in MEANING)
            + f" | {'' if seconds is None else f'{seconds:.0f}'} |"
        )
    lines.append("| paper | | " + " | ".join(show(key, value) for key, value in PAPER.items()) + " | |")
    return "\n".join(lines)


def main() -> None:
    """Run every seed and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", choices=["default", "quick", "paper"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", action="store_true")
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [run(options.preset, seed, options.recipe, Path(folder)) for seed in range(options.seeds)]
    identified = sum(result["verdict"] == "identified" for result in results)
    low, high = rate_interval(identified, len(results))
    seconds = sorted(result["wall"] for result in results)
    paragraphs = [
        f"{identified} of {len(results)} seeds identified (95%: {low:.0%} to {high:.0%}), by gradient descent alone and its "
        f"reduction; seconds of the whole process, imports, compilation and polishing included: median "
        f"{seconds[len(seconds) // 2]:.0f}, least {seconds[0]:.0f}, most {seconds[-1]:.0f}. A seed is that of the student, "
        "the data and a Gaussian teacher. Every number is measured on held-out tokens.",
        *(f"## {name.capitalize()}: {what}\n\n" + rows(results, name) for name, what in COLUMNS.items()),
    ]
    if options.recipe:
        paragraphs.append(
            f"## The {recipe_name(results[0]['steps'])}\n\nAdamW, 1e-3 to 1e-6, weight decay 1e-4, all units kept, nothing "
            "done afterwards.\n\n" + rows(results, "paper_recipe")
        )
    command = f"python -m benchmarks.identification --preset {options.preset} --seeds {options.seeds}"
    command += " --recipe" if options.recipe else ""
    print(write(options.write, f"Time to identification, preset {options.preset}", command, paragraphs))
    keep(options.write, {"preset": options.preset, "results": results})


if __name__ == "__main__":
    main()
