"""`dualform tasks`: list the tasks, show one in full, or bring the data of one."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.options import Options


@dataclass(frozen=True)
class Tasks(Options):
    """List the tasks that a model can be trained on: what each is, how large, and where its data are from."""

    task: Annotated[Positional[str | None], flags.task(more="To see it in full.")] = None

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform import tasks
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import tasks as prints

        if self.task is None:
            prints.tasks(Terminal(), tasks.known())
        else:
            prints.task(Terminal(), self.task, tasks.named(self.task))
        return 0
