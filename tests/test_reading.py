"""Whatever a file causes is an error of dualform that can be printed; what is written is for whom it should be."""

import os
import pickle
import stat
import threading
import tokenize

import numpy as np
import pytest

from dualform import checkpoints
from dualform.errors import FileError, InputError, printable, require
from dualform.reading import existing_file, foreign, reading, shown, text_of_file, whole
from dualform.tensor_file import read_tensors, write_atomically, write_tensors


class Panic(BaseException):
    """As a library in Rust panics: no `Exception`."""


@pytest.mark.parametrize(
    "error", [IndexError("x"), tokenize.TokenError("x", (1, 0)), Panic("x"), OSError(5, "x"), RecursionError()]
)
def test_the_guard_takes_all_that_a_parser_raises(error):
    """Every class becomes a `FileError` that names the file, and keeps its cause."""
    with pytest.raises(FileError, match="a file is not a whole thing") as caught, reading("a file", "thing"):
        raise error
    assert caught.value.__cause__ is error


def test_the_guard_lets_through_what_is_not_the_files():
    """Ctrl-C, the end of the program and our own errors pass; memory that is not there has a sentence of its own."""
    for error in (KeyboardInterrupt(), SystemExit(3), InputError("ours"), FileError("ours")):
        with pytest.raises(type(error)) as caught, reading("a file", "thing"):
            raise error
        assert caught.value is error
    with pytest.raises(FileError, match="there is not enough memory to read a file"), reading("a file", "thing"):
        raise MemoryError


def test_every_message_can_be_printed():
    """Escapes of a terminal, line ends, half characters and right-to-left marks are written out; the end of a long text stays."""
    said = "\x1b[2J\x1b[31mowned\r\n\x00\ud800\u202e\x9b0m"
    for error in (InputError(said), FileError(said), foreign("a", "b", ValueError(said))):
        assert str(error).isprintable()
    assert str(InputError("\x1b[2J")) == r"\x1b[2J" and printable("caf\u00e9 \U0001f600") == "caf\u00e9 \U0001f600"
    long = str(InputError("a" * 10_000 + ". Take another."))
    assert len(long) == 2_000 and long.endswith("a. Take another.") and long.startswith("aaa")
    with pytest.raises(InputError, match=r"^\\n$"):
        require(False, "\n")
    assert len(shown("a" * 999)) == 80 and shown("\x1b" * 999).isprintable() and len(shown("\x1b" * 999)) == 80
    again = pickle.loads(pickle.dumps(FileError(said)))
    assert type(again) is FileError and str(again) == str(FileError(said))


@pytest.mark.parametrize(
    "text, number",
    [("0", 0), ("007", 7), (str(2**63 - 1), 2**63 - 1), (str(2**63), None), ("9" * 5000, None), ("\u00b2", None)]
    + [("\u0663", None), ("-1", None), ("", None), (" 1", None), (5, None), (None, None)],
)
def test_whole_numbers_are_ascii_and_of_64_bits(text, number):
    """What `isdigit` is true of and `int` does not take, digits of other scripts, and what no counter holds, are no numbers."""
    assert whole(text) == number


