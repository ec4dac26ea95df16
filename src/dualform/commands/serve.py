"""`dualform serve`: show an attention page or a folder of maps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options


@dataclass(frozen=True)
class Serve(Options):
    """Show an attention page, or a folder of maps too large for one page, on this machine alone, until Ctrl-C."""

    path: Annotated[Positional[Path], option("PATH", "The page or the folder that `dualform attend` wrote.")]
    port: Annotated[int, option("N", "The port on 127.0.0.1.", "any that is free")] = 0
    browser: Annotated[bool, flags.BROWSER] = True

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        import webbrowser

        from dualform.reports.serve import serve

        def ready(address: str) -> None:
            print(f"{address}  (Ctrl-C stops it)", flush=True)
            if self.browser:
                webbrowser.open(address)

        serve(self.path, self.port, ready)
        return 0
