"""Beginnings of texts on disk: what a process has read, another one finds."""

import contextlib
import hashlib
import logging
import os
from pathlib import Path
from typing import SupportsIndex

from dualform.counts import count_of
from dualform.errors import DualformError, require
from dualform.generation.fingerprints import Fingerprint
from dualform.generation.session import Session
from dualform.generation.snapshot import Snapshot
from dualform.generation.state_file import VERSION
from dualform.models import LanguageModel

log = logging.getLogger(__name__)


class PrefixFolder:
    """A folder of saved sessions, of `byte_budget` bytes together; what was used longest ago goes.

    It is a cache: what cannot be read or written is logged, and costs a text read anew. Several processes may use one folder.

    **Arguments:** path: is made where it is not there; byte_budget: of the files.

    **Raises:** `InputError` for a negative budget.
    """

    def __init__(self, path: str | os.PathLike[str], byte_budget: SupportsIndex):
        self.path = Path(path)
        self.byte_budget = count_of("folder_budget", byte_budget, 0, "give a number of bytes")

    def get(self, own: Fingerprint, chunk: int, name: str, model: LanguageModel) -> Snapshot | None:
        """The stored beginning of that name, or None. A file that is damaged, or not what its name says, is taken away."""
        path = self._path(own, chunk, name)
        try:
            if not path.is_file():
                return None
            found = Session.load(path, model, history=0).snapshot()
            require(name_of(found, chunk) == name, f"{os.fspath(path)!r} holds another text.")
            os.utime(path)
        except (DualformError, OSError) as error:
            log.warning("a stored beginning is read anew: %s", error)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        return found

    def put(self, own: Fingerprint, chunk: int, name: str, session: Session) -> None:
        """Store what the session remembers; an entry beyond the budget is not stored."""
        path = self._path(own, chunk, name)
        if session.nbytes > self.byte_budget or path.exists():
            return
        try:
            session.save(path)
            if path.stat().st_size > self.byte_budget:  # the file has a header, and the text
                path.unlink(missing_ok=True)
            self._trim()
        except (DualformError, OSError) as error:
            log.warning("a beginning is not stored: %s", error)

    def _path(self, own: Fingerprint, chunk: int, name: str) -> Path:
        whole = hashlib.sha256(repr((VERSION, own.structure, own.weights, chunk, name)).encode()).hexdigest()
        return self.path / f"{whole[:40]}.state"

    def _trim(self) -> None:
        files = sorted(
            ((file.stat(), file) for file in self.path.glob("*.state")), key=lambda each: each[0].st_mtime_ns
        )
        total = sum(stat.st_size for stat, _ in files)
        for stat, file in files:
            if total <= self.byte_budget:
                return
            file.unlink(missing_ok=True)
            total -= stat.st_size


def name_of(snapshot: Snapshot, chunk: int) -> str | None:
    """The digest of its tokens, where it was read in whole chunks."""
    if (snapshot.calls != chunk).any():
        return None
    return hashlib.sha256(snapshot.tokens.tobytes()).hexdigest()
