"""The command line: `dualform discover`, `construct`, `reproduce`, `view`, `mixers`.

Exit codes: 0 done; 1 a job that failed; 2 a mistake of the caller's, said in one sentence; 130 interrupted.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import jax
import jax.numpy as jnp
import jax.random as jr
import tyro
from tyro.conf import AvoidSubcommands, Positional, subcommand

from dualform.errors import DivergedError, DualformError, require


@dataclass(frozen=True)
class Discover:
    """Train a gated RNN on an attention head, reverse-engineer it, and say whether and how it implements attention.

    The same command goes on where it was stopped, and ends with the same numbers.
    """

    teacher: str | None = None
    """An embedded head's name ("default"), "gaussian", or a safetensors file with w_v, w_k, w_q and, if any, w_o, inputs.
    By default the preset's."""
    preset: Literal["default", "quick", "paper"] = "default"
    """default: a real attention head on real text. quick: the same, smaller. paper: a Gaussian teacher, 100 units, five seeds,
    and the paper's own recipe beside it."""
    n: int | None = None
    """Hidden units to begin with."""
    m: int | None = None
    """Pre-readout units to begin with."""
    steps: int | None = None
    """First-order training steps."""
    d: int | None = None
    """Width of a Gaussian teacher."""
    rank: int | None = None
    """Rank of a Gaussian teacher's W_V; full by default."""
    seed: int = 0
    """The first seed; of the student, the data and a Gaussian teacher."""
    seeds: int | None = None
    """How many seeds, one run each."""
    paper_recipe: Literal["auto", "yes", "no"] = "auto"
    """Also train the same student by the paper's recipe, for as many steps, and show its numbers; auto: for the preset paper."""
    out: Path | None = None
    """The run's folder; runs/PRESET-SEED by default."""


@dataclass(frozen=True)
class Construct:
    """Write an attention into the weights of an RNN, exactly, and certify it."""

    teacher: str = "default"
    """An embedded head's name, "gaussian", or a safetensors file with w_v, w_k, w_q and, if any, w_o, inputs."""
    form: Literal["full", "compact", "low-rank", "side-gated", "lru-out", "lru-in-out", "lru-in-skip", "lstm"] = (
        "compact"
    )
    """Which construction: the first four are gated RNNs and exact; the others are stacks whose gates are linearised."""
    layers: int | None = None
    """Layers of a stack; the fewest that serve by default."""
    d: int = 4
    """Width of a Gaussian teacher."""
    rank: int | None = None
    """Rank of a Gaussian teacher's W_V; full by default."""
    seed: int = 0
    """Of a Gaussian teacher and of the certificate's random input."""
    tolerance: float = 2.5e-13
    """Singular values below this share of the largest count as 0. Weights rounded to float32 have a rank only up to 1e-6."""
    out: Path | None = None
    """Where to save the RNN (safetensors)."""


@dataclass(frozen=True)
class Reproduce:
    """Make a paper's table or figure anew, and show its numbers beside ours with a verdict.

    The same command goes on where it was stopped; a run that fails is a row with its reason.
    """

    result: Positional[str]
    """table1 ... table4, fig1 ... fig5, scaling, in-context, or all."""
    preset: Literal["quick", "full"] = "quick"
    """quick: few seeds and steps, all of it in under 25 minutes on two cores. full: what is stored in the docs."""
    out: Path | None = None
    """Where runs and reports go; runs/reproduce-PRESET by default."""
    workers: int = 2
    """Runs at once."""
    backend: Literal["processes", "ray", "here"] = "processes"
    """Processes of this machine, tasks on a Ray cluster (pip install 'dualform[ray]'), or one after the other."""
    store: Path | None = None
    """Also keep each result's record as NAME.json in this folder: the documentation's are in docs/reproductions."""


@dataclass(frozen=True)
class View:
    """Open a run's report in the browser."""

    run: Positional[Path]
    """The run's folder."""
    browser: bool = True
    """Open a browser; without it, only the report's path is printed."""


@dataclass(frozen=True)
class Mixers:
    """List the mixers: what each remembers, what a step costs, its forms, its dual form, and its error against its oracle."""

    name: Positional[str | None] = None
    """A mixer of the list, to see it in full: equation, arguments, state, forms, source, oracle and error."""


