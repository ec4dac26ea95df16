"""What each lever of our training is worth: students with and without it, seed by seed.

    python -m benchmarks.identification_ablation [--presets default paper] [--seeds 10] [--without 3] [--write FILE.md]

Every student is trained by first-order steps alone and judged twice: as it ended, and after its reduction. Rows that say so
are polished first. All seeds are fresh: none had a part in choosing a schedule. `--seeds` are trained with our schedule, the
first `--without` of them with each lever taken away too. `--runs` is a sweep's folder: stopped at any moment, the same command
runs what is missing. `--record` is the JSON that an earlier call left beside its page: its students are not trained again.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import jax

from benchmarks.alternate import keep, write
from dualform.discover import discover
from dualform.experiments.gated_rnn.evidence import PAPER_STEPS
from dualform.experiments.gated_rnn.identification import (
    Identification,
    data_of,
    polish,
    preset,
    recipe_of_the_paper,
    train_student,
)
from dualform.experiments.numerals import number
from dualform.experiments.reproduction import rate_interval
from dualform.tasks import Teacher
from dualform.training import Job, Row, Run, sweep

FRESH = {"default": 11, "quick": 11, "paper": 4}
"""The first seed that had no part in choosing a preset's schedule."""

TARGETS = {"default": (1e-6, 1e-3), "quick": (1e-6, 1e-3), "paper": (5e-8, 4e-4)}
"""Relative loss and polynomial distance that AdamW alone is to reach, by preset: the paper's for Gaussian teachers."""

POLISHED = ("default", "quick")
"""The presets whose students are small enough to be polished."""


def _fit(**changes: float) -> Callable[[Identification], Identification]:
    return lambda config: replace(config, fit=replace(config.fit, **changes))


VARIANTS: dict[str, tuple[str, Callable[[Identification], Identification]]] = {
    "ours": ("AdamW, ours", lambda config: config),
    "recipe": (f"AdamW, the paper's recipe, as many steps as ours (the paper: {PAPER_STEPS:,})", recipe_of_the_paper),
    "whole": (
        "AdamW, the paper's recipe, as many steps as the paper",
        lambda config: _fit(steps=PAPER_STEPS)(recipe_of_the_paper(config)),
    ),
    "constant": (
        "without annealing the weight decay",
        lambda config: _fit(final_weight_decay=config.fit.weight_decay)(config),
    ),
    "none": ("without weight decay", _fit(weight_decay=0.0)),
    "rate": ("without the decays' own rate", _fit(decay_rate=1.0)),
    "uncut": ("without cutting while training", lambda config: replace(config, shrink=0.0)),
    "plain": ("with the plain mean of squares", lambda config: replace(config, by_position=False)),
    "step": ("one step of AdamW", _fit(steps=1, warmup=1)),
}
"""What is varied, in words and as a change of a preset's config. All but the paper's and the last take away one lever."""


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One student of one variant: what was found as it ended, after its reduction and, where asked, after polishing."""
    base = replace(preset(config["preset"]), seed=config["seed"])
    varied = VARIANTS[config["variant"]][1](base)
    teacher = Teacher.find(varied.teacher, d=varied.d, seed=varied.seed)
    data, run = data_of(teacher, varied), Run(folder)
    judge = lambda rnn: discover(
        rnn, teacher.attention, data.ablate, test=data.test, horizon=varied.horizon, seed=varied.seed
    )
    with jax.enable_x64(False):
        begin = time.process_time()
        fitted = train_student(varied, data.train, run)
        if (trained := run.read_json("training.json")) is None:  # judging anew does not change what training took
            run.write_json("training.json", trained := {"seconds": time.process_time() - begin})
        found: dict[str, Any] = {"seed": varied.seed, **trained}
        if config["judged"]:
            result = judge(fitted.model).result()
            found |= {"trained": result["given"], "reduced": result["reduced"], "verdict": result["verdict"]}
        if config["polished"]:
            begin = time.process_time()
            run.keep_metrics("polish", 0)
            second = polish(fitted.model, data.train, data.ablate, varied.second_order, run, seed=varied.seed)
            result = judge(second.rnn).result()
            found["polished"] = {"trained": result["given"], "reduced": result["reduced"], "verdict": result["verdict"]}
            found["polishing_seconds"] = time.process_time() - begin
    return found


def jobs(presets: Sequence[str], variants: Sequence[str], seeds: int, without: int, whole: int) -> list[Job]:
    """A job for each preset, variant and fresh seed: our schedule first, on all of its seeds; the longest last.

    At n = m = 100 nothing is polished, since an iteration's cost grows with the cube of the parameters. The step alone is asked
    only for what polishing makes of it.
    """
    students = [("ours", i) for i in range(seeds)]
    students += [(variant, i) for i in range(without) for variant in variants if variant not in ("ours", "whole")]
    students += [("whole", i) for i in range(whole) if "whole" in variants]
    asked = [(variant, i, name) for variant, i in students for name in presets if variant != "step" or name in POLISHED]
    return [_job(name, variant, FRESH[name] + i) for variant, i, name in asked]


def _job(name: str, variant: str, seed: int) -> Job:
    config = {
        "preset": name,
        "variant": variant,
        "seed": seed,
        "judged": variant != "step",
        "polished": variant in ("ours", "step") and name in POLISHED,
    }
    return Job(f"{name}-{variant}-{seed}", "benchmarks.identification_ablation:job", config)


def recorded(path: Path, asked: Sequence[Job]) -> list[Row]:
    """The students of an earlier call's record that are among those asked for and were trained."""
    found = {row["name"]: tuple(row["results"]) for row in json.loads(path.read_text())["rows"] if row["results"]}
    return [Row(one.name, one.config, "done", found[one.name]) for one in asked if one.name in found]


