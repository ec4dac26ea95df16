"""Data that are not part of dualform: told by their content, and where they are from is said whenever they are missing."""

import hashlib

import pytest

from dualform.cli import main
from dualform.errors import DualformError
from dualform.experiments import papers
from dualform.experiments.data_file import DataFile
from dualform.experiments.reproduction import Experiment, Findings, Paper, Workshop, reproduce

FILE = DataFile("a.csv", "example.org/a", hashlib.sha256(b"1,2").hexdigest())
SAID = "a.csv is from example.org/a; give the folder that it is in by --data"


def experiment(*needs: DataFile) -> Experiment:
    """What says in its record how long its files are."""
    return Experiment(
        "t", (("x", "y"),), lambda workshop, preset, *files: Findings([], {"bytes": [f.stat().st_size for f in files]}, 1),
        needs=needs,
    )  # fmt: skip


PAPER = Paper("paper", "t", "c", {"reads": experiment(FILE), "alone": experiment()})


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paper of two results alone, of which one reads a file."""
    monkeypatch.setitem(papers.PAPERS, "paper", PAPER)
    for name in [name for name in papers.PAPERS if name != "paper"]:
        monkeypatch.delitem(papers.PAPERS, name)


def test_a_file_is_found_by_its_content(tmp_path):
    """Its path, where it is there as it is meant."""
    (tmp_path / "a.csv").write_bytes(b"1,2")
    assert FILE.within(tmp_path) == tmp_path / "a.csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no file .*a.csv'"), (b"1,3", "another file than is meant, by its SHA-256 of [0-9a-f]{64}")],
)
def test_a_file_that_is_not_it(content, message, tmp_path):
    """What is missing or another file is named, with where it is from."""
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DualformError, match=f"{message}.*{SAID}"):
        FILE.within(tmp_path)


def test_an_experiment_gets_its_files(tmp_path):
    """It runs on them, its command says that it needs them, and without them it does not begin."""
    (tmp_path / "a.csv").write_bytes(b"1,2")
    record = reproduce(PAPER, "reads", "quick", Workshop(tmp_path / "out"), tmp_path)
    assert record["data"] == {"bytes": [3]} and record["command"].endswith("paper reads --preset quick --data FOLDER")
    with pytest.raises(DualformError, match=f"data that are not part of dualform: {SAID}"):
        reproduce(PAPER, "reads", "quick", Workshop(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("names", [["paper"], ["paper", "reads"], ["reads"]])
def test_without_its_data_a_named_result_is_refused(names, own, capsys, tmp_path):
    """Before anything is made, also of those that need none."""
    assert main(["reproduce", *names, "--out", str(tmp_path / "r")]) == 2
    assert f"paper reads: this reads data that are not part of dualform: {SAID}" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_all_leaves_out_what_has_no_data(own, capsys, tmp_path):
    """The others are made, and what is left out is said."""
    assert main(["reproduce", "all", "--out", str(tmp_path / "r")]) == 0
    assert f"paper reads  left out: this reads data that are not part of dualform: {SAID}" in capsys.readouterr().out
    assert (tmp_path / "r" / "paper" / "alone" / "result.json").exists()
    assert not (tmp_path / "r" / "paper" / "reads").exists()


def test_data_that_nothing_reads_are_refused(own, capsys, tmp_path):
    """A folder of data beside results that read none is not passed over."""
    assert main(["reproduce", "paper", "alone", "--data", str(tmp_path), "--out", str(tmp_path / "r")]) == 2
    assert "--data is of results that read data; none of these does." in capsys.readouterr().err
