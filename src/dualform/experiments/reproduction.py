"""What every reproduced table and figure of a paper is made of: its numbers, ours, what was allowed, and a verdict."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dualform.errors import require
from dualform.experiments.data_file import DataFile
from dualform.experiments.protocol import combined, protocol
from dualform.training import Job, Row, Run, sweep
from dualform.training.run import versions
from dualform.training.sweeps import Backend

Outcome: TypeAlias = Literal["met", "better", "differs", "ours alone"]
Verdict: TypeAlias = Literal["reproduced", "better", "differs", "ours alone"]
PRESETS = ("quick", "full")


@dataclass(frozen=True)
class Number:
    """One number of the paper beside ours.

    - name: what it is.  paper, ours: numbers, or words where the paper has words; None where the paper has none.
    - rule: what was allowed, and why.  outcome: how it came out under that rule.
    - expected: what a formula or a construction of ours gives, None where there is none. It is not the paper's.
    """

    name: str
    paper: float | int | str | None
    ours: float | int | str
    rule: str
    outcome: Outcome
    expected: float | int | str | None = None


def at_most(name: str, paper: float | None, ours: float, limit: float, why: str, *, alike: bool = True) -> Number:
    """A number that should be small: met at or below `limit`, better where it is also below the paper's.

    **Arguments:** alike: whether ours was made as the paper's was; only then can it be better.
    """
    good = ours <= limit
    better = good and alike and paper is not None and ours < paper
    return Number(
        name, paper, ours, f"at most {limit:.3g}: {why}", "better" if better else "met" if good else "differs"
    )


def at_least(name: str, paper: float | None, ours: float, limit: float, why: str) -> Number:
    """A number that should be large: met at or above `limit`."""
    return Number(name, paper, ours, f"at least {limit:.3g}: {why}", "met" if ours >= limit else "differs")


def within(name: str, paper: float, ours: float, tolerance: float, why: str) -> Number:
    """A number that should be the paper's: met within `tolerance`, absolute."""
    return Number(name, paper, ours, f"within {tolerance:.2g}: {why}", _near(ours, paper, tolerance))


def as_expected(
    name: str, expected: float, ours: float, tolerance: float, why: str, *, paper: float | str | None = None
) -> Number:
    """A number that should be what a formula of ours gives: met within `tolerance` of it, absolute; the paper's is shown."""
    return Number(name, paper, ours, f"within {tolerance:.2g}: {why}", _near(ours, expected, tolerance), expected)


def _near(ours: float, target: float, tolerance: float) -> Outcome:
    return "met" if abs(ours - target) <= tolerance else "differs"


def ours_alone(name: str, ours: float | int | str, why: str, *, expected: float | int | str | None = None) -> Number:
    """A number that the paper does not have, and that decides nothing."""
    return Number(name, None, ours, why, "ours alone", expected)


@dataclass(frozen=True)
class Findings:
    """What one experiment gives.

    - numbers: the comparisons.  why: where something differs, or what is to be known when reading, in plain words.
    - data: what the pictures are drawn from, of what JSON can hold, small.
    - seeds: how many.  failed: runs that failed, with their reasons.
    """

    numbers: Sequence[Number]
    data: dict[str, Any]
    seeds: int
    why: str = ""
    failed: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """One table or figure: its title, what the paper leaves open (what, our choice), and how to make it.

    - run: (workshop, preset, a path for each of `needs`) -> findings.
    - beyond: whether the paper has nothing of the kind, so that there is nothing to reproduce.
    - needs: the data that it reads and that are not part of dualform.
    """

    title: str
    unknowns: Sequence[tuple[str, str]]
    run: Callable[..., Findings]
    beyond: bool = False
    needs: Sequence[DataFile] = ()

    @property
    def function(self) -> str:
        """The function that makes it, or the one that holds it, as "module:name"."""
        return f"{self.run.__module__}:{self.run.__qualname__.partition('.')[0]}"


@dataclass(frozen=True)
class Paper:
    """A paper, of which results are made again.

    - name: as it is typed and as folders are called.  title, citation: its title; authors, year, and where it is.
    - results: its tables and figures by name, then what goes beyond it.
    """

    name: str
    title: str
    citation: str
    results: Mapping[str, Experiment]


