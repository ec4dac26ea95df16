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
        from dualform.training import Run

        page = self.run / "report.html"
        if not page.exists():
            result = Run(self.run).read_json("result.json")
            reproduced = isinstance(result, dict) and "numbers" in result
            page = (write_reproduction_page if reproduced else write_discovery_page)(self.run)
        print(page)
        if self.browser:
            webbrowser.open(page.resolve().as_uri())
        return 0
