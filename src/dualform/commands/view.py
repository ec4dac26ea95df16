"""`dualform view`: open a run's report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options


@dataclass(frozen=True)
class View(Options):
    """Open a run's report in the browser."""

    run: Annotated[Positional[Path], option("RUN", "The run's folder.")]
    browser: Annotated[bool, flags.BROWSER] = True

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        import webbrowser

        from dualform.reports.discovery_page import write_discovery_page
        from dualform.reports.reproduction_page import write_reproduction_page
        from dualform.reports.training_page import write_training_page
        from dualform.training import Run

        page = self.run / "report.html"
        if (self.run / "run.toml").is_file() and _older(page, self.run / "metrics.jsonl", self.run / "result.json"):
            page = write_training_page(self.run)
        elif not page.exists():
            result = Run(self.run).read_json("result.json")
            reproduced = isinstance(result, dict) and "numbers" in result
            page = (write_reproduction_page if reproduced else write_discovery_page)(self.run)
        print(page)
        if self.browser:
            webbrowser.open(page.resolve().as_uri())
        return 0


def _older(page: Path, *files: Path) -> bool:
    """Whether the page is not there, or of before one of the files was written: a training has gone on since."""
    if not page.exists():
        return True
    return any(file.exists() and file.stat().st_mtime > page.stat().st_mtime for file in files)
