"""The command line, `dualform COMMAND`.

Exit codes: 0 done; 1 a job that failed; 2 a mistake of the caller's, said in one sentence; 130 interrupted; 141 nobody reads what
is printed, as in `dualform mixers | head -1`.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import tyro
from tyro.conf import AvoidSubcommands, DisallowNone, subcommand

from dualform import commands
from dualform.commands.exit import INTERRUPTED, ended, say
from dualform.commands.streams import standard_streams
from dualform.interrupts import terminable

ABOUT = "The recurrence and the attention of every causal sequence mixer, each turned into the other and proved."

Command: TypeAlias = AvoidSubcommands[
    Annotated[commands.Attend, subcommand("attend")]
    | Annotated[commands.Discover, subcommand("discover")]
    | Annotated[commands.Construct, subcommand("construct")]
    | Annotated[commands.Reproduce, subcommand("reproduce")]
    | Annotated[commands.View, subcommand("view")]
    | Annotated[commands.Mixers, subcommand("mixers")]
    | Annotated[commands.Models, subcommand("models")]
    | Annotated[commands.Serve, subcommand("serve")]
    | Annotated[commands.Generate, subcommand("generate")]
    | Annotated[commands.Perplexity, subcommand("perplexity")]
    | Annotated[commands.Memory, subcommand("memory")]
]


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
    # The word None is a value as any other.
    options = {"prog": "dualform", "args": arguments, "description": ABOUT, "config": (DisallowNone,)}
    command = tyro.cli(Command, **options)  # pyright: ignore - a union made at run time
    try:
        with terminable():
            return command()
    except KeyboardInterrupt:
        if isinstance(command, commands.Discover | commands.Reproduce):
            return say("interrupted; nothing is lost, the same command goes on from the last checkpoint.", INTERRUPTED)
        return say("interrupted; what was not written yet is lost, the same command begins anew.", INTERRUPTED)
