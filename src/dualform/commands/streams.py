"""stdout and stderr as a command needs them: any text can be written, and a reader may go away."""

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

REPLACED = "dualform.replaced"


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """A byte of a file's name as it is there; for every other character that an encoding lacks, a question mark."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("replace")(error)


codecs.register_error(REPLACED, _replaced)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Within it stdout and stderr are there, and take every character; in the end, nothing is left for Python to complain of.

    One that was closed before the start (`>&-`) takes what is written and forgets it. What the user asks for by
    PYTHONIOENCODING=ENCODING:HANDLER stays.
    """
    with contextlib.ExitStack() as stack:
        for name, handler in (("stdout", REPLACED), ("stderr", "backslashreplace")):
            stream = getattr(sys, name)
            if stream is None:
                setattr(sys, name, stack.enter_context(open(os.devnull, "w", encoding="utf-8")))
                stack.callback(setattr, sys, name, None)
            elif isinstance(stream, io.TextIOWrapper):
                stack.callback(_settle, stream, stream.errors)
                if stream.errors in ("strict", "surrogateescape"):
                    stream.reconfigure(errors=handler)
        yield


def reader_has_gone(error: BaseException) -> bool:
    """Whether it says that nobody reads what is written, as after `| head`."""
    return isinstance(error, BrokenPipeError) or (
        os.name == "nt" and isinstance(error, OSError) and error.errno == errno.EINVAL
    )


def _settle(stream: io.TextIOWrapper, errors: str | None) -> None:
    """Write what is left, or forget it where it cannot be written: as it ends, Python would try again, and complain."""
    try:
        stream.flush()
    except (OSError, ValueError):  # ValueError: it was closed
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())
    with contextlib.suppress(OSError, ValueError):
        stream.reconfigure(errors=errors)