Command: TypeAlias = AvoidSubcommands[
    Annotated[Discover, subcommand("discover")]
    | Annotated[Construct, subcommand("construct")]
    | Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[View, subcommand("view")]
    | Annotated[Mixers, subcommand("mixers")]
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    command = tyro.cli(Command, prog="dualform", args=arguments, description=__doc__.splitlines()[0])  # pyright: ignore
    try:
        return _run(command)
    except DivergedError as error:
        return _say(error, 1)
    except DualformError as error:
        return _say(error, 2)
    except KeyboardInterrupt:
        return _say("interrupted; nothing is lost, the same command goes on from the last checkpoint.", 130)


def _run(command: Discover | Construct | Reproduce | View | Mixers) -> int:
    match command:
        case Discover():
            return _discover(command)
        case Construct():
            return _construct(command)
        case Reproduce():
            return _reproduce(command)
        case View():
            return _view(command)
        case Mixers():
            return _mixers(command)


def _discover(command: Discover) -> int:
    from dualform.experiments.identification import identify, preset
    from dualform.reports.console import Console
    from dualform.reports.discovery_page import write_discovery_page

    config, paper = preset(command.preset), command.preset == "paper"
    asked = {name: getattr(command, name) for name in ("teacher", "n", "m", "d", "rank")}
    config = replace(config, **{name: value for name, value in asked.items() if value is not None})
    if command.steps is not None:
        config = replace(config, fit=replace(config.fit, steps=command.steps))
    seeds = command.seeds if command.seeds is not None else 5 if paper else 1
    require(seeds >= 1, f"--seeds {seeds}: at least one seed is needed.")
    require(
        command.out is None or seeds == 1,
        f"--out names one run; {seeds} seeds need one each. Leave it out, or --seeds 1.",
    )
    console, results = Console(), []
    for seed in range(command.seed, command.seed + seeds):
        folder = command.out or Path("runs") / f"{command.preset}-{seed}"
        with console.progress(folder) as progress:
            result = identify(
                replace(config, seed=seed),
                folder,
                paper_recipe=paper if command.paper_recipe == "auto" else command.paper_recipe == "yes",
                on_progress=progress,
            )
            page = write_discovery_page(folder)
        console.verdict(result, page)
        results.append(result)
    if len(results) > 1:
        console.summary(results)
    return 0


def _construct(command: Construct) -> int:
    from dualform.construct import STACKS, build, build_stack
    from dualform.reports.console import Console
    from dualform.tasks import Teacher
    from dualform.training import save_weights

    with jax.enable_x64(True):  # a rank is exact in float64, and so is what is saved
        teacher = Teacher.find(command.teacher, d=command.d, rank=command.rank, seed=command.seed, dtype=jnp.float64)
        if command.form in STACKS:
            stacked = build_stack(
                teacher.attention, command.form, teacher.inputs, layers=command.layers, key=jr.key(command.seed)
            )
            if command.out is not None:
                save_weights(command.out, stacked.stack)
            Console().stack(stacked, teacher.name, command.out)
            return 0
        require(command.layers is None, f"--layers is of the stacks {', '.join(STACKS)}; {command.form} is one layer.")
        built = build(
            teacher.attention, command.form, teacher.inputs, key=jr.key(command.seed), tolerance=command.tolerance
        )
        if command.out is not None:
            save_weights(command.out, built.rnn)
    Console().construction(built, teacher.name, command.out)
    return 0


def _reproduce(command: Reproduce) -> int:
    from dualform.experiments.reproduction import Workshop, reproduce
    from dualform.experiments.results import chosen
    from dualform.reports.console import Console
    from dualform.reports.reproduction_page import write_reproduction_page, write_summary
    from dualform.training import Run

    results = chosen(command.result)
    folder = command.out or Path("runs") / f"reproduce-{command.preset}"
    console, records = Console(), []
    workshop = Workshop(folder, command.workers, command.backend, console.row)
    for name, experiment in results.items():
        console.begin(name, experiment.title)
        record = reproduce(name, experiment, command.preset, workshop)
        console.reproduction(record, write_reproduction_page(folder / name))
        if command.store is not None:
            Run(command.store).write_json(f"{name}.json", record)
        records.append(record)
    if len(records) > 1:
        console.reproductions(records, write_summary(folder, records))
    return 0


def _view(command: View) -> int:
    import webbrowser

    from dualform.reports.discovery_page import write_discovery_page
    from dualform.reports.reproduction_page import write_reproduction_page
    from dualform.training import Run

    page = command.run / "report.html"
    if not page.exists():
        result = Run(command.run).read_json("result.json")
        reproduced = isinstance(result, dict) and "numbers" in result
        page = (write_reproduction_page if reproduced else write_discovery_page)(command.run)
    print(page)
    if command.browser:
        webbrowser.open(page.resolve().as_uri())
    return 0


def _mixers(command: Mixers) -> int:
    from dualform.mixers import registry
    from dualform.mixers.card import card
    from dualform.reports.console import Console

    if command.name is None:
        Console().mixers([card(name) for name in registry()])
    else:
        Console().mixer(card(command.name))
    return 0


def _say(message: object, code: int) -> int:
    print(f"dualform: {message}", file=sys.stderr)
    return code
