"""The main job as a whole: a function of its config, whatever interrupts it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.checkpoints import load_weights
from dualform.discover import measure
from dualform.errors import InputError
from dualform.experiments.gated_rnn import identification
from dualform.experiments.gated_rnn.identification import (
    Identification,
    array_sizes,
    data_of,
    identify,
    loss_by_position,
    preset,
    recipe_of_the_paper,
)
from dualform.mixers import GatedRNN, LinearAttention
from dualform.reports import discovery_page
from dualform.tasks import Teacher
from dualform.training import SecondOrder, batched
from tests.optimised import optimised
from tests.tiers import tiers

COMMAND = [sys.executable, "-m", "dualform", "discover", "--teacher", "gaussian", "--d", "2", "--n", "10", "--m", "10"]
COMMAND += ["--steps", "1500", "--out"]

TRY = """
import sys
from dualform.alone import alone
from dualform.errors import FileError
try:
    with alone(sys.argv[1]):
        print("nobody is there")
except FileError as error:
    print(error)
"""
"""A process that wants a folder for itself, and says what it met."""


def result(folder: Path) -> dict:
    """The result without the numbers that are clocks."""
    found = json.loads((folder / "result.json").read_text())
    del found["seconds"], found["training_seconds"]
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


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 20])
def test_kill_at_any_moment_changes_nothing(kills, tmp_path):
    """Killed at random moments, the same command ends with the same result, weights and metrics, to the bit."""
    seconds = unbroken(tmp_path / "whole")
    assert killed_until_done(tmp_path / "killed", kills, seconds, seed=kills) >= 1
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    for name in ("student.safetensors", "weights.safetensors", "recovered.safetensors", "metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
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


def tokens_of(x) -> set[bytes]:
    """The distinct tokens of some sequences."""
    return {token.tobytes() for token in np.asarray(x, np.float64).reshape(-1, np.shape(x)[-1])}


def teacher_on(shape: tuple[int, int], d: int = 2) -> Teacher:
    """A teacher on sequences of its own, no token of which comes twice."""
    keys = jr.split(jr.key(0))
    weights = jr.normal(keys[0], (3, d, d), jnp.float32)
    return Teacher(LinearAttention(*weights), jr.normal(keys[1], (*shape, d), jnp.float32), "own", "a test")


@pytest.mark.parametrize("shape", [(1, 50), (2, 20), (3, 10), (5, 57)])
def test_train_ablate_and_test_have_no_token_in_common(shape):
    """Whatever a teacher brings is split into three parts, and each is whole."""
    config = replace(preset("quick"), time=10, batch=512)
    data = data_of(teacher_on(shape), config)
    parts = [tokens_of(data.train.teacher.inputs), tokens_of(data.ablate), tokens_of(data.test)]
    assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert len(parts[0]) >= 0.3 * shape[0] * shape[1]


def test_drawn_sequences_of_ablations_and_of_the_test_are_two_draws():
    """Of a teacher that brings no inputs, too: ablations and the test share no token with one another."""
    data = data_of(Teacher.gaussian(2, key=jr.key(0)), replace(preset("quick"), time=10, batch=16))
    parts = [tokens_of(data.ablate), tokens_of(data.test)]
    assert all(parts) and not parts[0] & parts[1]


@pytest.mark.parametrize("shape", [(1, 49), (2, 19), (4, 9)])
def test_too_few_inputs_are_refused(shape):
    """Where one of the three parts would be shorter than a window, the message says what to give."""
    with pytest.raises(InputError, match="too few to train on some"):
        data_of(teacher_on(shape), replace(preset("quick"), time=10))


@pytest.fixture(scope="module")
def short() -> Identification:
    """A run of seconds: 40 steps at d = 2."""
    quick = preset("quick")
    fit = replace(quick.fit, steps=40, warmup=4, chunk=20)
    second = SecondOrder(iterations=2)
    return replace(quick, teacher="gaussian", d=2, n=6, m=6, time=10, fit=fit, second_order=second, horizon=16)


@pytest.mark.parametrize("own", tiers([True, False], True))
def test_evidence_is_measured_on_tokens_that_training_never_saw(own, short, tmp_path, monkeypatch):
    """The protocol, from the outside: what training draws, what ablations and evidence are made on, what is reported.

    And the headline is of training alone: were the polished network another altogether, nothing at the top would change.
    """
    seen, judged, results = [], [], []
    fit, discover = identification.fit, identification.discover

    def watched_fit(model, sample, config, **rest):
        draw = jax.jit(lambda step: sample(jr.fold_in(jr.key(config.seed), step))[0])
        seen.extend(draw(step) for step in range(config.steps))
        return fit(model, sample, config, **rest)

    def watched_discover(rnn, attention, inputs, **rest):
        judged.append((rnn, inputs, rest["test"]))
        return discover(rnn, attention, inputs, **rest)

    monkeypatch.setattr(identification, "fit", watched_fit)
    monkeypatch.setattr(identification, "discover", watched_discover)
    config = short
    if own:
        teacher_on((4, 40)).save(tmp_path / "own.safetensors")
        config = replace(short, teacher=str(tmp_path / "own.safetensors"))
    for name in ("run", "otherwise polished"):
        with jax.enable_x64(False):
            results.append(identify(config, tmp_path / name))
        other = lambda *args, **rest: SimpleNamespace(rnn=GatedRNN.make(2, key=jr.key(9), n=3, m=3), done=[])
        monkeypatch.setattr(identification, "polish", other)
    first, second = results
    top = set(first) - {"polished", "seconds", "training_seconds"}
    assert {name: first[name] for name in top} == {name: second[name] for name in top}
    assert first["polished"] != second["polished"]
    pruned, moved = first["polished"]["stages"]
    assert (pruned["name"], moved["name"]) == ("prune", "polish")
    assert pruned["relative_loss"] <= 2 * first["trained"]["relative_loss"] and moved["thrown_away"] > 0
    assert pruned["hidden_units"] <= len(load_weights(tmp_path / "run" / "student.safetensors").w_m_in)
    assert moved["hidden_units"] == pruned["hidden_units"], "polishing neither adds nor takes away"
    (trained, ablate, test), (polished, *others) = judged[:2]
    assert all(np.array_equal(a, b) for a, b in zip(others, (ablate, test), strict=True))
    drawn = set().union(*map(tokens_of, seen))
    assert len(drawn) >= 50 and not drawn & tokens_of(ablate) and not drawn & tokens_of(test)
    assert not tokens_of(ablate) & tokens_of(test)
    student = load_weights(tmp_path / "run" / "student.safetensors")
    teacher = Teacher.load(tmp_path / "run" / "teacher.safetensors")
    assert isinstance(student, GatedRNN)
    for network, name in ((student, "trained"), (trained, "trained"), (polished, "polished")):
        evidence = measure(network, teacher.attention, test)
        assert first[name]["relative_loss"] == pytest.approx(evidence.relative_loss, rel=1e-9), name
        assert first[name]["polynomial_distance"] == pytest.approx(evidence.polynomial_distance, rel=1e-9), name
    shown = []
    form, saliency = discovery_page._form, discovery_page.saliency
    monkeypatch.setattr(discovery_page, "_form", lambda mixer, x: shown.append(x) or form(mixer, x))
    monkeypatch.setattr(discovery_page, "saliency", lambda rnn, x: shown.append(x) or saliency(rnn, x))
    with jax.enable_x64(False):
        assert "a held-out sequence of" in discovery_page.discovery_page(tmp_path / "run")
    assert len(shown) == 4 and all(tokens_of(x) <= tokens_of(test) for x in shown), "the page shows other tokens"


def test_loss_by_position_is_the_mean_of_relative_losses():
    """Every position counts alike, whatever its power."""
    rnn = GatedRNN.make(2, key=jr.key(0), n=3, m=3, dtype=jnp.float32)
    x, y = jr.normal(jr.key(1), (5, 4, 2), jnp.float32), jr.normal(jr.key(2), (5, 4, 2), jnp.float32)
    powers = np.array([0.5, 1.0, 2.0, 40.0])
    error = np.asarray(batched(rnn, x) - y, np.float64)
    expected = np.mean([np.mean(error[:, t] ** 2) / powers[t] for t in range(4)])
    assert float(loss_by_position(powers)(rnn, x, y)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stage", tiers(["train", "polish"], "polish"))
def test_no_other_process_works_in_the_folder_at_any_stage(stage, tmp_path):
    """The folder is held to the end, and not only while the first order trains."""
    held = []

    def try_it(moment):
        if moment.stage == stage and not held:
            held.append(
                subprocess.run([sys.executable, "-c", TRY, str(tmp_path)], capture_output=True, text=True).stdout
            )

    fit = replace(Identification().fit, steps=20, chunk=10, warmup=5)
    config = Identification("gaussian", d=2, n=4, m=4, fit=fit, second_order=SecondOrder(iterations=1))
    identify(config, tmp_path, on_progress=try_it)
    assert "at work" in held[0]


def test_too_few_units_are_not_identified(tmp_path):
    """A student too small for the construction gets an honest no, polished or not."""
    quick = preset("quick")
    config = replace(quick, teacher="gaussian", d=3, n=5, m=4, fit=replace(quick.fit, steps=500))
    with jax.enable_x64(False):
        found = identify(config, tmp_path / "run")
    assert found["verdict"] == found["polished"]["verdict"] == "not identified"
    assert min(found["relative_loss"], found["polished"]["relative_loss"]) > 1e-4


@pytest.mark.slow
def test_a_rank_deficient_teacher_gives_fewer_units(tmp_path):
    """W_V of rank 1 at d = 2: 2 memory forms instead of 3, by gradient descent and its reduction."""
    paper = preset("paper")
    fit = replace(paper.fit, steps=15_000, weight_decay=0.1)
    config = replace(paper, d=2, rank=1, n=24, m=24, fit=fit, horizon=64)
    found = first_identified(config, lambda found: True, tmp_path)
    assert (found["memory_units"], found["forget_units"], found["readout_units"]) == (2, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "loss", "distance"), [("default", 1e-6, 1e-3), ("paper", 5e-8, 4e-4)])
def test_gradient_descent_alone_finds_the_attention(name, loss, distance, tmp_path):
    """The presets end to end: AdamW and nothing else ends at the paper's numbers, and its reduction is identified."""
    reached = lambda trained: trained["relative_loss"] <= loss and trained["polynomial_distance"] <= distance
    reduced = first_identified(preset(name), lambda found: reached(found["trained"]), tmp_path)["reduced"]
    assert reduced["verdict"] == "identified"
    assert reduced["other_units"] == 0 and reduced["polynomial_distance"] <= distance
    assert (reduced["memory_units"], reduced["forget_units"]) == (10, 4)


