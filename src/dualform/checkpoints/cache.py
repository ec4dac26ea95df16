"""The user's cache folder, and what lies in it of the known models."""

import hashlib
import os
import sys
from pathlib import Path

from dualform.checkpoints.catalogue import Known, Member, known
from dualform.errors import FileError

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


def place_of(model: Known, member: Member) -> Path:
    """Where a file of a model is kept, whether it is there or not."""
    return cache_folder() / "models" / f"{model.name}-{model.version}" / member.name


def is_there(model: Known) -> bool:
    """Whether all files of a model are in the cache, by name and size; their content is checked when they are read."""
    places = [(place_of(model, member), member.bytes) for member in model.members]
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


def files_of(name: str) -> tuple[Path, ...]:
    """The files of a known model in the cache, the weights first, each held against its SHA-256.

    **Raises:** `InputError` for an unknown name; `FileError` where a file is not there, or is not what it was.
    """
    model, places = known(name), []
    for member in model.members:
        place = place_of(model, member)
        if not os.path.isfile(place):
            raise FileError(f"{name} is not in the cache ({place}). Run dualform models get {name}.")
        if sha256_of(place) != member.sha256:
            raise FileError(f"{str(place)!r} is damaged: its SHA-256 is another. Run dualform models get {name}.")
        places.append(place)
    return tuple(places)
