"""`dualform serve`: show an attention page or a folder of maps."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from dualform.commands.options import Options


@dataclass(frozen=True)
class Serve(Options):
    """Show an attention page, or a folder of maps too large for one page, on this machine alone, until Ctrl-C."""

    path: Positional[Path]
    """A page of write_attention_page, or a folder of write_attention_folder."""
    port: int = 0
    """The port on 127.0.0.1; any free one by default."""
    browser: bool = True
    """Open a browser; without it, only the address is printed."""

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
