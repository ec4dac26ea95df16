"""The folder of a run: its config decides whether it may be used again, and its files are whole at any moment."""

import dataclasses
import json
import logging
import os

import jax.numpy as jnp
import numpy as np
import pytest

from dualform.errors import FileError, InputError
from dualform.training import FitConfig, Run, write_atomically
from dualform.training import run as module
from dualform.training.config import told_of


@dataclasses.dataclass(frozen=True)
class Config:
    """A config with a config inside."""

    name: str = "a"
    width: int = 4
    fit: FitConfig = FitConfig(clip=float("inf"))


def test_config_holds_everything(tmp_path):
    """config.json has every field, nested ones too, the seed and the versions; not what is off and came later."""
    Run.create(tmp_path / "run", Config(), seed=7)
    found = json.loads((tmp_path / "run" / "config.json").read_text())
    assert found["seed"] == 7 and found["config"]["width"] == 4
    assert found["config"]["fit"] == told_of(Config().fit) | {"clip": "inf"}
    assert set(found["versions"]) == {"python", "dualform", "jax", "jaxlib", "equinox", "optax", "numpy"}


def test_same_config_opens_the_same_run(tmp_path):
    """Creating a run twice with one config is opening it, and changes no byte."""
    Run.create(tmp_path / "run", Config(), seed=7)
    before = (tmp_path / "run" / "config.json").read_bytes()
    Run.create(tmp_path / "run", Config(), seed=7)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "config, seed, message",
    [
        (Config(width=5), 7, "was made with width = 4, and now it is 5. Choose another folder for this run, or delete"),
        (Config(fit=FitConfig(learning_rate=0.5)), 7, "was made with fit.clip = 'inf', and now it is 1.0"),
        (Config(), 8, "was made with seed = 7, and now it is 8"),
        ({"name": "a", "width": 4}, 7, "was made with fit.accumulate = 1, and now it is nothing"),
    ],
)
def test_another_config_is_refused(tmp_path, config, seed, message):
    """The first field that differs is named with both values, and nothing on disk changes."""
    Run.create(tmp_path / "run", Config(), seed=7)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(InputError, match=message):
        Run.create(tmp_path / "run", config, seed=seed)
    assert (tmp_path / "run" / "config.json").read_bytes() == before and len(list((tmp_path / "run").iterdir())) == 1


def test_other_versions_are_warned_of(tmp_path, monkeypatch, caplog):
    """A run made with another version of a package goes on, with a warning."""
    Run.create(tmp_path / "run", Config())
    monkeypatch.setattr(module, "versions", lambda: {"jax": "9.9.9"})
    with caplog.at_level(logging.WARNING):
        Run.create(tmp_path / "run", Config())
    assert "made with other versions (jax" in caplog.text and "-> 9.9.9): numbers may differ" in caplog.text


def test_a_folder_of_other_things_is_refused(tmp_path):
    """A folder that holds files and no config.json is nobody's run."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files and no config.json: it is no run's folder. Choose another"):
        Run.create(tmp_path, Config())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "has no config.json: it is no run's folder"),
        ("[1, 2", "config.json' cannot be read .* Delete the folder of the run and start again"),
        ("[" * 100_000, "config.json' cannot be read .* Delete the folder of the run and start again"),
        ("[1, 2]", "is not a run's config. Choose another folder"),
    ],
)
def test_open_what_is_no_run(tmp_path, content, message):
    """Opening needs a config.json that is one."""
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(FileError, match=message):
        Run.open(tmp_path)


def test_open_what_is_not_there(tmp_path):
    """A folder that does not exist."""
    with pytest.raises(FileError, match="there is no folder '.*nowhere'. Check the path"):
        Run.open(tmp_path / "nowhere")


def test_json_of_arrays_and_infinities(tmp_path):
    """Arrays and NumPy numbers become lists and numbers; what JSON lacks becomes a string."""
    run = Run.create(tmp_path / "run", {})
    value = {
        "a": jnp.arange(3.0),
        "b": np.float64(0.1),
        "c": (1, None),
        "d": float("nan"),
        "e": -np.inf,
        "f": np.int32(4),
    }
    run.write_json("result.json", value)
    expected = {"a": [0.0, 1.0, 2.0], "b": 0.1, "c": [1, None], "d": "nan", "e": "-inf", "f": 4}
    assert run.read_json("result.json") == expected
    assert run.read_json("other.json") is None


def test_metrics_by_stage(tmp_path):
    """Lines are kept in order, by stage; those past a step are cut from one stage alone; a line cut short is left out."""
    run = Run.create(tmp_path / "run", {})
    lines = [{"stage": stage, "step": step, "loss": 0.1 * step} for step in (1, 2, 3) for stage in ("a", "b")]
    for line in lines:
        run.append_metrics(line)
    assert run.metrics() == lines and run.metrics("b") == lines[1::2]
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "a", "step": 4, "lo')
    assert run.metrics() == lines
    run.keep_metrics("a", 1)
    assert run.metrics() == [line for line in lines if line["stage"] == "b" or line["step"] <= 1]
    assert (run.path / "metrics.jsonl").read_text().endswith("}\n")


def test_metrics_that_are_not_json(tmp_path):
    """A broken line that is not the last is somebody's edit."""
    run = Run.create(tmp_path / "run", {})
    no_step = ('{"stage": "train"}\n', '{"stage": "train", "step": "2"}\n')
    for text in ("step,loss\n1,2\n", "[1]\n", "[" * 100_000 + "\n", *no_step):
        (run.path / "metrics.jsonl").write_text(text)
        with pytest.raises(
            FileError, match="metrics.jsonl' is not JSON in each line .* Delete the run and start again"
        ):
            run.metrics()


def test_metrics_on_a_full_disk(tmp_path):
    """A real ENOSPC, from /dev/full: what to do."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    run = Run.create(tmp_path / "run", {})
    (run.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(FileError, match="no space is left on the disk for '.*metrics.jsonl'; .* Free some space"):
        run.append_metrics({"step": 1})


def test_atomic_write_on_a_full_disk(tmp_path, monkeypatch):
    """The disk runs full while a file is written: the old one stands, nothing else is left, and the message says what to do."""
    path = tmp_path / "result.json"
    write_atomically(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        FileError, match="no space is left on the disk for .*; what was there before is whole. Free some space"
    ):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_atomic_write_where_it_cannot(tmp_path):
    """A file where a folder should be: the cause, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written: .*. Choose another place, or change its permissions"):
        write_atomically(tmp_path / "file" / "result.json", b"new")
