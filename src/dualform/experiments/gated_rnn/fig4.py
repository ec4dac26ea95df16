"""Fig. 4: architectures against each other, mimicking attention (A) and in in-context regression (B).

Fig. 5 draws the same runs, and the LRU's other forms, against the number of parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dualform.experiments.gated_rnn.architectures import ARCHITECTURES
from dualform.experiments.reproduction import (
    Experiment,
    Findings,
    Number,
    Workshop,
    at_least,
    diverged,
    ours_alone,
    results_of,
)
from dualform.tasks import InContextRegression
from dualform.training import Job

RATES = (3e-3, 1e-2, 3e-2)
"""Where the search for a learning rate begins; it goes on along `LADDER`, as many at a time, so that nothing is compiled anew."""

LADDER = tuple(float(f"{mantissa}e{exponent}") for exponent in range(-6, 2) for mantissa in (1, 3))
SEARCH_SEED = 1000
"""The seed that rates are chosen by: none that a result is reported from."""

GRIDS: dict[str, dict[str, Any]] = {
    "quick": {
        "kinds": (("gated_rnn", 1), ("lru_out", 2), ("lru_in_out", 1), ("lstm", 1), ("gru", 1)),
        "widths": {"teacher": {1: (32,), 2: (32,)}, "regression": {1: (32,), 2: (32,)}},
        "wider": {},
        "steps": {"teacher": 1500, "regression": 1500},
        "search_steps": 300,
        "search_width": 32,
        "seeds": 1,
        "batch": {"teacher": 64, "regression": 128},
    },
    "full": {
        "kinds": (
            ("gated_rnn", 1),
            ("dense_gated_rnn", 1),
            *((name, 1) for name in ("lru_out", "lru_in_out", "lru_in_skip", "lstm", "gru")),
            *((name, 2) for name in ("lru_out", "lstm", "gru")),
        ),
        "widths": {"teacher": {1: (32,), 2: (32,)}, "regression": {1: (32,), 2: (32,)}},
        "wider": {"teacher": ((64,), (("gated_rnn", 1), ("lru_out", 1), ("lru_in_out", 1), ("lstm", 1), ("gru", 1)))},
        "steps": {"teacher": 4000, "regression": 3000},
        "search_steps": 300,
        "search_width": 32,
        "seeds": 2,
        "batch": {"teacher": 64, "regression": 128},
    },
}
UNKNOWNS = (
    (
        "sizes of the students",
        "32 hidden units, 64 too for the five that claims are about; a gated RNN has as many pre-readout as hidden units",
    ),
    (
        "learning rate of each architecture",
        "the best after short runs of a seed of their own, on a grid that is widened until worse rates stand on both sides",
    ),
    ("training steps", "thousands, for every architecture the same; the paper has 781,250 (A) and 300,000 (B)"),
    (
        "input distribution, scale of the teacher's weights",
        "standard normal; variance 1/d; losses relative to its power",
    ),
    ("bias of LRU's gates", "a 1 is appended to what they read, as in the gated RNN"),
)


def kinds(preset: str) -> Sequence[tuple[str, int]]:
    """Architectures and their numbers of layers."""
    return GRIDS[preset]["kinds"]


def _widths(grid: dict[str, Any], task: str, name: str, layers: int) -> tuple[int, ...]:
    """The widths of one architecture: all have the first ones, those that the paper's claims are about also the wider."""
    wider, of = grid["wider"].get(task, ((), ()))
    return grid["widths"][task][layers] + (wider if (name, layers) in of else ())


def _config(preset: str, task: str, name: str, layers: int, width: int, steps: int, rate: float, seeds: int):
    return {
        "architecture": name,
        "layers": layers,
        "width": width,
        "task": task,
        "steps": steps,
        "batch": GRIDS[preset]["batch"][task],
        "learning_rate": rate,
        "seeds": list(range(seeds)),
    }


def _job(config: dict[str, Any]) -> Job:
    name = f"{config['architecture']}-{config['layers']}_width={config['width']}_rate={config['learning_rate']:g}"
    return Job(name, "dualform.experiments.gated_rnn.architectures:job", config)


class Chosen(NamedTuple):
    """A learning rate, and the loss after the short run of every rate that was tried."""

    rate: float
    tried: dict[float, float]

    @property
    def inside(self) -> bool:
        """Whether worse rates were tried on both sides of it."""
        return min(self.tried) < self.rate < max(self.tried)


