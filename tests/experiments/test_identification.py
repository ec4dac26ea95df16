"""The main job as a whole: a function of its config, whatever interrupts it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from dualform.errors import InputError
from dualform.experiments.identification import array_sizes, identify, preset, recipe_of_the_paper

COMMAND = [sys.executable, "-m", "dualform", "discover", "--teacher", "gaussian", "--d", "2", "--n", "10", "--m", "10"]
COMMAND += ["--steps", "1500", "--out"]


def result(folder: Path) -> dict:
    """The result without the one number that is a clock."""
    found = json.loads((folder / "result.json").read_text())
    found.pop("seconds")
    return found


def killed_until_done(folder: Path, kills: int, most: float, seed: int) -> int:
    """Start the job, kill it at random moments, then let it end; how often it was killed."""
    rng, done = random.Random(seed), 0
    for _ in range(kills):
        process = subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.5, 0.6 * most))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
    subprocess.run([*COMMAND, str(folder)], check=True, stdout=subprocess.DEVNULL)
    return done


def unbroken(folder: Path) -> float:
    begin = time.monotonic()
    subprocess.run([*COMMAND, str(folder)], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_at_any_moment_changes_nothing(kills, tmp_path):
    """Killed at random moments, the same command ends with the same result, weights and metrics, to the bit."""
    seconds = unbroken(tmp_path / "whole")
    assert killed_until_done(tmp_path / "killed", kills, seconds, seed=kills) >= 1
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    for name in ("student.safetensors", "weights.safetensors", "recovered.safetensors", "metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_interrupt_ends_cleanly_and_goes_on(tmp_path):
    """Ctrl-C once ends with exit code 130 and says how to go on; the same command then finishes."""
    folder = tmp_path / "run"
    process = subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (folder / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130 and "goes on from" in error and "Traceback" not in error
    assert not (folder / "result.json").exists()
    subprocess.run([*COMMAND, str(folder)], check=True, stdout=subprocess.DEVNULL)
    assert result(folder)["verdict"]


def test_too_few_units_are_not_identified(tmp_path):
    """A student too small for the construction gets an honest no."""
    config = replace(preset("quick"), teacher="gaussian", d=3, n=5, m=4, rounds=1)
    config = replace(config, fit=replace(config.fit, steps=500))
    with jax.enable_x64(False):
        found = identify(config, tmp_path / "run")
    assert found["verdict"] == "not identified" and found["relative_loss"] > 1e-4


def test_a_rank_deficient_teacher_gives_fewer_units(tmp_path):
    """W_V of rank 1 at d = 2: 2 memory forms instead of 3."""
    config = replace(preset("quick"), teacher="gaussian", d=2, rank=1, n=10, m=10)
    with jax.enable_x64(False):
        found = identify(config, tmp_path / "run")
    assert found["verdict"] == "identified", found["reasons"]
    assert (found["memory_units"], found["forget_units"], found["readout_units"]) == (2, 2, 2)


def test_the_papers_recipe_has_none_of_our_levers():
    """Weight decay 1e-4 all along, 1e-3 to 1e-6, no warm-up, no clipping, no cutting."""
    plain = recipe_of_the_paper(preset("paper"))
    assert (plain.fit.learning_rate, plain.fit.final_learning_rate) == (1e-3, 1e-6)
    assert plain.fit.weight_decay == plain.fit.final_weight_decay == 1e-4
    assert plain.fit.warmup == 0 and plain.shrink == 0 and plain.fit.decay_rate == 1
    assert plain.fit.steps == preset("paper").fit.steps


def test_array_sizes():
    """Few sizes, the largest what the student began with."""
    assert array_sizes(100, 4) == (24, 48, 100) and array_sizes(8, 4) == (8,)


def test_unknown_teacher(tmp_path):
    """A teacher that is not there leaves no folder behind."""
    with pytest.raises(InputError, match="no teacher"):
        identify(replace(preset("default"), teacher="nowhere.safetensors"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
