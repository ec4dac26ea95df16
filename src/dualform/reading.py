"""The one guard around whatever reads a file: all that a file can cause becomes a `FileError`."""

import contextlib
import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from dualform.errors import DualformError, FileError, printable

MOST_WHOLE = 2**63 - 1


def existing_file(path: str | os.PathLike[str], what: str) -> tuple[Path, str]:
    """The path, and how messages call it.

    **Raises:** `FileError` where there is no file, or it cannot be read. `what` it should be is said.
    """
    path, where = Path(path), repr(os.fspath(path))
    with _readable(where, what), _opened(path, where):
        return path, where


@contextlib.contextmanager
def _opened(path: Path, where: str) -> Iterator[IO[bytes]]:
    """The file, open: a pipe and a terminal too, but no other device, some of which have no end."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not file.isatty()):
            raise FileError(f"{where} is a device. Give a file.")
        yield file


@contextlib.contextmanager
def _readable(where: str, what: str) -> Iterator[None]:
    """Within it, a file that cannot be opened or read is a `FileError`."""
    try:
        yield
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(f"there is no file {where}. Check the path.") from None
    except IsADirectoryError:
        raise FileError(f"{where} is a folder; give the path of {what} in it.") from None
    except OSError as error:
        raise FileError(f"{where} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # a path with a zero byte in it
        raise FileError(f"{where} cannot be read: {error}.") from None


@contextlib.contextmanager
def guarded(refusal: Callable[[BaseException], DualformError]) -> Iterator[None]:
    """Within it, whatever is raised becomes what `refusal` makes of it.

    Parsers of other libraries fail on damage in ways that they do not declare: classes outside of `OSError` and `ValueError`, and
    panics of Rust, which are no `Exception`. The own errors of dualform pass, and so does what stops a program.
    """
    try:
        yield
    except (DualformError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise refusal(error) from error


def reading(where: str, what: str) -> contextlib.AbstractContextManager[None]:
    """Within it, whatever is raised is a `FileError`: `where` is not a whole `what`. Its cause is what was raised."""
    return guarded(lambda error: foreign(where, what, error))


def foreign(where: str, what: str, error: object) -> FileError:
    """The refusal of a file that a format's own parser cannot read."""
    if isinstance(error, MemoryError):
        return FileError(f"there is not enough memory to read {where}. Is it damaged, or too large here?")
    return FileError(
        f"{where} is not a whole {what} ({reason(error)}). It is truncated, damaged or of another format; copy or export it "
        "again."
    )


def reason(error: object) -> str:
    """What a parser said; its class where it said nothing that helps."""
    said = shown(error, 200)
    plain = not isinstance(error, BaseException) or isinstance(error, OSError | ValueError)
    return said if plain and said else f"{type(error).__name__}{': ' if said else ''}{said}"


def shown(text: object, most: int = 80) -> str:
    """What a file or its parser says, for a message: short, and nothing in it moves a terminal's cursor."""
    text = printable(text, 4 * most)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def text_of_file(path: str | os.PathLike[str], what: str = "a text") -> str:
    """A file of text in UTF-8, without a byte-order mark before it; each end of a line is a newline.

    **Raises:** `FileError` where there is no file, it cannot be read, or it is no such text.
    """
    path, where = Path(path), repr(os.fspath(path))
    with _readable(where, what):
        try:
            with _opened(path, where) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
                return text.read()  # opened once: a pipe can be read so
        except UnicodeDecodeError:
            raise FileError(f"{where} is no text in UTF-8. Convert it.") from None


def json_of_file(path: str | os.PathLike[str], advice: str) -> Any:
    """What a file of JSON says, None where there is no file.

    **Arguments:** advice: a sentence on what to do where it cannot be read.

    **Raises:** `FileError` where it cannot be read, or is not JSON.
    """
    where = repr(os.fspath(path))
    with guarded(lambda error: FileError(f"{where} cannot be read ({reason(error)}). {advice}")):
        try:
            return json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return None


def whole(text: object) -> int | None:
    """The number that a text of ASCII digits is, None for every other text and beyond 64 bits.

    `str.isdigit` is true of digits that `int` does not take, and `int` takes those of every script.

        >>> from dualform.reading import whole
        >>> whole("64"), whole("-1"), whole("9" * 30)
        (64, None, None)
    """
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    number = int(text)
    return number if number <= MOST_WHOLE else None
