"""`dualform reproduce`: make a paper's tables and figures anew."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tyro.conf import Positional

from dualform.commands.options import Options, Read
from dualform.errors import require


@dataclass(frozen=True)
class Reproduce(Options):
    """Make a paper's table or figure anew, and show its numbers beside ours with a verdict.

    The same command goes on where it was stopped; a run that fails is a row with its reason.
    """

    result: Positional[str]
    """table1 ... table4, fig1 ... fig5, scaling, in-context, or all."""
    preset: Literal["quick", "full"] = "quick"
    """quick: few seeds and steps, all of it in under 25 minutes on two cores. full: what is stored in the docs."""
    out: Path | None = None
    """Where runs and reports go; runs/reproduce-PRESET by default."""
    workers: int | None = None
    """Runs at once; 2 by default."""
    backend: Literal["processes", "ray", "here"] = "processes"
    """Processes of this machine, tasks on a Ray cluster (pip install 'dualform[ray]'), or one after the other."""
    store: Path | None = None
    """Also keep each result's record as NAME.json in this folder: the documentation's are in docs/reproductions."""
    RULES: ClassVar = (
        Read(
            ("workers",), lambda given: given.backend != "here", "of a --backend with several; here is one at a time."
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.experiments.reproduction import Workshop, reproduce
        from dualform.experiments.results import chosen
        from dualform.reports.console import Console
        from dualform.reports.reproduction_page import write_reproduction_page, write_summary
        from dualform.tensor_file import check_writable
        from dualform.training import Run

        self.check_options()
        results, workers = chosen(self.result), 2 if self.workers is None else self.workers
        require(workers >= 1, f"--workers {workers}: at least one is needed.")
        folder = self.out or Path("runs") / f"reproduce-{self.preset}"
        for place in (folder, *(() if self.store is None else (self.store,))):
            check_writable(place, folder=True)
        console, records = Console(), []
        workshop = Workshop(folder, workers, self.backend, console.row)
        for name, experiment in results.items():
            console.begin(name, experiment.title)
            record = reproduce(name, experiment, self.preset, workshop)
            console.reproduction(record, write_reproduction_page(folder / name))
            if self.store is not None:
                Run(self.store).write_json(f"{name}.json", record)
            records.append(record)
        if len(records) > 1:
            console.reproductions(records, write_summary(folder, records))
        return 0
