"""`dualform sweep`, `compare` and `view`: from a file to the table, the page and the curves, and on where it was stopped."""

import json
import os
import re

import jax
import pytest

from dualform.cli import main
from dualform.errors import DivergedError
from dualform.training.outcome import outcomes_in
from tests.training.written_runs import accuracies, write_run

SWEEP = """
task = "selective-copy"
settings = {time = 6, tokens = 2, symbols = 3, batch = 4, held = 8}
model = {mixers = ["min_gru"], width = 4, layers = 1, mlp = "none"}
fit = {steps = 4, chunk = 2, warmup = 1}
[sweep]
fit.learning_rate = [0.01, 0.001]
"""


@pytest.fixture
def by_hand(monkeypatch, tmp_path):
    """A sweep's trainings are written by hand, and those of a rate above 1 diverge."""

    def job(config, folder):
        rate = config["fit"]["learning_rate"]
        more = {name: config[name] for name in ("task", "settings", "model", "fit")}
        write_run(folder / "run", **more, validation=rate, losses=() if rate > 1 else (2.0, 1.0), done=rate <= 1)
        if rate > 1:
            raise DivergedError("training diverged.")
        return json.loads((folder / "run" / "result.json").read_text())

    monkeypatch.setattr("dualform.training.recipe.job", job)
    monkeypatch.chdir(tmp_path)


def test_a_sweep_from_a_file_to_the_page(tmp_path, capsys, by_hand):
    """Every combination is trained and compared; a second call trains nothing and shows the same; `view` knows the page."""
    (tmp_path / "rates.toml").write_text(SWEEP)
    assert main(["sweep", "rates.toml", "--backend", "here"]) == 0
    shown, folder = capsys.readouterr().out, tmp_path / "runs" / "rates"
    assert "2/2  learning_rate=0.001  validation loss 0.001, " in shown and "best of 2, edge" in shown
    assert "report: runs/rates/report.html" in shown and (folder / "table.csv").exists()
    found = outcomes_in([folder])
    assert [(each.folder.parent.name, each.recipe.fit.learning_rate) for each in found] == [
        ("learning_rate=0.001", 0.001),
        ("learning_rate=0.01", 0.01),
    ]
    before = [(each.folder / "result.json").stat().st_mtime_ns for each in found]
    assert main(["sweep", "rates.toml", "--backend", "here"]) == 0
    assert capsys.readouterr().out == shown
    assert [(each.folder / "result.json").stat().st_mtime_ns for each in found] == before
    assert main(["view", "runs/rates", "--no-browser"]) == 0
    assert capsys.readouterr().out == "runs/rates/report.html\n"


def test_a_training_that_fails_is_said(tmp_path, capsys, by_hand):
    """Its reason is a row, the others are compared, and the exit code is that of a job that failed."""
    (tmp_path / "s.toml").write_text(SWEEP.replace("[0.01, 0.001]", "[1e20, 0.001]"))
    assert main(["sweep", "s.toml", "--backend", "here", "--out", "out"]) == 1
    shown = capsys.readouterr()
    assert "1/2  learning_rate=1e20  failed: training diverged." in shown.out
    assert shown.err == "dualform: 1 of 2 trainings failed; the same command tries them again.\n"
    assert "seed 0: not begun" in shown.out and "not all seeds of 1e+20 are done" in shown.out
    (tmp_path / "s.toml").write_text(SWEEP.replace("[0.01, 0.001]", "[1e20]"))
    assert main(["sweep", "s.toml", "--backend", "here", "--out", "all"]) == 1
    assert "1 of 1 trainings failed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_sweep(tmp_path, capsys, monkeypatch):
    """In processes: every recipe is trained as it would be alone, and one that diverges is a row with its reason."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SWEEP.replace("[0.01, 0.001]", "[0.01, 1e30]"))
    assert main(["sweep", "s.toml", "--out", "out"]) == 1
    shown = capsys.readouterr().out
    assert re.search("learning_rate=1e30  failed: training diverged: .*Lower learning_rate", shown)
    found = {each.recipe.fit.learning_rate: each for each in outcomes_in([tmp_path / "out"])}
    with jax.enable_x64(False):
        alone = found[0.01].recipe.train(tmp_path / "alone")
    result = found[0.01].result
    assert result is not None and result.test == alone["test"] and found[1e30].result is None


def test_a_sweep_that_is_not_understood_costs_nothing(tmp_path, capsys, monkeypatch):
    """The key is named, and no folder is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SWEEP.replace("fit.learning_rate", "fit.rate"))
    assert main(["sweep", "s.toml"]) == 2
    assert "'s.toml' has a key 'fit.rate', which is none" in capsys.readouterr().err
    assert main(["sweep", "none.toml"]) == 2 and "there is no file 'none.toml'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["s.toml"]