def best_rates(workshop: Workshop, preset: str, task: str) -> tuple[dict[tuple[str, int], Chosen], list[str]]:
    """The learning rate of each architecture, the best after a short run, and worse ones on both sides of it.

    While the best of those tried is the least or the largest, the next one beyond it is tried too.
    """
    grid = GRIDS[preset]

    def losses_at(wanted: Mapping[tuple[str, int], Sequence[float]]) -> tuple[dict, list[str]]:
        jobs = []
        for (name, layers), rates in wanted.items():
            config = _config(preset, task, name, layers, grid["search_width"], grid["search_steps"], 1.0, 1)
            # One seed, several rates: members of one ensemble.
            job = _job(config | {"seeds": [SEARCH_SEED] * len(rates), "rates": list(rates)})
            jobs.append(replace(job, name=f"{job.name.rpartition('_')[0]}_rates={min(rates):g}..{max(rates):g}"))
        done, failed = results_of(workshop.sweep(f"rates-{task}", jobs))
        losses: dict[tuple[str, int], dict[float, float]] = {}
        for config, result in done:
            loss = result["train_loss"] if np.isfinite(result["train_loss"]) else np.inf
            losses.setdefault((config["architecture"], config["layers"]), {})[result["learning_rate"]] = loss
        return losses, failed

    return widened(kinds(preset), losses_at)


def widened(
    kinds: Sequence[tuple[str, int]],
    losses_at: Callable[[Mapping[tuple[str, int], Sequence[float]]], tuple[dict, list]],
) -> tuple[dict[tuple[str, int], Chosen], list[str]]:
    """The best rate of each kind, the grid widened wherever it lies at an edge, as far as `LADDER` goes.

    **Arguments:** losses_at: (rates for each kind) -> the losses at them by kind and rate, infinite where training diverged,
    and what failed.
    """
    tried: dict[tuple[str, int], dict[float, float]] = {}
    wanted: dict[tuple[str, int], Sequence[float]] = {kind: RATES for kind in kinds}
    failed: list[str] = []
    while wanted:
        found, more = losses_at(wanted)
        failed += more
        for kind, losses in found.items():
            tried.setdefault(kind, {}).update(losses)
        wanted = {kind: beyond for kind in found if (beyond := _beyond(tried[kind]))}
    return {kind: Chosen(min(losses, key=lambda rate: losses[rate]), losses) for kind, losses in tried.items()}, failed


def _beyond(tried: Mapping[float, float]) -> tuple[float, ...]:
    """The next rates past the edge that the best lies at; none where it lies inside, or the ladder ends."""
    best = min(tried, key=lambda rate: tried[rate])
    if best == min(tried):
        below = [rate for rate in LADDER if rate < best]
        return tuple(below[-len(RATES) :])
    return tuple(rate for rate in LADDER if rate > best)[: len(RATES)] if best == max(tried) else ()


