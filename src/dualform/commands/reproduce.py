"""`dualform reproduce`: make a paper's tables and figures anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.errors import DualformError, InputError, require

if TYPE_CHECKING:
    from dualform.experiments.reproduction import Paper
    from dualform.reports.terminal import Terminal


@dataclass(frozen=True)
class Reproduce(Options):
    """Make tables and figures of papers anew, and show their numbers beside ours with a verdict.

    Without a name it lists the papers and their results. The same command goes on where it was stopped; a run that fails is a
    row with its reason.
    """

    paper: Annotated[
        Positional[str | None],
        option(
            "[PAPER]",
            "A paper, such as gated-rnn, or all. For convenience, a result may stand here alone where only one paper has one "
            "of its name.",
        ),
    ] = None
    results: Annotated[
        Positional[tuple[str, ...]], option("[RESULT ...]", "The paper's results, such as table1 fig4.", "all of them")
    ] = ()
    preset: Annotated[
        Literal["quick", "full"],
        flags.preset(
            "quick: few seeds and steps, all of a paper in minutes on two cores. full: what is stored in the docs."
        ),
    ] = "quick"
    out: Annotated[
        Path | None,
        flags.out("Runs and reports, each paper's in a folder of its name.", "runs/reproduce-PRESET"),
    ] = None
    workers: Annotated[int | None, flags.WORKERS] = None
    backend: Annotated[Literal["processes", "ray", "here"], flags.BACKEND] = "processes"
    store: Annotated[
        Path | None,
        option(
            "FOLDER",
            "Also keep each result's record as PAPER/NAME.json in this folder: the documentation's are in docs/reproductions.",
        ),
    ] = None
    data: Annotated[
        Path | None,
        flags.data(
            "The folder of those that results read, and that are not part of dualform; what is missing is said."
        ),
    ] = None
    RULES: ClassVar = (
        Read(
            ("preset", "out", "workers", "backend", "store", "data"),
            lambda given: given.paper is not None,
            "of a result that is made; name a paper, or all.",
        ),
        flags.READ_WORKERS,
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.experiments.papers import PAPERS, chosen
        from dualform.experiments.reproduction import Workshop, reproduce
        from dualform.reports.reproduction_page import write_reproduction_page, write_summary
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import reproduce as prints
        from dualform.tensor_file import check_writable
        from dualform.training import Run

        self.check_options()
        terminal = Terminal()
        if self.paper is None:
            prints.papers(terminal, PAPERS.values())
            return 0
        wanted, workers = chosen((self.paper, *self.results)), 2 if self.workers is None else self.workers
        require(workers >= 1, f"--workers {workers}: at least one is needed.")
        folder = self.out or Path("runs") / f"reproduce-{self.preset}"
        for place in (folder, *(() if self.store is None else (self.store,))):
            for paper, _ in wanted:
                check_writable(place / paper.name, folder=True)
        reads = any(paper.results[name].needs for paper, names in wanted for name in names)
        require(self.data is None or reads, "--data is of results that read data; none of these does.")
        wanted = [(paper, self._with_data(paper, names, terminal)) for paper, names in wanted]
        for paper, names in wanted:
            workshop, records = Workshop(folder / paper.name, workers, self.backend, partial(prints.row, terminal)), []
            for name in names:
                prints.begin(terminal, f"{paper.name} {name}", paper.results[name].title)
                record = reproduce(paper, name, self.preset, workshop, self.data)
                prints.reproduction(terminal, record, write_reproduction_page(workshop.folder / name))
                if self.store is not None:
                    Run(self.store / paper.name).write_json(f"{name}.json", record)
                records.append(record)
            if len(records) > 1:
                prints.reproductions(terminal, records, write_summary(workshop.folder, paper, records))
        return 0

    def _with_data(self, paper: "Paper", names: Sequence[str], terminal: "Terminal") -> list[str]:
        """The results whose data are there; of `all` the others are left out, and said, else they are an error."""
        from dualform.reports.terminal import reproduce as prints

        names_with_data = []
        for name in names:
            try:
                for each in paper.results[name].needs:
                    each.within(self.data)
            except DualformError as error:
                if self.paper != "all":
                    raise InputError(f"{paper.name} {name}: {error}") from None
                prints.left_out(terminal, f"{paper.name} {name}", error)
            else:
                names_with_data.append(name)
        return names_with_data
