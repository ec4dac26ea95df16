"""The command line: what a person types, what they see, and what a mistake gets."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import dualform
from dualform.checkpoints import load_weights
from dualform.cli import ABOUT, COMMANDS, main
from dualform.mixers import GatedRNN, registry
from tests.tiers import tiers

TINY = ["--teacher", "gaussian", "--d", "2", "--n", "10", "--m", "10", "--steps", "1000"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Runs go to ./runs; float32 is a user's default."""
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of the main job on a teacher of width 2."""
    folder = tmp_path_factory.mktemp("discover") / "run"
    with jax.enable_x64(False):
        assert main(["discover", *TINY, "--out", str(folder)]) == 0
    return folder


def test_discover_writes_the_run_folder(finished):
    """A finished run has every file that the design names, and a result with every number."""
    names = {path.name for path in finished.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "weights.safetensors", "result.json", "report.html"} <= names
    result = json.loads((finished / "result.json").read_text())
    asked = "verdict reasons relative_loss kv_score q_score polynomial_distance memory_units forget_units other_units"
    assert set(asked.split()) <= set(result)
    assert {"readout_units", "recovered_error", "seconds", "steps"} <= set(result)
    assert result["verdict"] in ("identified", "function only", "not identified") and result["reasons"]


def test_the_headline_is_gradient_descents_alone(finished):
    """1,000 steps of AdamW are too few, and the verdict says so, though the network polished from there is the attention."""
    result = json.loads((finished / "result.json").read_text())
    assert result["verdict"] == result["trained"]["verdict"] == "not identified", result["reasons"]
    assert result["polished"]["verdict"] == "identified" and result["polished"]["relative_loss"] < 1e-12


def test_the_saved_network_is_the_one_that_was_judged(finished):
    """weights.safetensors holds the network that the top of the result counts."""
    network, result = (
        load_weights(finished / "weights.safetensors", GatedRNN),
        json.loads((finished / "result.json").read_text()),
    )
    assert isinstance(network, GatedRNN)
    decay = np.asarray(network.decay)
    counts = int(np.sum(decay >= 0.99)), int(np.sum(decay <= 0.01)), network.readout.shape[1]
    assert counts == (result["memory_units"], result["forget_units"], result["readout_units"])
    assert len(decay) == sum(result[name] for name in ("memory_units", "forget_units", "other_units"))


def test_a_finished_run_is_read_back(finished, capsys):
    """The same command on a finished run shows the same result and trains nothing."""
    before = (finished / "result.json").read_bytes()
    assert main(["discover", *TINY, "--out", str(finished)]) == 0
    assert (finished / "result.json").read_bytes() == before
    assert "identified" in capsys.readouterr().out


def test_another_config_does_not_overwrite_a_run(finished, capsys):
    """A run folder made with other settings is refused, with the setting that differs."""
    before = (finished / "result.json").read_bytes()
    assert main(["discover", *TINY, "--seed", "7", "--out", str(finished)]) == 2
    assert "seed" in capsys.readouterr().err
    assert (finished / "result.json").read_bytes() == before


def test_the_report_stands_alone(finished):
    """One file: no script, nothing from a network, a policy that forbids both, and every picture."""
    page = (finished / "report.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:|#)", page)
    assert page.count("<svg") == 7 and "Not identified" in page


def test_view(finished, capsys):
    """`view` gives the report's path, and makes the report anew where it is gone."""
    (finished / "report.html").unlink()
    assert main(["view", str(finished), "--no-browser"]) == 0
    assert capsys.readouterr().out.strip() == str(finished / "report.html")
    assert (finished / "report.html").exists()


def test_view_of_nothing(tmp_path, capsys):
    """A folder that is no finished run gets a sentence that says what to do."""
    assert main(["view", str(tmp_path / "nothing"), "--no-browser"]) == 2
    assert "dualform discover" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["full", "compact", "low-rank", "side-gated"])
def test_construct(form, capsys):
    """Each form is built, certified and saved."""
    assert main(["construct", "--form", form, "--out", "rnn.safetensors"]) == 0
    shown = capsys.readouterr().out
    assert form.replace("-", "_") in shown and "relative error" in shown
    load_weights("rnn.safetensors")


def test_construct_counts(capsys):
    """The compact form of the embedded head has the paper's counts."""
    assert main(["construct"]) == 0
    shown = capsys.readouterr().out
    for name, value in (("memory units", 10), ("forget units", 4), ("readout units", 10), ("parameters", 474)):
        assert re.search(rf"{name}\W+{value}\b", shown), shown


def test_construct_says_why_it_fell_back(capsys):
    """A teacher without full-rank values gets another exact form, and the reason."""
    assert main(["construct", "--teacher", "gaussian", "--rank", "2"]) == 0
    shown = capsys.readouterr().out
    assert "low_rank" in shown and "asked for compact" in shown


