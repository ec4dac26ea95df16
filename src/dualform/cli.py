"""The command line, `dualform COMMAND`.

Exit codes: 0 done; 1 a job that failed; 2 a mistake of the caller's, said in one sentence; 130 interrupted; 141 nobody reads what
is printed, as in `dualform mixers | head -1`.
"""

import re
import sys
from collections.abc import Sequence
from typing import Annotated, TypeAlias, Union

import tyro
from tyro.conf import AvoidSubcommands, DisallowNone, subcommand

from dualform import __version__, commands
from dualform.commands.exit import INTERRUPTED, ended, say
from dualform.commands.streams import standard_streams
from dualform.interrupts import terminable

ABOUT = "The recurrence and the attention of every causal sequence mixer, each turned into the other and proved."

COMMANDS: dict[str, type] = {name.lower(): getattr(commands, name) for name in commands.__all__}
"""Every command by its name."""

_NAMED = tuple(Annotated[kind, subcommand(name)] for name, kind in COMMANDS.items())
Command: TypeAlias = AvoidSubcommands[Union[_NAMED]]  # noqa: UP007  # pyright: ignore - a union made at run time


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Whatever happens there is one sentence, and no traceback: that of a fault goes into a file that the sentence names.

    **Raises:** `SystemExit`, with 0 or 2, for --help and for what is no command.
    """
    with standard_streams():
        try:
            try:
                return _run(arguments)
            finally:
                sys.stdout.flush()  # here it can be said that nobody reads it, or that the disk is full
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # panics of Rust are no Exception
            return ended(error)


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in ([], ["--version"]):
        print(f"dualform {__version__}" if given else overview())
        return 0
    # The word None is a value as any other.
    options = {"prog": "dualform", "args": arguments, "description": ABOUT, "config": (DisallowNone,)}
    command = tyro.cli(Command, **options)  # pyright: ignore - a union made at run time
    try:
        with terminable():
            return command()
    except KeyboardInterrupt:
        of_runs = isinstance(command, commands.Discover | commands.Reproduce | commands.Sweep | commands.Train)
        if of_runs or getattr(command, "train", False):
            return say("interrupted; nothing is lost, the same command goes on from the last checkpoint.", INTERRUPTED)
        return say("interrupted; what was not written yet is lost, the same command begins anew.", INTERRUPTED)


def overview() -> str:
    """What there is: a line for each command, the first sentence of its help."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {_sentence(kind)}" for name, kind in COMMANDS.items()]
    return "\n".join(
        [ABOUT, "", *lines, "", "dualform COMMAND --help tells a command's options, dualform --version the version."]
    )


def _sentence(kind: type) -> str:
    """The first paragraph of a command's help, in one line, without what follows its first sentence or colon."""
    first = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=\w)[:;.](?: |$)", first)[0] + "."
