"""`dualform mixers`: list the mixers."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from dualform.commands.flags import option
from dualform.commands.options import Options


@dataclass(frozen=True)
class Mixers(Options):
    """List the mixers: what each remembers, what a step costs, its forms, its dual form, and its error against its oracle."""

    name: Annotated[
        Positional[str | None],
        option(
            "[NAME]",
            "A mixer of the list, to see it in full: equation, arguments, state, forms, source, oracle and error.",
        ),
    ] = None

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.mixers import registry
        from dualform.mixers.card import card
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import mixers as prints

        if self.name is None:
            prints.mixers(Terminal(), [card(name) for name in registry()])
        else:
            prints.mixer(Terminal(), card(self.name))
        return 0
