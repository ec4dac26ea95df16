"""A file of data that an experiment reads, and that is not part of dualform."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from dualform.errors import FileError, InputError
from dualform.reading import existing_file, reading


class DataFile(NamedTuple):
    """A public file, told by its content.

    - name: under which it is looked for.  origin: where it is from.  sha256: of its bytes, in hexadecimal.
    """

    name: str
    origin: str
    sha256: str

    def within(self, folder: Path | None) -> Path:
        """Where it is in a folder.

        **Raises:** `InputError` where no folder is given; `FileError` where the file is not there, cannot be read or has
        another content.
        """
        how = f"{self.name} is from {self.origin}; give the folder that it is in by --data."
        if folder is None:
            raise InputError(f"this reads data that are not part of dualform: {how}")
        try:
            path, where = existing_file(folder / self.name, self.name)
            with reading(where, "file"):
                found = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileError as error:
            raise FileError(f"{error} {how}") from None
        if found != self.sha256:
            raise FileError(f"{where} is another file than is meant, by its SHA-256 of {found}. {how}")
        return path