def test_compare_shows_a_table_wider_than_the_terminal(tmp_path, capsys, monkeypatch):
    """Nothing is cut away, each group is one line, and the page and the event files are where they were asked for."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        write_run(tmp_path / "runs" / f"a [{seed}]", seed=seed, test=accuracies(test=0.5 + seed / 4))
    write_run(tmp_path / "runs" / "b", mixer="lstm", validation=0.75)
    assert main(["compare", "runs", "--out", "page.html", "--tensorboard", "board"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert (
        shown[0].split()
        == "mixers seeds parameters steps best step validation loss test accuracy tokens/s status".split()
    )
    assert shown[1].split() == "gla 2 1,234 40 30 0.5 ± 0 (0.5) 0.625 ± 1.6 (0.5) 5,000 2 done".split()
    assert shown[2].split() == "lstm 1 1,234 40 30 0.75 0.5 5,000 1 done".split()
    assert shown[-1] == "report: page.html" and "<svg" in (tmp_path / "page.html").read_text()
    assert sorted(path.parent.name for path in (tmp_path / "board").rglob("*tfevents*")) == ["a [0]", "a [1]", "b"]
    assert main(["compare", "runs/b", "--by", "loss", "--tensorboard", "one"]) == 0
    assert "test loss" in capsys.readouterr().out and [path.name for path in (tmp_path / "one").iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "nothing"], "there is no folder 'nothing'. Check the path."),
        (["compare", "."], "'.' holds no training: there is no run.toml in it or below it"),
        (["compare"], "there is nothing to compare; give folders of trainings"),
        (["compare", "run", "--by", "acc"], "no test has a score 'acc'; there are loss, accuracy"),
        (["compare", "run", "run", "copied"], "are the same training, of seed 0"),
        (["compare", "run", "--out", "run"], "'run' is a folder. Give a file"),
        (["compare", "run", "--tensorboard", "run/run.toml"], "'run/run.toml' is a file. Give a folder"),
    ],
)
def test_mistakes_cost_nothing(arguments, said, tmp_path, capsys, monkeypatch):
    """A sentence, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    if "run" in arguments:
        write_run(tmp_path / "run")
        write_run(tmp_path / "copied")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2 and said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_view_of_a_training_is_of_now(tmp_path, capsys):
    """The report is made where there is none, and anew where the training has gone on since."""
    run = write_run(tmp_path / "run", done=False, losses=(2.0,))
    view = ["view", str(run), "--no-browser"]
    assert main(view) == 0 and "Step 10 of 40" in (run / "report.html").read_text()
    made = (run / "report.html").stat().st_mtime_ns
    os.utime(run / "metrics.jsonl", ns=(made - 1, made - 1))
    assert main(view) == 0 and (run / "report.html").stat().st_mtime_ns == made
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text() * 2)
    os.utime(run / "metrics.jsonl", ns=(made + 10**9, made + 10**9))
    assert main(view) == 0 and (run / "report.html").stat().st_mtime_ns != made
    assert capsys.readouterr().out == f"{run / 'report.html'}\n" * 3