def compare(workshop: Workshop, preset: str, task: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Every architecture at every width: one row each, with a loss for each seed.

    **Returns:** rows (architecture, layers, width, learning_rate, tried, parameters, train, validation, loss) and failures;
    `tried` has the loss after the short run of each learning rate that was tried.
    """
    grid = GRIDS[preset]
    rates, failed = best_rates(workshop, preset, task)
    jobs = [
        _job(_config(preset, task, name, layers, width, grid["steps"][task], rates[name, layers].rate, grid["seeds"]))
        for name, layers in kinds(preset)
        if (name, layers) in rates
        for width in _widths(grid, task, name, layers)
    ]
    done, more = results_of(workshop.sweep(f"architectures-{task}", jobs))
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for config, result in done:
        key = (config["architecture"], config["layers"], config["width"])
        row = rows.setdefault(
            key,
            {
                "architecture": key[0],
                "layers": key[1],
                "width": key[2],
                "learning_rate": config["learning_rate"],
                "tried": {f"{rate:g}": _short(loss) for rate, loss in sorted(rates[key[:2]].tried.items())},
                "parameters": result["parameters"],
                "train": [],
                "validation": [],
                "loss": [],
            },
        )
        row["train"].append(_short(result["train_loss"]))
        row["validation"].append(_short(result["validation_loss"]))
        row["loss"].append(_short(result.get("loss", result["validation_loss"])))
    return list(rows.values()), [*failed, *more, *diverged(done)]


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def best(rows: Sequence[dict[str, Any]], name: str, layers: int | None = None, field: str = "loss") -> float:
    """The lowest mean loss of an architecture, over its widths (and numbers of layers where none is given)."""
    return float(np.mean(best_row(rows, name, layers, field)[field]))


def best_row(
    rows: Sequence[dict[str, Any]], name: str, layers: int | None = None, field: str = "loss"
) -> dict[str, Any]:
    """The row of the lowest mean over seeds; one of an infinite loss where there is none with a finite mean."""
    mine = [
        row
        for row in rows
        if row["architecture"] == name and layers in (None, row["layers"]) and np.isfinite(np.mean(row[field]))
    ]
    return min(mine, key=lambda row: float(np.mean(row[field])), default={field: [float("inf")]})


def _seeds(row: dict[str, Any]) -> str:
    """The size of a row, and its best and worst seed."""
    size = f"{row['layers']} layer(s) of {row['width']}, rate {row['learning_rate']:g}; " if "width" in row else ""
    return f"{size}best seed {min(row['loss']):.3g}, worst {max(row['loss']):.3g}"


def _run(workshop: Workshop, preset: str) -> Findings:
    teacher, failed = compare(workshop, preset, "teacher")
    regression, more = compare(workshop, preset, "regression")
    optimal = InContextRegression().one_step_loss()
    data = {
        "teacher": teacher,
        "regression": regression,
        "optimal_loss": optimal,
        "optimal_validation_loss": 2 * optimal,
    }
    steps = GRIDS[preset]["steps"]
    edges = [*_at_an_edge(teacher, "A"), *_at_an_edge(regression, "B")]
    found = (
        f"worse ones on both sides, but for {', '.join(edges)}" if edges else "worse ones on both sides of every one"
    )
    why = (
        "A is the loss over the target's power on fresh sequences. B is the training distribution's loss; on tasks of twice "
        f"the variance a linear map's loss doubles. A is trained for {steps['teacher']:,} steps, where the paper has 781,250, "
        f"and B for {steps['regression']:,} of 300,000: what is slow to train has not arrived. Learning rates are those of "
        f"short runs, with {found}."
    )
    return Findings(_numbers(teacher, regression, optimal), data, GRIDS[preset]["seeds"], why, [*failed, *more])


def _at_an_edge(rows: Sequence[dict[str, Any]], part: str) -> list[str]:
    """The architectures whose learning rate has no worse one on both sides."""
    found = []
    for row in rows:
        tried = [float(rate) for rate in row["tried"]]
        if not min(tried) < row["learning_rate"] < max(tried):
            found.append(f"{part}, {ARCHITECTURES[row['architecture']]}, {row['layers']} layer(s)")
    return list(dict.fromkeys(found))


def _numbers(teacher, regression, optimal: float) -> list[Number]:
    nonlinear = min((best_row(teacher, name) for name in ("lstm", "gru")), key=lambda row: float(np.mean(row["loss"])))
    numbers = []
    for name in ("gated_rnn", "lru_in_out"):
        row = best_row(teacher, name)
        seeds = f"worst seed against best {min(nonlinear['loss']) / max(row['loss']):.3g}"
        numbers.append(
            at_least(
                f"A: best loss of LSTM and GRU over that of the {ARCHITECTURES[name]}",
                None,
                float(np.mean(nonlinear["loss"]) / np.mean(row["loss"])),
                10.0,
                f"far below: a factor of ten, of means over seeds; {seeds}",
            )
        )
    numbers += [
        ours_alone(f"A: best mean loss, {ARCHITECTURES[name]}", best(teacher, name), _seeds(best_row(teacher, name)))
        for name in dict.fromkeys(row["architecture"] for row in teacher)
    ]
    learned = min((best_row(regression, name) for name in ("lstm", "gru")), key=lambda row: float(np.mean(row["loss"])))
    numbers.append(
        at_least(
            "B: loss of one optimal GD step over the best of LSTM and GRU",
            None,
            optimal / float(np.mean(learned["loss"])),
            1.0,
            f"the nonlinear ones beat one GD step; the worst seed's {optimal / max(learned['loss']):.3g}",
        )
    )
    numbers += [
        ours_alone(
            f"B: best mean loss, {ARCHITECTURES[name]}",
            best(regression, name),
            f"{_seeds(best_row(regression, name))}; one optimal GD step has {optimal:.4g}",
        )
        for name in dict.fromkeys(row["architecture"] for row in regression)
    ]
    return numbers


FIG4 = Experiment("Fig. 4: architectures, mimicking attention and in in-context regression", UNKNOWNS, _run)
