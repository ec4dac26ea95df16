"""What `dualform sweep` prints: each training as it ends."""

from pathlib import Path

from dualform.reports.terminal import Terminal
from dualform.training import Row


def begin(terminal: Terminal, jobs: int, folder: Path) -> None:
    """How many trainings there are, and where."""
    terminal.unbroken(("trainings", "dim"), f" {jobs:,}, in {folder}")


def row(terminal: Terminal, found: Row, done: int, total: int) -> None:
    """One training that is done, by its validation loss, or has failed, and why."""
    if found.status == "failed":
        what = (("failed", "red"), f": {found.reason}")
    else:
        (result,) = found.results
        what = (f"validation loss {float(result['validation']['loss']):.4g}, {found.seconds:.0f} s",)
    terminal.unbroken("  ", (f"{done}/{total}", "dim"), f"  {found.name}  ", *what)
