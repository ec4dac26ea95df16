"""A sweep: every job once, failures as rows, nothing lost, the same on every backend."""

import csv
import importlib
import importlib.util
import os
import sys

import pytest

from dualform.errors import FileError, InputError
from dualform.training import Job, sweep
from tests.tiers import tiers

JOBS = "tests.training.sweep_jobs"


def jobs(function: str, values=(0, 1, 2)) -> list[Job]:
    return [Job(f"x={x}", f"{JOBS}:{function}", {"x": x}) for x in values]


def lines(folder) -> list[dict[str, str]]:
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


def test_each_job_runs_once(tmp_path):
    """Rows are in the jobs' order; a second call runs nothing and gives the same; the table holds config and result."""
    seen = []
    rows = sweep(jobs("double"), tmp_path, backend="here", on_row=lambda row, done, total: seen.append((done, total)))
    assert [row.results[0]["y"] for row in rows] == [0, 2, 4] and seen == [(1, 3), (2, 3), (3, 3)]
    assert sweep(jobs("double"), tmp_path, backend="here") == rows
    assert all((tmp_path / f"x={x}" / "calls").read_text() == "x" for x in range(3))
    assert [(line["name"], line["status"], line["config.x"], line["y"]) for line in lines(tmp_path)] == [
        ("x=0", "done", "0", "0"),
        ("x=1", "done", "1", "2"),
        ("x=2", "done", "2", "4"),
    ]


def test_a_job_may_give_several_rows(tmp_path):
    """Seeds trained at once are lines of their own."""
    (row,) = sweep(jobs("two", [5]), tmp_path, backend="here")
    assert [one["y"] for one in row.results] == [5, 6] and [line["seed"] for line in lines(tmp_path)] == ["0", "1"]


def test_a_failure_is_a_row_and_is_tried_again(tmp_path):
    """The others are done; the table has the reason; the next call runs the failed one alone."""
    rows = sweep(jobs("picky"), tmp_path, backend="here")
    assert [row.status for row in rows] == ["done", "failed", "done"] and rows[1].reason == "ValueError: one is refused"
    assert lines(tmp_path)[1]["reason"] == "ValueError: one is refused"
    (tmp_path / "ready").touch()
    assert [row.status for row in sweep(jobs("picky"), tmp_path, backend="here")] == ["done"] * 3
    (row,) = sweep(jobs("unstorable", [0]), tmp_path / "other", backend="here")
    assert row.status == "failed" and "not JSON serializable" in row.reason
    (row,) = sweep([Job("a", "no.such.module:f")], tmp_path / "third", backend="here")
    assert row.status == "failed" and "No module named" in row.reason


def test_an_interruption_loses_nothing(tmp_path):
    """What was done before Ctrl-C is in the table and is not done again."""

    def stop(row, done, total):
        del row, total
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(jobs("double"), tmp_path, backend="here", on_row=stop)
    assert [line["name"] for line in lines(tmp_path)] == ["x=0", "x=1"]
    assert [row.results[0]["y"] for row in sweep(jobs("double"), tmp_path, backend="here")] == [0, 2, 4]
    assert (tmp_path / "x=0" / "calls").read_text() == "x"


@pytest.mark.parametrize(("values", "workers"), tiers([((1, 2), 1), ((0, 1, 2), 2)], ((1, 2), 1)))
def test_processes(values, workers, tmp_path):
    """Jobs run in other processes and give the same rows; one that dies is a row, and takes no other with it."""
    for row in sweep(jobs("dies", values), tmp_path, workers=workers):
        if row.config["x"] == 1:
            assert row.status == "failed" and "its process died" in row.reason
        else:
            assert row.status == "done" and row.results[0]["y"] == 2 * row.config["x"]
            assert row.results[0]["process"] != os.getpid()
    assert [line["config.x"] for line in lines(tmp_path)] == [str(value) for value in values]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra: pip install 'dualform[ray]'")
