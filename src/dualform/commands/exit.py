"""How a command ends badly: one sentence for the person, and an exit code."""

import contextlib
import importlib.metadata
import re
import sys
import tempfile
import traceback

from dualform.commands.streams import reader_has_gone
from dualform.errors import DivergedError, DualformError, LostError, printable
from dualform.reading import shown

INTERRUPTED = 130
UNREAD = 141
"""What a shell makes of the signal that ends `yes` in `yes | head`: the command was not done, and its reader knows why."""


def say(message: object, code: int) -> int:
    """Print the sentence where errors go, if anybody reads it, and hand on the exit code."""
    with contextlib.suppress(OSError):
        print(f"dualform: {message}", file=sys.stderr, flush=True)
    return code


def ended(error: BaseException) -> int:
    """Say how it ended, whatever was raised, and give the exit code."""
    if reader_has_gone(error):
        return UNREAD
    if isinstance(error, KeyboardInterrupt):
        return say("interrupted.", INTERRUPTED)
    if isinstance(error, DualformError):
        return say(error, 1 if isinstance(error, DivergedError | LostError) else 2)
    # A file that was named cannot be used, as a FileError says; all else is a job that failed.
    return say(printable(_sentence(error)), 2 if isinstance(error, OSError) and error.filename is not None else 1)


def _sentence(error: BaseException) -> str:
    """What a person reads of an error that dualform did not raise itself."""
    said = f"{type(error).__name__}: {shown(error, 300)}".removesuffix(": ")
    if isinstance(error, MemoryError) or re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory|bad_alloc", said):
        return f"there is not enough memory for this ({said}). Ask for less at once, or run it where there is more."
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("dualform"):
        return f"this needs the package {error.name}, which is not installed. Run python -m pip install {_wanted(error.name)}."
    if isinstance(error, OSError):
        what = "what is printed, or a file," if error.filename is None else repr(error.filename)
        return f"{what} cannot be read or written: {error.strerror or said}."
    return f"this is a fault of dualform, not of yours ({said}). {_traced(error)}"


def _wanted(package: str) -> str:
    """What pip is to install: the extra of dualform that brings a package, or the package."""
    brought: dict[str, list[str]] = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for needed in importlib.metadata.requires("dualform") or ():
            if extra := re.search(r"extra == ['\"]([\w-]+)['\"]", needed):
                brought.setdefault(extra.group(1), []).append(re.split(r"[^\w.-]", needed.lower())[0])
    fitting = [name for name, packages in brought.items() if package.lower() in packages]
    return f"'dualform[{min(fitting, key=lambda name: len(brought[name]))}]'" if fitting else package


def _traced(error: BaseException) -> str:
    """Put the traceback into a file of its own, and say where that is."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="dualform-fault-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            traceback.print_exception(error, file=file)
    except OSError as other:
        return f"Where it happened cannot be written down ({other.strerror}); please report it with the command."
    return f"Where it happened is in {file.name!r}; please report it with that file and the command."