@dataclass
class Workshop:
    """Where experiments run: a folder of sweeps that they share, so that two figures of one data set train once.

    - folder: results are in `folder/<name>`, the sweeps' runs in `folder/sweeps/<sweep>-<digest>`, the digest that of the
      protocol of their jobs: runs that other code has made are not read back, but made anew beside them.
    - workers, backend: as of `training.sweep`.
    - on_row: called with the sweep's name and what `training.sweep` tells.
    - spent: seconds of all runs that were asked for, whenever they ran, as if one after the other.  waited: seconds for them.
    """

    folder: Path
    workers: int = 2
    backend: Backend = "processes"
    on_row: Callable[[str, Row, int, int], None] = field(default=lambda name, row, done, total: None)
    spent: float = 0.0
    waited: float = 0.0

    def runs(self, name: str, jobs: Sequence[Job]) -> Path:
        """The folder of one sweep, for the code that its jobs now are."""
        made_by = {function: combined(protocol(function)) for function in {job.function for job in jobs}}
        return self.folder / "sweeps" / f"{name}-{combined(made_by)[:8]}"

    def sweep(self, name: str, jobs: Sequence[Job]) -> list[Row]:
        """The rows of one sweep, from disk where they are done."""
        begin = time.monotonic()
        note = lambda row, done, total: self.on_row(name, row, done, total)
        rows = sweep(jobs, self.runs(name, jobs), workers=self.workers, backend=self.backend, on_row=note)
        self.spent += sum(row.seconds for row in rows)
        self.waited += time.monotonic() - begin
        return rows


def results_of(rows: Sequence[Row]) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], list[str]]:
    """(config, result) of every run that is done, and "name: reason" of every one that failed.

    What JSON has no number for, and a run therefore stores as a word, is a number again.
    """
    done = [(row.config, _with_numbers(result)) for row in rows for result in row.results]
    return done, [f"{row.name}: {row.reason}" for row in rows if row.status == "failed"]


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_numbers(each) for each in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def diverged(done: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """Of trainings that ended, what to say of each whose loss is no number: it failed at its job, as a run that broke did."""
    said = []
    for config, result in done:
        losses = [result.get(name, 0.0) for name in ("train_loss", "validation_loss")]
        if not all(math.isfinite(loss) for loss in losses):
            what = ", ".join(
                f"{name} {config[name]}" for name in ("architecture", "layers", "d", "width") if name in config
            )
            said.append(f"{what}, seed {result.get('seed')}: training diverged.")
    return said


def verdict_of(findings: Findings, beyond: bool = False) -> Verdict:
    """The verdict of a result.

    *differs* where any number does or a run failed; else *ours alone* where nothing was compared, or the paper has no such
    result; else *better* where any number is; else *reproduced*.

    **Arguments:** beyond: as of `Experiment`.
    """
    compared = {number.outcome for number in findings.numbers} - {"ours alone"}
    if "differs" in compared or findings.failed:
        return "differs"
    if beyond or not compared:
        return "ours alone"
    return "better" if "better" in compared else "reproduced"


def reproduce(paper: Paper, name: str, preset: str, workshop: Workshop, data: Path | None = None) -> dict[str, Any]:
    """Run one experiment of a paper and keep its record in `folder/<name>/result.json`.

    **Arguments:** data: the folder of the data that it needs.

    **Returns:** the record: paper, name, title, preset, command, verdict, why, numbers, unknowns, data, seeds, failed, seconds
    (of all runs together, as if one after the other), versions, protocol (the functions that made it, and by module a digest
    of the code that they reach: `protocol.protocol`).

    **Raises:** `InputError` for an unknown preset; as `DataFile.within`; what the experiment raises.
    """
    require(preset in PRESETS, f"there is no preset {preset!r}; there are {', '.join(PRESETS)}.")
    experiment = paper.results[name]
    files = [each.within(data) for each in experiment.needs]
    begin, workshop = time.monotonic(), replace(workshop, spent=0.0, waited=0.0)
    functions = (experiment.function, f"{__name__}:{verdict_of.__name__}")
    made_by = protocol(*functions)  # of the code that is about to run, not of what it is edited to meanwhile
    findings = experiment.run(workshop, preset, *files)
    record = {
        "paper": paper.name,
        "name": name,
        "title": experiment.title,
        "preset": preset,
        "command": f"dualform reproduce {paper.name} {name} --preset {preset}{' --data FOLDER' if files else ''}",
        "verdict": verdict_of(findings, experiment.beyond),
        "why": findings.why,
        "numbers": [asdict(number) for number in findings.numbers],
        "unknowns": [list(one) for one in experiment.unknowns],
        "data": findings.data,
        "seeds": findings.seeds,
        "failed": list(findings.failed),
        "seconds": time.monotonic() - begin - workshop.waited + workshop.spent,
        "versions": versions(),
        "protocol": {"functions": functions, "modules": made_by},
    }
    run = Run.create(workshop.folder / name, {"result": name, "preset": preset})
    run.write_json("result.json", record)
    return record


def rate_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval for a rate, 95% for z = 1.96.

    **Raises:** `InputError` where there is no trial, or more successes than trials.
    """
    require(trials >= 1 and 0 <= successes <= trials, f"{successes} successes of {trials} trials is no rate.")
    p, n = successes / trials, trials
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)
