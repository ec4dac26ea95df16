"""The user's cache folder, and what lies in it of what packages carry."""

import hashlib
import os
import sys
from pathlib import Path

from dualform.errors import FileError
from dualform.packaged.pinned import Member, Pinned

_CHUNK = 2**20


def cache_folder() -> Path:
    """Where what was downloaded is kept.

    `DUALFORM_CACHE`, else `dualform` within `XDG_CACHE_HOME`, else within the system's own place: `~/Library/Caches` on macOS,
    `%LOCALAPPDATA%` on Windows, `~/.cache` elsewhere. Nothing is created.
    """
    own = os.environ.get("DUALFORM_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    if shared and os.path.isabs(shared):  # the specification has relative ones ignored
        return Path(shared) / "dualform"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "dualform"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "dualform" / "Cache"
    return Path.home() / ".cache" / "dualform"


def place_of(pinned: Pinned, member: Member) -> Path:
    """Where a file is kept, whether it is there or not."""
    return cache_folder() / pinned.kind / f"{pinned.name}-{pinned.version}" / member.name


def is_there(pinned: Pinned) -> bool:
    """Whether all of its files are in the cache, by name and size; their content is checked when they are read."""
    places = [(place_of(pinned, member), member.bytes) for member in pinned.members]
    try:
        return all(place.is_file() and place.stat().st_size == size for place, size in places)
    except OSError:  # a folder that may not be looked into
        return False


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    **Raises:** `FileError` where it cannot be read.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except OSError as error:
        raise FileError(
            f"{str(path)!r} cannot be read: {error.strerror}. Change its permissions, or delete it."
        ) from None
    return found.hexdigest()


def files_of(pinned: Pinned) -> tuple[Path, ...]:
    """The files in the cache, in their order, each held against its SHA-256.

    **Raises:** `FileError` where a file is not there, or is not what it was.
    """
    places = []
    for member in pinned.members:
        place = place_of(pinned, member)
        if not os.path.isfile(place):
            raise FileError(f"{pinned.name} is not in the cache ({place}). Run {pinned.command}.")
        if sha256_of(place) != member.sha256:
            raise FileError(f"{str(place)!r} is damaged: its SHA-256 is another. Run {pinned.command}.")
        places.append(place)
    return tuple(places)
