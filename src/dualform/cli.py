"""The command line, `dualform COMMAND`.

Exit codes: 0 done; 1 a job that failed; 2 a mistake of the caller's, said in one sentence; 130 interrupted.
"""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import tyro
from tyro.conf import AvoidSubcommands, subcommand

from dualform import commands
from dualform.commands.exit import say
from dualform.errors import DivergedError, DualformError
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
    """Run one command and return its exit code."""
    command = tyro.cli(Command, prog="dualform", args=arguments, description=ABOUT)  # pyright: ignore - a union made at run time
    try:
        with terminable():
            return command()
    except DivergedError as error:
        return say(error, 1)
    except DualformError as error:
        return say(error, 2)
    except KeyboardInterrupt:
        if isinstance(command, commands.Discover | commands.Reproduce):
            return say("interrupted; nothing is lost, the same command goes on from the last checkpoint.", 130)
        return say("interrupted; what was not written yet is lost, the same command begins anew.", 130)