@pytest.mark.filterwarnings("ignore")
def test_ray(tmp_path):
    """On a real local Ray cluster the rows are the same, a failure is a row, and nothing runs twice."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        rows = sweep(jobs("picky"), tmp_path, backend="ray")
        assert [row.status for row in rows] == ["done", "failed", "done"] and rows[
            1
        ].reason == "ValueError: one is refused"
        rows = sweep(jobs("double"), tmp_path / "double", backend="ray")
        assert [row.results[0]["y"] for row in rows] == [0, 2, 4]
        assert sweep(jobs("double"), tmp_path / "double", backend="ray") == rows
        (row,) = sweep(jobs("dies", [1]), tmp_path / "dies", backend="ray")
        assert row.status == "failed" and "its worker died" in row.reason
    finally:
        ray.shutdown()


def test_ray_missing(tmp_path, monkeypatch):
    """Where Ray is not installed, the message says how to get it."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'dualform\[ray\]'"):
        sweep(jobs("double"), tmp_path, backend="ray")


def test_bad_calls(tmp_path, unchecked):
    """Names used twice, folders that cannot be, functions that are none, unknown backends, another config."""
    del unchecked
    with pytest.raises(InputError, match="more than one job called x=0"):
        sweep(jobs("double", [0, 0]), tmp_path)
    with pytest.raises(InputError, match="cannot be called '../x'"):
        Job("../x", f"{JOBS}:double")
    with pytest.raises(InputError, match="must be 'package.module:function'"):
        Job("x", "double")
    with pytest.raises(InputError, match="no backend 'slurm'; there are processes, ray, here"):
        sweep([], tmp_path, backend="slurm")  # pyright: ignore[reportArgumentType] - refused
    with pytest.raises(InputError, match="workers is 0"):
        sweep([], tmp_path, workers=0)
    sweep([Job("a", f"{JOBS}:double", {"x": 1})], tmp_path, backend="here")
    with pytest.raises(InputError, match=r"was made with config.x = 1, and now it is 2"):
        sweep([Job("a", f"{JOBS}:double", {"x": 2})], tmp_path, backend="here")


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"results": 3, "seconds": 1}', '{"results": [3], "seconds": 1}', '{"res']
)
def test_a_damaged_result_is_refused(text, tmp_path):
    """A result.json that no job wrote is said with its path; where it is deleted the job runs again."""
    rows = sweep(jobs("double", [1]), tmp_path, backend="here")
    (tmp_path / "x=1" / "result.json").write_text(text)
    with pytest.raises(FileError, match=r"x=1/result.json' (is no job's result|cannot be read) \(.*\). Delete"):
        sweep(jobs("double", [1]), tmp_path, backend="here")
    (tmp_path / "x=1" / "result.json").unlink()
    assert sweep(jobs("double", [1]), tmp_path, backend="here")[0].results == rows[0].results


def test_results_are_of_the_code_that_made_them(tmp_path, monkeypatch):
    """An edited function, and one that calls an edited one, are refused; comments and docstrings are no code."""
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "edited_job.py"
    text = (
        'FACTOR = 2\n\ndef double(x):\n    """Twice."""\n    return FACTOR * x\n\n'
        'def job(config, folder):\n    return {"y": double(config["x"])}\n'
    )

    def swept(text: str):
        module.write_text(text)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "edited_job", raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        return sweep([Job("a", "edited_job:job", {"x": 1})], tmp_path / "sweep", backend="here")

    assert swept(text)[0].results == ({"y": 2},)
    assert swept(text.replace("Twice", "Two times") + "# a comment\n\ndef other():\n    return 1\n")[0].results == (
        {"y": 2},
    )
    for edit in (("FACTOR = 2", "FACTOR = 3"), ("FACTOR * x", "FACTOR + x"), ('{"y":', '{"z":')):
        with pytest.raises(InputError, match="was made by other code than there is now. Choose another folder"):
            swept(text.replace(*edit))
    assert swept(text)[0].results == ({"y": 2},)


def test_two_sweeps_do_not_share_a_folder(tmp_path):
    """While one process sweeps in a folder another one is refused, and no job runs twice."""
    fcntl = pytest.importorskip("fcntl", reason="the lock of another process is taken as POSIX has it")
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FileError, match="another process .*is at work in"):
            sweep(jobs("double"), tmp_path, backend="here")
    assert [row.results[0]["y"] for row in sweep(jobs("double"), tmp_path, backend="here")] == [0, 2, 4]
    (tmp_path / "x=3").mkdir()
    with (tmp_path / "x=3" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (row,) = sweep(jobs("double", [3]), tmp_path, backend="here")
        assert row.status == "failed" and "another process" in row.reason
