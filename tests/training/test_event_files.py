"""Event files: every number of metrics.jsonl under its tag, read back record by record."""

import importlib
import struct
from typing import Any

import pytest

from dualform.errors import FileError, InputError
from dualform.training import Run, to_tensorboard
from tests.training.written_runs import write_run

Event: Any = importlib.import_module("tensorboardX.proto.event_pb2").Event  # made at run time


def events(path) -> list[Any]:
    """The records of an event file: a length, its checksum, as many bytes, their checksum."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_every_number_is_there(tmp_path):
    """By tag and step, as metrics.jsonl has it, with the recipe as a text; a second call takes the file's place."""
    run = Run(write_run(tmp_path / "run", losses=(2.0, "nan", 0.5)))
    path = to_tensorboard(run, tmp_path / "board" / "run")
    assert to_tensorboard(run, tmp_path / "board" / "run") == path and list(path.parent.iterdir()) == [path]
    assert "tfevents" in path.name
    found = {(v.tag, e.step): v for e in events(path) for v in e.summary.value}
    for line in run.metrics():
        step = line["step"]
        for tag, value in (("loss", line["loss"]), ("held_out/accuracy", line["held_out"]["accuracy"])):
            assert found[f"train/{tag}", step].simple_value == pytest.approx(float(value), nan_ok=True)
    assert len({tag for tag, _ in found if tag.startswith("train/")}) == 5
    (text,) = [v.tensor.string_val[0].decode() for (tag, _), v in found.items() if "run.toml" in tag]
    assert "    seed = 0" in text


def test_what_cannot_be_done_is_said(tmp_path, monkeypatch):
    """A folder that is a file; a package that is not there, with what to install."""
    run = Run(write_run(tmp_path / "run"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="cannot be written"):
        to_tensorboard(run, tmp_path / "file")

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        InputError, match=r"tensorboardX, which is not installed.*pip install 'dualform\[tensorboard\]'"
    ):
        to_tensorboard(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()