def first_identified(config: Identification, reached: Callable[[dict], bool], folder: Path) -> dict:
    """The result of the first of three seeds that is identified and has reached what is asked.

    That it can be reached is all that this shows. How often it is, of ten seeds, the ablation and Table 1 measure, and their
    pages tell; which seeds miss differs between machines, since a training amplifies the last bit of its sums.
    """
    told = []
    for seed in range(3):
        found = optimised(identify, replace(config, seed=seed), folder / f"seed {seed}")
        if found["verdict"] == "identified" and reached(found):
            return found
        told.append((found["verdict"], found["reasons"], found["trained"]["relative_loss"]))
    raise AssertionError(f"none of three seeds is identified and has reached what is asked: {told}")


def test_the_papers_recipe_has_none_of_our_levers():
    """Weight decay 1e-4 all along, 1e-3 to 1e-6, no warm-up, no clipping, no cutting, the plain mean of squares."""
    plain = recipe_of_the_paper(preset("paper"))
    assert (plain.fit.learning_rate, plain.fit.final_learning_rate) == (1e-3, 1e-6)
    assert plain.fit.weight_decay == plain.fit.final_weight_decay == 1e-4
    assert plain.fit.warmup == 0 and plain.shrink == 0 and plain.fit.decay_rate == 1 and not plain.by_position
    assert plain.fit.steps == preset("paper").fit.steps


def test_array_sizes():
    """Few sizes, the largest what the student began with, and no knowledge of what it must end with."""
    assert array_sizes(100) == (5, 7, 9, 13, 18, 25, 36, 50, 71, 100) and array_sizes(3) == (3,)


def test_unknown_teacher(tmp_path):
    """A teacher that is not there leaves no folder behind."""
    with pytest.raises(InputError, match="no teacher"):
        identify(replace(preset("default"), teacher="nowhere.safetensors"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
