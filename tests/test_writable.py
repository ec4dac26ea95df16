"""Whether a place can be written is told before the work, and asking changes nothing."""

import os
import sys

import pytest

from dualform.errors import FileError
from dualform.tensor_file import check_writable


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("name", ["new", "deep/er/new", "link", "there"])
def test_what_can_be_written(tmp_path, name, folder):
    """New places, with folders that are still to be made, links, and what is there; nothing on disk is changed."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "target")
    if folder:
        (tmp_path / "there").mkdir()
    else:
        (tmp_path / "there").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    check_writable(tmp_path / name, folder=folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_devices_are_written_to():
    """What is no file of a disk is not replaced."""
    if not os.path.exists(os.devnull):
        pytest.skip("this system has no such device")
    check_writable(os.devnull)


@pytest.mark.parametrize(
    "name, folder, message",
    [
        (".", False, "is a folder. Give a file"),
        ("file", True, "is a file. Give a folder"),
        ("file/new", False, "cannot be written: 'file' is no folder. Choose another place"),
        ("file/deep/new", True, "cannot be written: 'file' is no folder. Choose another place"),
        ("n" * 300, False, "cannot be written: .*[Nn]ame too long.*Choose another place"),
        ("a\0b", False, "cannot be written: .*null.*Choose another place"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, folder, message):
    """Why, and what to do."""
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileError, match=message):
        check_writable(f"{tmp_path}/{name}", folder=folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions bind everybody but root")
def test_a_folder_of_somebody_else(tmp_path):
    """Where no file can be made: the cause, and what to do."""
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="cannot be written: Permission denied. Choose another place, or change its"):
        check_writable(tmp_path / "new")
