"""`dualform train` and `dualform tasks`: what is asked for is what the folder says, and mistakes cost nothing."""

import json
import tomllib

import jax
import pytest

from dualform import tasks
from dualform.cli import main
from dualform.commands.train import key_and_value
from dualform.errors import InputError
from dualform.tasks import registration

SMALL = [
    *("selective-copy", "--mixer", "min_gru", "--width", "8", "--layers", "1", "--steps", "4", "--batch", "4"),
    *("--set", "settings.time=6", "settings.tokens=2", "settings.symbols=3", "settings.held=8", "model.mlp=none"),
]


def test_a_training_from_the_command_line(tmp_path, capsys):
    """Its run.toml says what was asked for, repeats it to the same numbers, and a finished one is shown again."""
    folder, other = tmp_path / "run", tmp_path / "again"
    assert main(["train", *SMALL, "--out", str(folder)]) == 0
    shown = capsys.readouterr().out
    told, result = tomllib.loads((folder / "run.toml").read_text()), json.loads((folder / "result.json").read_text())
    assert told["settings"] == {"time": 6, "tokens": 2, "symbols": 3, "held": 8, "batch": 4}
    assert told["model"]["mixers"] == ["min_gru"] and told["fit"]["steps"] == 4 and told["seed"] == 0
    assert f"{result['test']['test']['accuracy']:.4g}" in shown and "dualform train --config" in shown
    assert main(["train", "--config", str(folder / "run.toml"), "--out", str(other)]) == 0
    assert json.loads((other / "result.json").read_text())["test"] == result["test"]
    capsys.readouterr()
    assert main(["train", *SMALL, "--out", str(folder)]) == 0
    assert json.loads((folder / "result.json").read_text()) == result


@pytest.mark.slow
def test_what_is_said_goes_before_the_config(tmp_path, capsys):
    """An option before the file; several seeds are a folder each, and a row each."""
    (tmp_path / "run.toml").write_text(
        'task = "none"\nseed = 5\n[fit]\nsteps = 50\nrematerialised = true\n[model]\nwidth = 9\n'
    )
    arguments = [*SMALL, "--config", str(tmp_path / "run.toml"), "--seeds", "2", "--out", str(tmp_path / "runs")]
    assert main(["train", *arguments, "--no-rematerialise"]) == 0
    for seed in (5, 6):
        told = tomllib.loads((tmp_path / "runs" / f"seed-{seed}" / "run.toml").read_text())
        assert (told["seed"], told["fit"]["steps"], told["model"]["width"]) == (seed, 4, 8)
        assert "rematerialised" not in told["fit"]
    assert "test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["selective-copy", "--set", "settings.tim=3"], "SelectiveCopy has no setting 'tim'"),
        (["selective-copy", "--set", "settings.time"], "--set settings.time: give KEY=VALUE"),
        (["selective-copy", "--set", "fit.step=3"], "the command has a key 'fit.step', which is none"),
        (["selective-copy", "--set", "task.time=3"], "--set task.time: task is no table"),
        (["selective-copy", "--mixer", "gl"], "there is no mixer 'gl'"),
        (["nothing"], "there is no task 'nothing'"),
        (["text"], "this task reads a file of text; give one by --data"),
        ([], "the command does not say its task"),
        (
            ["selective-copy", "--host", "0", "--coordinator", "a:1"],
            "--host and --coordinator are of several hosts; give --hosts",
        ),
        (
            ["selective-copy", "--hosts", "2", "--coordinator", "a:1"],
            "this is host None of 2; give its number, from 0 to 1",
        ),
        (["selective-copy", "--hosts", "2", "--host", "1"], "the coordinator is None; give the address of host 0"),
        (["selective-copy", "--devices", "99"], "devices is 99, and there are 1. Give no more than there are"),
        (["selective-copy", "--devices", "0"], "devices is 0; give a whole number of at least 1"),
        (["selective-copy", "--seeds", "0"], "--seeds 0: at least one seed is needed"),
        (["selective-copy", "--set", "seed=abc"], "the command says seed = 'abc'; it must be a whole number"),
        (["selective-copy", "--width", "7", "--set", "model.options.heads=2"], "heads"),
        (["selective-copy", "--set", "model.options.heads=true"], "heads is True; it must be a whole number"),
        (
            ["selective-copy", "--mixer", "mamba", "--set", "model.options.negative=False"],
            "negative is 'False'; it must be true or false",
        ),
    ],
)
def test_mistakes_leave_no_folder(arguments, said, tmp_path, monkeypatch, capsys):
    """Each is said in a sentence, before anything is written."""
    monkeypatch.chdir(tmp_path)
    jax.devices()  # made by now, whichever test is the first: --devices cannot make others
    assert main(["train", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.parametrize(("said", "missing"), [("", "d_in"), ("d_in = 2", "d_out")])
def test_a_task_that_does_not_say_what_its_inputs_are(said, missing, tmp_path, monkeypatch, capsys):
    """Neither tokens nor vectors, or vectors whose answer has no width: it is told what to give, and no folder is made."""
    monkeypatch.setattr(registration, "_TASKS", {})
    code = """
import jax.numpy as jnp
import jax.random as jr
from dualform.tasks import DrawnTask, register, scores


@register("wordless")
class Wordless(DrawnTask):
    judge = staticmethod(scores.of_numbers)

    def sequence(self, key):
        x = jr.normal(key, (self.time, 2), jnp.float32)
        return x, x
"""
    (tmp_path / "mine.py").write_text(code.replace("judge", f"{said}\n    judge"))
    assert main(["train", str(tmp_path / "mine.py"), "--out", str(tmp_path / "run")]) == 2
    assert f"Wordless says neither its vocabulary nor its {missing}. Where its inputs" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_values_are_read_as_toml_or_as_words():
    """Numbers, lists and truths are what they are; all else is a word."""
    assert key_and_value("a.b=[1, 2]") == ("a.b", [1, 2]) and key_and_value("a=1e-3") == ("a", 0.001)
    assert key_and_value("mlp=none") == ("mlp", "none") and key_and_value("a=true") == ("a", True)
    with pytest.raises(InputError, match="give KEY=VALUE"):
        key_and_value("=3")


def test_every_task_is_listed_and_shown(capsys, monkeypatch):
    """In the list by its name; alone with its settings and where its data are from."""
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["tasks"]) == 0
    shown = capsys.readouterr().out
    for name, task in tasks.known().items():
        assert name in shown
        assert main(["tasks", name]) == 0
        alone = capsys.readouterr().out
        assert "settings" in alone and (task.data or "nothing is read").split()[0] in alone
    assert main(["tasks", "nothing"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get"], "which data? There are digits"),
        (["get", "nothing"], "nothing"),
        (["copy", "digits"], "dualform tasks shows one task; leave digits out"),
        (["copy", "--archive", "x.whl"], "--archive is of dualform tasks get NAME"),
        (["get", "all", "--archive", "x.whl"], "--archive is of one data set"),
        (["get", "digits", "--archive", "x.whl"], "x.whl"),
    ],
)
def test_bringing_data_says_what_is_missing(arguments, said, capsys, tmp_path, monkeypatch):
    """Which data there are, and what cannot be had; nothing is downloaded unless it is asked for."""
    monkeypatch.setenv("DUALFORM_CACHE", str(tmp_path))
    assert main(["tasks", *arguments]) == 2
    assert said in capsys.readouterr().err