def test_texts_without_their_mark(tmp_path):
    """A byte-order mark is no character; a line separator is no end of a line; what is no UTF-8 is said."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfTo\xe2\x80\xa8be\x0cor\r\nnot")
    assert text_of_file(path) == "To\u2028be\x0cor\nnot"
    for data in (b"\xff\xfeT\x00o\x00", b"caf\xe9", b"\xed\xa0\x80"):
        path.write_bytes(data)
        with pytest.raises(FileError, match=r"a.txt' is no text in UTF-8. Convert it"):
            text_of_file(path)
    with pytest.raises(FileError, match=r"cannot be read: embedded null byte"):
        existing_file("a\0b", "a file")


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
class TestWriting:
    """`write_atomically` on a POSIX system."""

    def mode(self, path):
        return stat.S_IMODE(path.stat().st_mode)

    @pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o000, 0o666)])
    def test_a_new_file_is_as_the_umask_says(self, tmp_path, umask, mode):
        """As any file that the process makes; nothing else is left in the folder."""
        before = os.umask(umask)
        try:
            write_atomically(tmp_path / "a", b"1")
            write_tensors(tmp_path / "b" / "c.safetensors", {"w": np.ones(2)})
        finally:
            os.umask(before)
        assert self.mode(tmp_path / "a") == self.mode(tmp_path / "b" / "c.safetensors") == mode
        assert sorted(os.listdir(tmp_path)) == ["a", "b"] and os.listdir(tmp_path / "b") == ["c.safetensors"]

    def test_a_file_keeps_its_permissions(self, tmp_path):
        """A private file stays private, and one that its group may write stays so."""
        for mode in (0o600, 0o664, 0o400):
            (tmp_path / "a").write_bytes(b"1")
            (tmp_path / "a").chmod(mode)
            write_atomically(tmp_path / "a", b"2")
            assert self.mode(tmp_path / "a") == mode and (tmp_path / "a").read_bytes() == b"2"
            (tmp_path / "a").unlink()

    def test_links_are_followed(self, tmp_path):
        """What the link leads to is written, in its own folder, also where nothing is there yet; the link stays."""
        (tmp_path / "far").mkdir()
        for name in ("there", "nowhere"):
            link, target = tmp_path / name, tmp_path / "far" / name
            if name == "there":
                target.write_bytes(b"old")
            link.symlink_to(os.path.join("far", name))
            write_atomically(link, b"new")
            assert link.is_symlink() and not target.is_symlink() and target.read_bytes() == b"new"
        assert sorted(os.listdir(tmp_path / "far")) == ["nowhere", "there"]

    def test_links_in_a_circle_and_folders_are_refused(self, tmp_path):
        """There is nothing to write to, and nothing is replaced."""
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        (tmp_path / "folder").mkdir()
        for name in ("a", "folder", "zero\0byte", "long" * 100):
            with pytest.raises(FileError, match="cannot be written: .*. Choose another place"):
                write_atomically(tmp_path / name, b"new")
        assert (tmp_path / "a").is_symlink() and sorted(os.listdir(tmp_path)) == ["a", "b", "folder"]

    def test_what_is_no_file_of_a_disk_is_written_to(self, tmp_path):
        """A pipe gets the bytes and stays a pipe; a device is not replaced."""
        os.mkfifo(tmp_path / "pipe")
        got = []
        reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
        reader.start()
        write_atomically(tmp_path / "pipe", b"through")
        reader.join(10)
        assert got == [b"through"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
        write_atomically("/dev/null", b"1")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    def test_long_names(self, tmp_path):
        """A name as long as the system allows can be written: the temporary one is shorter."""
        write_atomically(tmp_path / ("n" * 250), b"1")
        assert os.listdir(tmp_path) == ["n" * 250]


def test_nothing_of_posix_is_needed(tmp_path, monkeypatch):
    """Without `os.fchmod`, as on Windows before Python 3.13, a file is written and read."""
    monkeypatch.delattr(os, "fchmod", raising=False)
    monkeypatch.delattr(os, "O_NOFOLLOW", raising=False)
    write_tensors(tmp_path / "a.safetensors", {"w": np.ones(2)}, {"note": "x"})
    arrays, metadata = read_tensors(tmp_path / "a.safetensors")
    assert arrays["w"].tolist() == [1, 1] and metadata == {"note": "x"}


def test_names_of_tensors_do_not_move_the_cursor(tmp_path):
    """A file's own names are written out in every refusal of a checkpoint."""
    write_tensors(tmp_path / "a.safetensors", {"\x1b[2J\x1b[31mowned": np.ones(2, np.float32)})
    with pytest.raises(FileError, match=r"\\x1b\[2J\\x1b\[31mowned") as caught:
        checkpoints.load(tmp_path / "a.safetensors")
    assert str(caught.value).isprintable()