def table(rows: Sequence[Row], name: str) -> str:
    """One preset's table: a line for each variant, rates with Wilson intervals, medians over seeds."""
    loss, distance = TARGETS[name]
    head = [
        "training",
        f"loss <= {loss:g}, distance <= {distance:g}, no unit between missed",
        "identified as trained",
        "identified after reduction",
        "loss",
        "polynomial distance",
        "units at 1 / at 0 / between as trained",
        "after reduction",
        "CPU seconds",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for variant, (what, _) in VARIANTS.items():
        done = [
            row for row in rows if (row.config["preset"], row.config["variant"], row.status) == (name, variant, "done")
        ]
        results = [row.results[0] for row in done]
        if judged := [result for result in results if "trained" in result]:
            lines.append(_line(what, judged, loss, distance, [result["seconds"] for result in judged]))
        if polished := [result["polished"] for result in results if "polished" in result]:
            seconds = [result["seconds"] + result["polishing_seconds"] for result in results]
            lines.append(_line(f"{what}, then polished", polished, loss, distance, seconds))
    return "\n".join(lines)


def met(result: Mapping[str, Any], loss: float, distance: float) -> bool:
    """Whether the network as it ended is at the target, and an ablation misses none of its units between."""
    trained = result["trained"]
    return (
        trained["relative_loss"] <= loss
        and trained["polynomial_distance"] <= distance
        and result["reduced"]["other_units"] == 0
    )


def _line(what: str, results: Sequence[Mapping[str, Any]], loss: float, distance: float, seconds: Sequence[float]):
    def share(good: Callable[[Mapping[str, Any]], bool]) -> str:
        count = sum(map(good, results))
        low, high = rate_interval(count, len(results))
        return f"{count} of {len(results)} ({low:.0%} to {high:.0%})"

    def middle(key: str) -> str:
        values = sorted(result["trained"][key] for result in results)
        return f"{number(median(values))} ({number(values[0])} to {number(values[-1])})"

    def counts(part: str) -> str:
        names = ("memory_units", "forget_units", "other_units")
        return " / ".join(f"{median(result[part][name] for result in results):g}" for name in names)

    cells = [
        what,
        share(lambda result: met(result, loss, distance)),
        share(lambda result: result["trained"]["verdict"] == "identified"),
        share(lambda result: result["reduced"]["verdict"] == "identified"),
        middle("relative_loss"),
        middle("polynomial_distance"),
        counts("trained"),
        counts("reduced"),
        f"{median(seconds):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["default", "paper"], choices=list(TARGETS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=10, help="fresh seeds of our schedule")
    parser.add_argument("--without", type=int, default=3, help="of these, those trained without each lever too")
    parser.add_argument(
        "--whole", type=int, default=1, help="of these, those trained by the paper's recipe for all of its steps"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/identification_ablation"))
    parser.add_argument("--record", type=Path, default=None)
    parser.add_argument("--done", action="store_true", help="train nothing: the table of what is there")
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    backend = "here" if options.workers == 1 else "processes"
    every = jobs(options.presets, options.variants, options.seeds, options.without, options.whole)
    kept = [] if options.record is None else recorded(options.record, every)
    asked = [one for one in every if one.name not in {row.name for row in kept}]
    if options.done:
        asked = [one for one in asked if (options.runs / one.name / "result.json").exists()]
    rows = kept + sweep(asked, options.runs, workers=options.workers, backend=backend)
    missing = [one.name for one in every if one.name not in {row.name for row in rows}]
    paragraphs = [
        f"Every number is measured on held-out tokens, by `discover` over a horizon of {Identification().horizon} tokens. The "
        "real head of the preset default is linearised, without rotary angles, on four whitened directions of the model's "
        "activations. A seed is that of the student, the data and a Gaussian teacher. None had a part in choosing the "
        f"schedule: they begin at {FRESH['default']} for the real head, at {FRESH['paper']} for Gaussian teachers.",
        "Rates have 95% Wilson intervals. Other cells are medians over seeds, losses and distances with the least and the "
        "most, of the network before its reduction. CPU seconds are those of training, and of polishing in its rows, "
        "compilation included; they are more where other jobs share the cores. Polishing starts from the network that "
        "training left, adds no unit and forces no decay: "
        f"{Identification().second_order.iterations} iterations of Levenberg-Marquardt at the most.",
    ]
    if missing:
        paragraphs.insert(
            0,
            f"**Not complete**: {len(rows)} of {len(every)} students are trained; rates say of how many. Not trained: "
            f"{', '.join(missing)}.",
        )
    if kept:
        paragraphs.append(
            f"{len(kept)} of the students were trained by an earlier call, and are taken from its record."
        )
    for name in options.presets:
        config = preset(name)
        paragraphs.append(
            f"## Preset {name}\n\nTeacher {config.teacher}, n = {config.n}, m = {config.m}, {config.fit.steps:,} steps.\n\n"
            + table(rows, name)
        )
    failed = [f"- {row.name}: {row.reason}" for row in rows if row.status != "done"]
    if failed:
        paragraphs.append("## Failed\n\n" + "\n".join(failed))
    command = "python -m benchmarks.identification_ablation --presets " + " ".join(options.presets)
    command += f" --variants {' '.join(options.variants)} --seeds {options.seeds} --without {options.without}"
    command += f" --whole {options.whole}"
    print(write(options.write, "What each lever of training is worth", command, paragraphs))
    keep(options.write, {"rows": [{"name": row.name, "results": row.results, "reason": row.reason} for row in rows]})


if __name__ == "__main__":
    main()
