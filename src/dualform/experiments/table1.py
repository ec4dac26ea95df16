"""Table 1: teachers with Gaussian weights identified, d = 4, n = m = 100."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dualform.experiments.evidence import PAPER, UNKNOWNS
from dualform.experiments.identification import identify, preset
from dualform.experiments.reproduction import (
    Experiment,
    Findings,
    Number,
    Workshop,
    at_most,
    ours_alone,
    rate_interval,
    results_of,
)
from dualform.training import Job

SEEDS = {"quick": 2, "full": 10}
KEPT = ("kv_score", "q_score", "polynomial_distance", "memory_units", "forget_units", "other_units", "readout_units")


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One teacher and its student, trained and reverse-engineered by the preset paper."""
    result = identify(replace(preset("paper"), seed=config["seed"]), folder / "run")
    return {name: result[name] for name in ("verdict", "relative_loss", *KEPT, "recovered_error", "seconds", "seed")}


def jobs(count: int) -> list[Job]:
    """The sweep that Table 1 and Fig. 2 share."""
    return [
        Job(f"seed={seed}", "dualform.experiments.table1:job", {"preset": "paper", "seed": seed})
        for seed in range(count)
    ]


def _run(workshop: Workshop, preset: str) -> Findings:
    done, failed = results_of(workshop.sweep("identification", jobs(SEEDS[preset])))
    rows = [result for _, result in done]
    worst = lambda name: max((row[name] for row in rows), default=float("inf"))
    numbers = [
        at_most(text, float(PAPER[name]), worst(name), float(PAPER[name]), "the paper's; the worst of all seeds")
        for name, text in (
            ("relative_loss", "loss / target power"),
            ("kv_score", "KV score"),
            ("q_score", "Q score"),
            ("polynomial_distance", "polynomial distance"),
        )
    ]
    for name, text in (
        ("memory_units", "units at 1"),
        ("forget_units", "units at 0"),
        ("other_units", "units between"),
    ):
        counts = sorted({int(row[name]) for row in rows})
        same = counts == [PAPER[name]]
        numbers.append(Number(text, PAPER[name], _list(counts), "the same in every seed", "met" if same else "differs"))
    numbers.append(at_most("pre-readout units", 13, worst("readout_units"), 13, "the paper's 13 act as 11"))
    identified = sum(row["verdict"] == "identified" for row in rows)
    if rows:
        low, high = rate_interval(identified, len(rows))
        numbers.append(
            ours_alone(
                "seeds identified",
                f"{identified} of {len(rows)} (95%: {low:.0%} to {high:.0%})",
                "a teacher, a student and data of its own for each seed",
            )
        )
    why = (
        "The loss is relative to the target's power; the paper does not say what its loss is divided by. Students are "
        "trained by AdamW and polished by Levenberg-Marquardt on fresh data, then reduced; the numbers are the reduced "
        "network's, as in the paper."
    )
    return Findings(numbers, {"rows": rows}, len(rows), why, failed)


def _list(values: list[int]) -> int | str:
    return values[0] if len(values) == 1 else ", ".join(map(str, values))


TABLE1 = Experiment("Table 1: gated RNNs implement attention", UNKNOWNS, _run)
