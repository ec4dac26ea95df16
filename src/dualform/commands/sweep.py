"""`dualform sweep`: train every combination of what a file lists, and compare them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.compare import Compare
from dualform.commands.exit import say
from dualform.commands.flags import option
from dualform.commands.options import Options
from dualform.errors import require


@dataclass(frozen=True)
class Sweep(Options):
    """Train every combination of what a file lists for some keys of a recipe, and compare the trainings.

    The file is a run.toml with a table [sweep] of lists, such as "fit.learning_rate" = [1e-3, 3e-3] and seed = [0, 1, 2]. All
    combinations are looked at before the first one is trained. The same command goes on where it was stopped; a training that
    fails is a row with its reason, and is tried again.
    """

    file: Annotated[Positional[Path], option("SWEEP", "A run.toml with a table [sweep] of lists.")]
    workers: Annotated[int | None, flags.WORKERS] = None
    backend: Annotated[Literal["processes", "ray", "here"], flags.BACKEND] = "processes"
    out: Annotated[
        Path | None,
        flags.out("A folder for each training, and table.csv and report.html of all.", "runs/NAME, for NAME.toml"),
    ] = None
    RULES: ClassVar = (flags.READ_WORKERS,)

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import sweep as prints
        from dualform.tensor_file import check_writable
        from dualform.training.grid import read_grid
        from dualform.training.sweeps import sweep

        self.check_options()
        workers = 2 if self.workers is None else self.workers
        require(workers >= 1, f"--workers {workers}: at least one is needed.")
        jobs, terminal = read_grid(self.file), Terminal()
        folder = self.out or Path("runs") / self.file.stem
        check_writable(folder, folder=True)
        prints.begin(terminal, len(jobs), folder)
        rows = sweep(jobs, folder, workers=workers, backend=self.backend, on_row=partial(prints.row, terminal))
        failed = sum(row.status == "failed" for row in rows)
        if failed < len(rows):
            Compare((folder,), out=folder / "report.html")()
        if failed:
            return say(f"{failed} of {len(rows)} trainings failed; the same command tries them again.", 1)
        return 0
