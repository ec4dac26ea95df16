"""The registry of papers, what names on the command line stand for, and results that need no training, run whole."""

import json

import pytest

from dualform.cli import main
from dualform.errors import InputError
from dualform.experiments import papers
from dualform.experiments.gated_rnn.paper import GATED_RNN
from dualform.experiments.papers import ALL, PAPERS, chosen
from dualform.experiments.reproduction import Experiment, Findings, Paper

OTHER = Paper(
    "other", "t", "c", {name: Experiment("t", (), lambda *_: Findings([], {}, 1)) for name in ("fig4", "own")}
)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second paper, which has a result of the first one's name."""
    monkeypatch.setattr(papers, "PAPERS", {"gated-rnn": GATED_RNN, "other": OTHER})


def test_every_paper_is_whole():
    """It is registered by its name, which no result has; its results have a title and say what it leaves open."""
    named = [name for paper in PAPERS.values() for name in paper.results]
    for name, paper in PAPERS.items():
        assert name == paper.name and name not in (*named, ALL) and paper.title and paper.citation and paper.results
        for experiment in paper.results.values():
            assert experiment.title and experiment.unknowns and paper_folder(experiment) == name.replace("-", "_")
    assert list(GATED_RNN.results)[:9] == [*(f"table{i}" for i in range(1, 5)), *(f"fig{i}" for i in range(1, 6))]
    assert GATED_RNN.results["scaling"].beyond and GATED_RNN.results["in-context"].beyond


def paper_folder(experiment: Experiment) -> str:
    return experiment.function.removeprefix("dualform.experiments.").split(".")[0]


def test_what_names_stand_for(two):
    """A paper is all of its results, or those that follow it, once each; `all` is all of all; a result may stand alone."""
    assert chosen(["gated-rnn"]) == [(GATED_RNN, tuple(GATED_RNN.results))]
    assert chosen(["gated-rnn", "fig5", "fig4", "fig5"]) == [(GATED_RNN, ("fig5", "fig4"))]
    assert chosen(["all"]) == [(GATED_RNN, tuple(GATED_RNN.results)), (OTHER, ("fig4", "own"))]
    assert chosen(["fig1", "fig4"]) == [(GATED_RNN, ("fig1", "fig4"))] and chosen(["own"]) == [(OTHER, ("own",))]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["table9"],
            r"no paper and no result 'table9'; there are gated-rnn \(table1, .*\); other \(fig4, own\), and all",
        ),
        (["gated-rnn", "own"], "gated-rnn has no result 'own'; it has table1, .*in-context. Leave it out for all"),
        (["fig4"], "several papers have a result 'fig4': say gated-rnn fig4 or other fig4"),
        (["own", "fig1"], "other has no result 'fig1'; it has fig4, own"),
        (["all", "fig1", "x"], "all is every result of every paper; leave out 'fig1', 'x'"),
    ],
)
def test_names_that_stand_for_nothing(two, names, message):
    """A name that is none, or of two papers, is answered by those that there are."""
    with pytest.raises(InputError, match=message):
        chosen(names)


def test_an_unknown_name_lists_the_known(capsys, tmp_path):
    """`dualform reproduce` of a name that is none exits with 2 and says which there are."""
    assert main(["reproduce", "table9", "--out", str(tmp_path / "r")]) == 2
    message = capsys.readouterr().err
    assert "no paper and no result 'table9'" in message and "table1, table2, table3" in message and "fig5" in message
    assert not (tmp_path / "r").exists()


def test_without_a_name_the_papers_are_listed(capsys):
    """Every paper and every result has a line, and what an option would be of is not passed over."""
    assert main(["reproduce"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, paper in PAPERS.items():
        assert any(line.startswith(name) and paper.title in line for line in lines)
        assert all(any(line.split()[:1] == [result] for line in lines) for result in paper.results)
    assert main(["reproduce", "--preset", "full"]) == 2
    assert "--preset is of a result that is made; name a paper, or all." in capsys.readouterr().err


@pytest.mark.parametrize("names", [("gated-rnn", "fig1"), ("table4",), ("fig1", "table4")], ids=" ".join)
def test_what_needs_no_training(names, capsys, tmp_path):
    """The command makes the records, a page each and stored copies, and every number is met; of several, a page of all."""
    assert main(["reproduce", *names, "--out", str(tmp_path / "r"), "--store", str(tmp_path / "s")]) == 0
    results = [name for name in names if name != "gated-rnn"]
    said = capsys.readouterr().out
    for name in results:
        record = json.loads((tmp_path / "s" / "gated-rnn" / f"{name}.json").read_text())
        assert record["command"] == f"dualform reproduce gated-rnn {name} --preset quick"
        assert record["verdict"] in ("reproduced", "better") and record["numbers"] and record["unknowns"]
        assert (tmp_path / "r" / "gated-rnn" / name / "report.html").exists() and record["verdict"] in said
    assert (tmp_path / "r" / "gated-rnn" / "report.html").exists() == (len(results) > 1)