def weights(**changes) -> dict[str, np.ndarray]:
    eye = np.eye(3, dtype=np.float32)
    return {"w_v": eye, "w_k": eye, "w_q": eye, **changes}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (weights(w_v=np.full((3, 3), np.nan, np.float32)), "w_v"),
        (weights(w_k=np.eye(2, dtype=np.float32)), "w_k"),
        ({"w_v": np.eye(3, dtype=np.float32)}, "w_k"),
        (weights(inputs=np.zeros((2, 5, 3), np.float32)), "5"),
        (weights(inputs=np.zeros((2, 50, 4), np.float32)), "4"),
    ],
)
def test_bad_teacher(tensors, message, capsys):
    """A teacher that cannot be used gets one sentence and exit code 2, and no run folder."""
    save_file(tensors, "teacher.safetensors")
    assert main(["discover", "--teacher", "teacher.safetensors", "--steps", "500"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dualform: ") and message in error and "Traceback" not in error
    assert not Path("runs").exists()


@pytest.mark.parametrize("content", [b"", b"not a tensor file at all", b"\xff" * 64])
def test_foreign_teacher_file(content, capsys):
    """A truncated or foreign file gets one sentence and exit code 2."""
    Path("teacher.safetensors").write_bytes(content)
    assert main(["construct", "--teacher", "teacher.safetensors"]) == 2
    assert "teacher.safetensors" in capsys.readouterr().err


def test_unknown_teacher(capsys):
    """A name that is no file lists what is known."""
    assert main(["construct", "--teacher", "nobody"]) == 2
    error = capsys.readouterr().err
    assert "gaussian" in error and "default" in error


@pytest.mark.parametrize(
    "arguments",
    [["discover", "--stepz", "3"], ["construct", "--form", "round"], ["nothing"], ["discover", "--steps", "many"]],
)
def test_wrong_usage(arguments, capsys):
    """A wrong option, value or command exits with 2."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert arguments[-1] in shown.err + shown.out or arguments[-2] in shown.err + shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "steps"),
        (["--n", "0"], "n"),
        (["--d", "0", "--teacher", "gaussian"], "d"),
        (["--rank", "9", "--teacher", "gaussian"], "rank"),
        (["--seeds", "0"], "--seeds"),
        (["--seeds", "2", "--out", "x"], "--out"),
    ],
)
def test_numbers_out_of_range(arguments, message, capsys):
    """A number that makes no sense gets a sentence that names it."""
    assert main(["discover", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_mixers(capsys, monkeypatch):
    """`mixers` lists what is registered, and nothing else."""
    some = {name: registry()[name] for name in ("gated_rnn", "linear_attention")}
    monkeypatch.setattr("dualform.mixers.registry", lambda: some)
    assert main(["mixers"]) == 0
    shown = capsys.readouterr().out
    assert "gated_rnn" in shown and "linear_attention" in shown and "rwkv4" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("width", tiers([80, 160], 80))
def test_the_list_of_mixers_fits_the_terminal(capsys, monkeypatch, width):
    """Every mixer is named whole on a line, with its error; a wide terminal also says where each is from."""
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["mixers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    rows = {line.split()[0]: line for line in lines if line.split() and line.split()[0] in registry()}
    assert set(rows) == set(registry())
    assert all(re.search(r" \de-\d\d\b", row) for row in rows.values())
    assert ("Peng et al. 2023 (arXiv 2305.13048)" in rows["rwkv4"]) == (width == 160)


def test_one_mixer_in_full(capsys, monkeypatch):
    """`mixers NAME` shows equation, arguments, state, forms, source, oracle and error; another name, those there are."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["mixers", "gla"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for said in ("S_t = diag(alpha_t) S_{t-1}", "Arguments: w_q", "Source: Yang et al. 2023", "Oracle: fla's"):
        assert said in shown
    assert re.search(r"\(2, 16, 32\): 1,024 numbers", shown) and re.search(r"outer: .*naive", shown)
    assert re.search(r"frozen nonlinearity", shown) and re.search(r"error +\de-\d\d", shown)
    assert main(["mixers", "transformer"]) == 2
    assert "there is no mixer 'transformer'; there are aaren, " in capsys.readouterr().err


def test_the_command_is_installed():
    """`python -m dualform` answers, without a teacher and without training."""
    done = subprocess.run([sys.executable, "-m", "dualform", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "discover" in done.stdout


def test_without_a_command_it_shows_what_there_is(capsys):
    """One line for each command, the first sentence of its help; and the version."""
    assert main([]) == 0
    about, *lines = capsys.readouterr().out.splitlines()
    assert about == ABOUT and [line.split()[0] for line in lines[1:-2]] == sorted(COMMANDS)
    assert all(len(line) < 140 and line.endswith(".") for line in lines[1:-2])
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dualform {dualform.__version__}\n"
