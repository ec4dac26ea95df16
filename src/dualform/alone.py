"""A folder that one process at a time works in: the lock is the system's, and dies with the process that holds it."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from dualform.errors import FileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOG = logging.getLogger(__name__)
_HELD: dict[str, tuple[int, int | None]] = {}
"""Folders that are held in this process: by which thread, and the open file."""
_GUARD = threading.Lock()
LOCK = ".lock"


@contextlib.contextmanager
def alone(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Within it no other process, and no other thread, is within one of the same folder; a thread may enter it again.

    The lock is a file `.lock` in the folder, which stays; it counts only while a process that lives holds it. On a disk without
    locks, and where the file cannot be written, nothing is held: writing fails by itself there.

    **Raises:** `FileError` where another one is at work in the folder.
    """
    place, own = os.path.realpath(folder), threading.get_ident()
    with _GUARD:
        first = place not in _HELD
        holder, handle = _HELD.setdefault(place, (own, None))
        if first:
            try:
                handle = _locked(Path(place))
            except BaseException:
                del _HELD[place]
                raise
            _HELD[place] = own, handle
    if holder != own:
        raise FileError(
            f"another thread is at work in {os.fspath(folder)!r}. Wait until it is done, or choose another folder."
        )
    try:
        yield
    finally:
        if first:
            with _GUARD:
                held = _HELD.pop(place, None)
                if handle is not None and held is not None:
                    os.close(handle)


def _locked(folder: Path) -> int | None:
    """The open file whose lock is held, with the number of this process in it."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        _LOG.info("%s is not locked: %s", folder, error)
        return None
    try:
        _lock(handle)
    except BlockingIOError:
        said = os.read(handle, 20).decode(errors="replace").strip() if fcntl else ""
        os.close(handle)
        raise FileError(
            f"another process{f' (number {said})' if said.isdigit() else ''} is at work in {str(folder)!r}. Wait until it is "
            "done, or choose another folder."
        ) from None
    except OSError as error:
        _LOG.info("%s is not locked: %s", folder, error)
        os.close(handle)
        return None
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0) if fcntl else None
    return handle


def _lock(handle: int) -> None:
    """Lock the file, or raise `BlockingIOError` where another one has."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue] - of Windows
    except OSError:
        raise BlockingIOError from None


def _forget() -> None:
    """In a process that was forked: what its parent holds is the parent's alone, and ends with it."""
    for _, handle in _HELD.values():
        if handle is not None:
            os.close(handle)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
