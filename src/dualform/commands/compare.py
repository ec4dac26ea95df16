"""`dualform compare`: trainings side by side, each score a mean over seeds."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options

if TYPE_CHECKING:
    from dualform.training.outcome import Outcome


@dataclass(frozen=True)
class Compare(Options):
    """Compare trainings in a table: what differs between them, their scores over seeds, their speed, and how far they are.

    Trainings that differ in nothing but the seed are one row. Where the learning rate varies, the one with the least validation
    loss is marked, and whether it is at the edge of those that were tried.
    """

    runs: Annotated[
        Positional[tuple[Path, ...]],
        option("RUN [RUN ...]", "Folders of trainings, or of sweeps, of which every training is taken."),
    ]
    by: Annotated[
        str | None,
        option("SCORE", "The score that is shown of each test.", "accuracy where there is one, but of text the loss"),
    ] = None
    out: Annotated[Path | None, flags.out("A page with curves, the table and every run.toml.")] = None
    tensorboard: Annotated[
        Path | None,
        option(
            "FOLDER",
            "Also write the curves as event files of TensorBoard, a folder for each run (pip install 'dualform[tensorboard]').",
        ),
    ] = None

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.reports.comparison import cells, sentences
        from dualform.reports.comparison_page import write_comparison_page
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import compare as prints
        from dualform.tensor_file import check_writable
        from dualform.training.comparison import compare
        from dualform.training.event_files import to_tensorboard
        from dualform.training.outcome import outcomes_in
        from dualform.training.run import Run

        self.check_options()
        for place, folder in ((self.out, False), (self.tensorboard, True)):
            if place is not None:
                check_writable(place, folder=folder)
        outcomes = outcomes_in(self.runs)
        comparison, terminal = compare(outcomes), Terminal()
        prints.comparison(terminal, cells(comparison, self.by), sentences(comparison))
        if self.tensorboard is not None:
            for outcome, name in zip(outcomes, _names(outcomes), strict=True):
                to_tensorboard(Run(outcome.folder), self.tensorboard / name)
            prints.event_files(terminal, self.tensorboard)
        if self.out is not None:
            prints.page(terminal, write_comparison_page(comparison, self.out, self.by))
        return 0


def _names(outcomes: "list[Outcome]") -> list[str]:
    """Each run's folder as seen from the folder that all of them are in."""
    folders = [outcome.folder.resolve() for outcome in outcomes]
    above = os.path.commonpath([folder.parent for folder in folders])
    return [os.path.relpath(folder, above) for folder in folders]
