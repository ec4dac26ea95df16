"""What lies in the user's cache of the known models."""

from pathlib import Path

from dualform import packaged
from dualform.checkpoints.catalogue import known
from dualform.packaged import cache_folder, is_there, sha256_of

__all__ = ["cache_folder", "files_of", "is_there", "sha256_of"]


def files_of(name: str) -> tuple[Path, ...]:
    """The files of a known model in the cache, the weights first, each held against its SHA-256.

    **Raises:** `InputError` for an unknown name; `FileError` where a file is not there, or is not what it was.
    """
    return packaged.files_of(known(name))
